"""That there is something new in the store, as a message says it: a hint, which nobody signs, and which can cause a poll and nothing
else.

`generation`: the number of the store's timestamp, `digest`: of its bytes. Members that are not known are ignored.
"""

from __future__ import annotations

import msgspec

from edge.domain.models import MAX_VERSION
from sync.domain.digests import Digest, as_digest, digest_of
from sync.domain.errors import DocumentError

MAX_NUDGE_BYTES = 1024


class Nudge(msgspec.Struct, frozen=True):
    generation: int
    digest: Digest


class _Signed(msgspec.Struct):
    version: int


class _Envelope(msgspec.Struct):
    """Of a document of TUF."""

    signed: _Signed


def parse_nudge(data: bytes) -> Nudge:
    """Raises DocumentError."""
    try:
        if len(data) > MAX_NUDGE_BYTES:
            raise ValueError(f"want at most {MAX_NUDGE_BYTES} bytes, got {len(data)}")
        nudge = msgspec.json.decode(data, type=Nudge)
        if not 0 < nudge.generation <= MAX_VERSION:
            raise ValueError(f"generation: want 1 to {MAX_VERSION}, got {nudge.generation}")
        as_digest(nudge.digest)
    except (ValueError, RecursionError) as error:
        raise DocumentError(f"nudge: {error}") from None
    return nudge


def encode_nudge(nudge: Nudge) -> bytes:
    return msgspec.json.encode(nudge, order="deterministic")


def nudge_of(timestamp: bytes) -> Nudge:
    """What is to be said of a store whose timestamp has these bytes; its signatures are for the devices. Raises DocumentError."""
    try:
        generation = msgspec.json.decode(timestamp, type=_Envelope).signed.version
    except (ValueError, RecursionError) as error:
        raise DocumentError(f"timestamp: {error}") from None
    nudge = Nudge(generation, digest_of(timestamp))
    return parse_nudge(encode_nudge(nudge))
