"""Content encodings of request bodies. Replies are never encoded.

Rule: what comes out is bounded before it is made: a small body that would inflate to a huge one costs `max_bytes`.
"""

from __future__ import annotations

import zlib

from edge.domain.errors import InvalidInput, TooLarge

_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
_RAW = -zlib.MAX_WBITS
_GZIP_MAGIC = b"\x1f\x8b"


class CorruptBody(InvalidInput):
    """The body is not what its Content-Encoding says."""


def inflate(body: bytes, content_encoding: str, max_bytes: int) -> bytes:
    """The body without its gzip or deflate encoding; as it is under any other, as TensorFlow Serving takes it.

    max_bytes bounds the result. Raises CorruptBody, TooLarge.
    """
    encoding = content_encoding.lower()
    if "gzip" in encoding:
        return _members(body, max_bytes)
    if "deflate" in encoding:
        # RFC 9110 asks for zlib's wrapping; some clients leave it out.
        try:
            return _one(body, _GZIP_OR_ZLIB, max_bytes)[0]
        except CorruptBody:
            return _one(body, _RAW, max_bytes)[0]
    return body


def _members(body: bytes, max_bytes: int) -> bytes:
    """gzip files may follow each other (RFC 1952, section 2.2)."""
    parts: list[bytes] = []
    while True:
        part, body = _one(body, _GZIP_OR_ZLIB, max_bytes - sum(map(len, parts)))
        parts.append(part)
        if not body.startswith(_GZIP_MAGIC):
            return b"".join(parts)


def _one(body: bytes, wbits: int, max_bytes: int) -> tuple[bytes, bytes]:
    """What it stands for, and what follows it."""
    stream = zlib.decompressobj(wbits)
    try:
        inflated = stream.decompress(body, max_bytes + 1)
        if len(inflated) > max_bytes:
            raise TooLarge(f"want at most {max_bytes} bytes once inflated, got more")
    except zlib.error as error:
        raise CorruptBody(f"want a body in its Content-Encoding, got none ({error})") from None
    if not stream.eof:
        raise CorruptBody(f"want a whole body in its Content-Encoding, got {len(body)} bytes of one")
    return inflated, stream.unused_data
