"""Content encodings of bodies: those of requests are undone, and replies are compressed where that was asked for.

Rule 1: what a request's comes to is bounded before it is made: a small body that would inflate to a huge one costs `max_bytes`.
Rule 2: it is claimed piece by piece, so that many such bodies at once are bounded together.
Rule 3: time goes with the sizes of what comes in and out, however the stream is cut up.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import lru_cache
from typing import Literal

from edge.domain.errors import InvalidInput, TooLarge

_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
_RAW = -zlib.MAX_WBITS
_GZIP_MAGIC = b"\x1f\x8b"
_STEP_BYTES = 64 << 10  # of input that is looked at together
_PIECE_BYTES = 1 << 20  # of output that is made together
MAX_MEMBERS = 4096  # gzip files in one body: as many as 64 MiB in blocks of 64 KiB have, four times over

MIN_COMPRESSED_BYTES = 1_024  # a smaller reply travels in one packet as it is
COMPRESSION_LEVEL = 1  # the fastest: the processor is dearer here than the wire
_WINDOW = {"gzip": 31, "deflate": 15}  # zlib's numbers for gzip's and its own frame; HTTP calls the latter deflate

Claim = Callable[[int], None]
Encoding = Literal["gzip", "deflate"]


class CorruptBody(InvalidInput):
    """The body is not what its Content-Encoding says."""


def free(_: int) -> None:
    """A claim where nobody counts."""


def inflate(body: bytes, content_encoding: str, max_bytes: int, claim: Claim = free) -> bytes:
    """The body without its gzip or deflate encoding; as it is under any other, as TensorFlow Serving takes it.

    max_bytes bounds the result; `claim` is told of bytes before they are kept. Raises CorruptBody, TooLarge, and
    what `claim` raises.
    """
    encoding = content_encoding.lower()
    if "gzip" in encoding:
        return _members(body, max_bytes, claim)
    if "deflate" in encoding:
        # RFC 9110 asks for zlib's wrapping; some clients leave it out.
        try:
            return _one(body, 0, _GZIP_OR_ZLIB, max_bytes, claim)[0]
        except CorruptBody:
            return _one(body, 0, _RAW, max_bytes, claim)[0]
    return body


def _members(body: bytes, max_bytes: int, claim: Claim) -> bytes:
    """gzip files may follow each other (RFC 1952, section 2.2)."""
    parts: list[bytes] = []
    size = at = 0
    for _ in range(MAX_MEMBERS):
        part, at = _one(body, at, _GZIP_OR_ZLIB, max_bytes - size, claim)
        parts.append(part)
        size += len(part)
        if not body.startswith(_GZIP_MAGIC, at):
            return b"".join(parts)
    raise TooLarge(f"want at most {MAX_MEMBERS} gzip members in a body, got more")


def _one(body: bytes, at: int, wbits: int, max_bytes: int, claim: Claim) -> tuple[bytes, int]:
    """What the stream that begins at `at` stands for, and where it ends."""
    stream = zlib.decompressobj(wbits)
    pieces: list[bytes] = []
    size = 0
    while not stream.eof:
        data = stream.unconsumed_tail
        if not data:
            data = body[at : at + _STEP_BYTES]
            at += len(data)
        try:
            piece = stream.decompress(data, min(_PIECE_BYTES, max_bytes - size + 1))
        except zlib.error as error:
            raise CorruptBody(f"want a body in its Content-Encoding, got none ({error})") from None
        if not (data or piece or stream.eof):
            raise CorruptBody(f"want a whole body in its Content-Encoding, got {len(body)} bytes of one")
        size += len(piece)
        if size > max_bytes:
            raise TooLarge(f"want at most {max_bytes} bytes once inflated, got more")
        claim(len(piece))
        pieces.append(piece)
    return b"".join(pieces), at - len(stream.unused_data)


@lru_cache(maxsize=64)
def negotiate(accept_encoding: str) -> Encoding | None:
    """What an Accept-Encoding header asks for: the first of those that weigh most; None for the body as it is."""
    best, best_weight = "identity", 0.0
    for offer in accept_encoding.lower().split(","):
        name, _, weight = offer.replace(" ", "").partition(";q=")
        if name in ("gzip", "deflate", "identity") and (found := _weight(weight)) > best_weight:
            best, best_weight = name, found
    return "gzip" if best == "gzip" else "deflate" if best == "deflate" else None


def _weight(text: str) -> float:
    """1 where nothing is said, 0 for what is no number."""
    try:
        return float(text or 1)
    except ValueError:
        return 0.0


def compress(headers: dict[str, str], body: bytes, encoding: Encoding | None) -> tuple[dict[str, str], bytes]:
    """The reply, compressed if that was asked for and is worth it. Lengths of JSON are those before."""
    if encoding is None or len(body) < MIN_COMPRESSED_BYTES:
        return headers, body
    machine = zlib.compressobj(COMPRESSION_LEVEL, zlib.DEFLATED, _WINDOW[encoding])
    return {**headers, "Content-Encoding": encoding}, machine.compress(body) + machine.flush()
