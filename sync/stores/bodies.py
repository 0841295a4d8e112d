"""Bodies of small objects, and how far the tags that come with them can be trusted.

Rule 1: no more bytes than were asked for, neither as they come nor unpacked. Rule 2: what is packed ends where its body ends.

Source: RFC 9110, sections 8.4 (codings) and 8.8 (validators); RFC 1952 (gzip)
"""

from __future__ import annotations

import re
import zlib
from collections.abc import AsyncIterator, Mapping
from email.utils import parsedate_to_datetime

from sync.domain.errors import Refused

GZIP = "gzip"
PLAIN = ("", "identity", "aws-chunked")
"""The last is how some buckets call what was sent in chunks."""
GZIP_WINDOW = 16 + zlib.MAX_WBITS
SETTLED_S = 60.0
_TAG = re.compile(r"[\x20-\x7e]{1,1024}\Z", re.ASCII)


async def whole(what: str, encoding: str, chunks: AsyncIterator[bytes], *, max_bytes: int) -> bytes:
    """The body, unpacked. what: it is, for a person. Raises Refused for more than max_bytes, or what cannot be unpacked."""
    encoding = encoding.strip().lower()
    if encoding == GZIP:
        return await _unpacked(what, chunks, max_bytes)
    if encoding not in PLAIN:
        raise Refused(f"{what}: want the bytes as they are, or gzip, got {encoding[:40]}")
    data = bytearray()
    async for chunk in chunks:
        data += chunk
        _bound(what, len(data), max_bytes)
    return bytes(data)


async def _unpacked(what: str, chunks: AsyncIterator[bytes], max_bytes: int) -> bytes:
    unpack, data, came = zlib.decompressobj(GZIP_WINDOW), bytearray(), 0
    try:
        async for chunk in chunks:
            came += len(chunk)
            data += unpack.decompress(chunk, max_bytes + 1 - len(data))
            _bound(what, max(len(data), came - OVERHEAD_BYTES), max_bytes)
    except zlib.error as error:
        raise Refused(f"{what}: not gzip: {error}") from None
    if not unpack.eof or unpack.unused_data:
        raise Refused(f"{what}: want gzip that ends with its body")
    return bytes(data)


OVERHEAD_BYTES = 1024
"""So much longer may packed bytes be than what is in them: a header, a name, a sum."""


def _bound(what: str, size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise Refused(f"{what}: want at most {max_bytes} bytes, got {size} or more")


def tag_of(headers: Mapping[str, str]) -> str:
    """One that can be kept, and told back in a request; "" for none."""
    tag = headers.get("ETag", "")
    return tag if _TAG.match(tag) else ""


def settled(headers: Mapping[str, str]) -> bool:
    """Whether the object was old enough, when it was answered, for its tag to name these bytes and no others.

    Web servers make the tag of a file from its size and the second in which it was written: of two timestamps of one
    second, which are of one size, whoever has the first would never hear of the second.
    """
    try:
        written = parsedate_to_datetime(headers["Last-Modified"])
        answered = parsedate_to_datetime(headers["Date"])
        return (answered - written).total_seconds() >= SETTLED_S
    except (KeyError, ValueError, TypeError, OverflowError):
        return "Last-Modified" not in headers
