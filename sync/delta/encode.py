"""Making patches, where versions are published: BSDIFF40 that stock bsdiff reads too.

Rule 1: of several ways to make a patch the smallest result counts: bsdiff's search over the whole files, and tensors of two
.tflite files beside each other, with the search for the rest. Rule 2: the files are anybody's: time and memory are bounded,
and there is no file that a patch cannot be made for, be it a poor one. Rule 3: a patch comes out only when our own decoder
has made the new file of it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from sync.delta.align import ALIKE, align, bits
from sync.delta.decode import apply_patch
from sync.delta.pieces import Piece, Span, encode, gaps, joined, spread
from sync.delta.search import search
from sync.delta.tflite import NotAModel
from sync.domain.digests import digest_of
from sync.domain.errors import SyncError

MAX_BYTES = 1 << 30
"""Of either file; for larger ones no patch is made. Memory is about six times the larger file."""
ENOUGH_BYTES = 2048
"""Below this, no smaller one is looked for."""
ALIGNED = 0.01
"""Of the new file: where less is aligned, to search the rest was to search the whole."""

log = logging.getLogger(__name__)

Search = Callable[[bytes, bytes], Sequence[Piece] | None]
"""old and new → what of the new is in the old, None where that cannot be said."""


def make_patch(old: bytes, new: bytes, *, search: Search = search) -> bytes | None:
    """The smallest patch from `old` to `new`; None where there is none that makes it. Blocks, for up to minutes."""
    if max(len(old), len(new)) > MAX_BYTES:
        return None
    best = None
    for pieces in _ways(old, new, search):
        patch = encode(old, new, pieces)
        if (best is None or len(patch) < len(best)) and _makes(patch, old, new):
            best = patch
            if len(best) < ENOUGH_BYTES:
                break
    return best


def _ways(old: bytes, new: bytes, search: Search) -> Iterator[Sequence[Piece]]:
    try:
        pieces = align(old, new)
    except NotAModel:
        pieces = []
    pieces = pieces or in_place(old, new)
    yield _filled(pieces, old, new, search)
    if sum(piece.size for piece in pieces) > ALIGNED * len(new):
        found = search(old, new)
        if found is not None:
            yield found


def in_place(old: bytes, new: bytes) -> list[Piece]:
    """For files of which nothing is known: what they have in common at both ends, or at every place."""
    size = min(len(old), len(new))
    have, want = np.frombuffer(old, np.uint8), np.frombuffer(new, np.uint8)
    if len(old) == len(new) and bits(want - have) <= ALIKE * bits(want):
        return [Piece(0, 0, size)]
    front = _common(have[:size] != want[:size])
    back = _common((have[len(old) - size + front :] != want[len(new) - size + front :])[::-1])
    return [piece for piece in (Piece(0, 0, front), Piece(len(new) - back, len(old) - back, back)) if piece.size]


def _common(differ: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> int:
    """How many are equal before the first that differ."""
    at = int(differ.argmax()) if differ.size else 0
    return at if differ.size and differ[at] else differ.size


def _filled(pieces: Sequence[Piece], old: bytes, new: bytes, search: Search) -> list[Piece]:
    """With what the search finds of the rest of the new file in the rest of the old one."""
    have = gaps((Span(each.old, each.size) for each in pieces), len(old))
    want = gaps((Span(each.new, each.size) for each in pieces), len(new))
    found = search(joined(old, have), joined(new, want)) if have and want else None
    return [*pieces, *spread(found or (), have, want)]


def _makes(patch: bytes, old: bytes, new: bytes) -> bool:
    try:
        apply_patch(
            lambda at, count: patch[at : at + count],
            len(patch),
            lambda at, count: old[at : at + count],
            len(old),
            lambda data: None,
            digest=digest_of(new),
            size=len(new),
        )
    except SyncError as error:
        log.error("a patch of %d bytes is dropped: %s", len(patch), error.message)
        return False
    return True
