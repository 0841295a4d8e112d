"""Which tensors of a new model are which of the old one's, wherever they lie now.

Rule 1: names are a hint, not a proof: a converter numbers them, and a layer that comes in between moves all numbers; a
tensor that does not look like its namesake is compared with others of its size. Rule 2: a pair is only made
where its difference takes fewer bits than the new tensor itself, by the frequencies of their bytes. Rule 3: of each tensor at
most CANDIDATES are tried, by a sample.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sync.delta.pieces import Piece
from sync.delta.tflite import Region, regions

CANDIDATES = 16
SAMPLE_BYTES = 4096
MIN_BYTES = 32
"""Regions that are smaller are left to the search: a step of their own would cost more than they have."""
ALIKE = 0.95
"""A difference is worth sending at this share of the bits of what it stands for."""

Bytes = npt.NDArray[np.uint8]


def align(old: bytes, new: bytes) -> list[Piece]:
    """Of two .tflite files. Raises NotAModel."""
    mine = [each for each in regions(old) if each.size >= MIN_BYTES]
    pairing = _Pairing(np.frombuffer(old, np.uint8), np.frombuffer(new, np.uint8), mine)
    rank: dict[tuple[str, int], int] = defaultdict(int)
    pieces = []
    for region in regions(new):
        if region.size < MIN_BYTES:
            continue
        place = rank[_kind(region)]
        rank[_kind(region)] += 1
        found = pairing.find(region, place)
        if found is not None:
            pieces.append(Piece(region.start, found.start, region.size))
    return pieces


def bits(data: Bytes) -> float:
    """Bits for each byte, by the frequencies of the bytes' values alone."""
    if not data.size:
        return 0.0
    counts = np.bincount(data, minlength=256)
    share = counts[counts > 0] / data.size
    return float(-(share * np.log2(share)).sum())


class _Pairing:
    def __init__(self, old: Bytes, new: Bytes, mine: Sequence[Region]) -> None:
        self._old, self._new = old, new
        self._named = {(each.name, *_kind(each)): each for each in reversed(mine)}
        self._same = {_digest(old, each): each for each in reversed(mine)}
        self._kinds: dict[tuple[str, int], list[Region]] = defaultdict(list)
        for each in mine:
            self._kinds[_kind(each)].append(each)

    def find(self, region: Region, place: int) -> Region | None:
        """The old region that this one is made of best; `place` is its number among those of its kind."""
        same = self._same.get(_digest(self._new, region))
        if same is not None:
            return same
        namesake = self._named.get((region.name, *_kind(region)))
        if namesake is not None and self._alike(namesake, region):
            return namesake
        kind = self._kinds[_kind(region)]
        near = range(max(0, min(place - CANDIDATES // 2, len(kind) - CANDIDATES)), len(kind))[:CANDIDATES]
        best = min((kind[at] for at in near), key=lambda each: self._sampled(each, region), default=None)
        return best if best is not None and self._alike(best, region) else None

    def _alike(self, old: Region, new: Region) -> bool:
        want = self._new[new.start : new.end]
        return bits(want - self._old[old.start : old.end]) <= ALIKE * bits(want)

    def _sampled(self, old: Region, new: Region) -> float:
        step = max(1, new.size // SAMPLE_BYTES)
        return bits(self._new[new.start : new.end : step] - self._old[old.start : old.end : step])


def _kind(region: Region) -> tuple[str, int]:
    return region.what, region.size


def _digest(data: Bytes, region: Region) -> bytes:
    return hashlib.blake2b(data[region.start : region.end].tobytes(), digest_size=16).digest()
