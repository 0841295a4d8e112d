"""Making a new file of an old one and a patch: BSDIFF40, as bsdiff 4 writes it.

Rule 1: the patch is hostile until its result has the right digest: every step is checked against the ends of what it reads
and writes, and nothing is expanded beyond what the result may be. Rule 2: memory is bounded by STEP_BYTES, whatever the files' size.
Rule 3: what is written is hashed on the way; DeltaError and HashMismatch are all that come out, and what was written counts
only when neither did.

Source: the format of Colin Percival's bsdiff 4, https://www.daemonology.net/bsdiff/
"""

from __future__ import annotations

import bz2
import hashlib
from collections.abc import Callable, Iterator

import numpy as np

from sync.domain.digests import Digest
from sync.domain.errors import DeltaError, HashMismatch

MAGIC = b"BSDIFF40"
HEADER_BYTES = 32
CONTROL_BYTES = 24
STEP_BYTES = 1 << 18
MAX_CONTROLS = 1 << 24
"""Steps of one patch."""
MAX_PLACE = 1 << 62
"""In the base, before its beginning or after its end: steps may lead there, and back."""

ReadAt = Callable[[int, int], bytes]
"""offset and count → bytes, fewer at the end. Raises OSError."""


def apply_patch(
    patch: ReadAt,
    patch_size: int,
    base: ReadAt,
    base_size: int,
    write: Callable[[bytes], object],
    *,
    digest: Digest,
    size: int,
) -> None:
    """Write the new file, in order. Sizes in bytes; `digest` and `size` are of the result.

    Raises DeltaError, HashMismatch, and whatever `write` and the readers raise.
    """
    control, diff, extra = _streams(patch, patch_size, size)
    hasher = hashlib.sha256()

    def put(data: bytes) -> None:
        hasher.update(data)
        write(data)

    for at, add, copy in _steps(control, size, base_size):
        for offset in range(0, add, STEP_BYTES):
            count = min(STEP_BYTES, add - offset)
            put(_sum(diff.read(count), base, at + offset, base_size))
        for offset in range(0, copy, STEP_BYTES):
            put(extra.read(min(STEP_BYTES, copy - offset)))
    got = Digest("sha256:" + hasher.hexdigest())
    if got != digest:
        raise HashMismatch(f"the patch made {got}, want {digest}")


def _steps(control: _Stream, size: int, base_size: int) -> Iterator[tuple[int, int, int]]:
    """Until the result is whole: a place in the base, how much is made from there on, and how much is copied after it.

    Raises DeltaError.
    """
    made = at = controls = 0
    while made < size:
        controls += 1
        if controls > MAX_CONTROLS:
            raise DeltaError(f"byte {made} of {size}: want at most {MAX_CONTROLS} steps, got more")
        add, copy, seek = _triple(control.read(CONTROL_BYTES))
        if add < 0 or copy < 0 or made + add + copy > size:
            raise DeltaError(f"byte {made}: a step of {add} + {copy} bytes goes beyond the {size} of the result")
        if add + copy == 0 and controls > size + 1:
            raise DeltaError(f"byte {made} of {size}: {controls} steps that make nothing")
        yield at, add, copy
        made += add + copy
        at += add + seek
        if abs(at) > MAX_PLACE:
            raise DeltaError(f"byte {made}: a step to {at} in a base of {base_size} bytes")


class _Stream:
    """One of a patch's three compressed parts."""

    def __init__(self, what: str, read: ReadAt, start: int, end: int) -> None:
        self._what, self._read, self._at, self._end = what, read, start, end
        self._bz2 = bz2.BZ2Decompressor()

    def read(self, count: int) -> bytes:
        """Exactly so many bytes. Raises DeltaError."""
        data = b""
        while len(data) < count:
            if self._bz2.eof:
                raise DeltaError(f"the {self._what} stream ends {count - len(data)} bytes early")
            packed = b""
            if self._bz2.needs_input:
                packed = self._read(self._at, min(STEP_BYTES, self._end - self._at))
                self._at += len(packed)
                if not packed:
                    raise DeltaError(f"the {self._what} stream is cut off")
            try:
                data += self._bz2.decompress(packed, count - len(data))
            except (OSError, ValueError) as error:
                raise DeltaError(f"the {self._what} stream is damaged: {error}") from None
        return data


def _streams(patch: ReadAt, patch_size: int, size: int) -> tuple[_Stream, _Stream, _Stream]:
    header = patch(0, HEADER_BYTES)
    if len(header) < HEADER_BYTES or header[:8] != MAGIC:
        raise DeltaError(f"want a patch that begins with {MAGIC!r}, got {header[:8]!r}")
    control, diff, new_size = (_integer(header[at : at + 8]) for at in (8, 16, 24))
    if control < 0 or diff < 0 or HEADER_BYTES + control + diff > patch_size:
        raise DeltaError(f"streams of {control} and {diff} bytes in a patch of {patch_size}")
    if new_size != size:
        raise DeltaError(f"want a patch that makes {size} bytes, got one that makes {new_size}")
    first, second = HEADER_BYTES + control, HEADER_BYTES + control + diff
    return (
        _Stream("control", patch, HEADER_BYTES, first),
        _Stream("difference", patch, first, second),
        _Stream("extra", patch, second, patch_size),
    )


def _integer(data: bytes) -> int:
    """Sign and magnitude, little-endian."""
    value = int.from_bytes(data, "little")
    return -(value & ((1 << 63) - 1)) if value >> 63 else value


def _triple(data: bytes) -> tuple[int, int, int]:
    return _integer(data[:8]), _integer(data[8:16]), _integer(data[16:])


def _sum(diff: bytes, base: ReadAt, at: int, base_size: int) -> bytes:
    """The difference added to the base, byte by byte; beyond the base's ends it stands for itself."""
    start, end = max(at, 0), min(at + len(diff), base_size)
    if start >= end:
        return diff
    old = base(start, end - start)
    if len(old) != end - start:
        raise DeltaError(f"the base has fewer than {base_size} bytes")
    out = np.frombuffer(diff, np.uint8).copy()
    out[start - at : end - at] += np.frombuffer(old, np.uint8)
    return out.tobytes()
