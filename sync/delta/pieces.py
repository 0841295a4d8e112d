"""What of a new file comes from where in the old one, and how a BSDIFF40 patch says it.

Rule 1: pieces are in the new file's order, and no byte is in two of them; what lies between them is sent as it is.
Rule 2: nothing here looks for matches.

Source: the format of Colin Percival's bsdiff 4, https://www.daemonology.net/bsdiff/
"""

from __future__ import annotations

import bz2
import struct
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

MAGIC = b"BSDIFF40"
CONTROL_LEVEL, DIFF_LEVEL, EXTRA_LEVEL = 2, 9, 5
"""bzip2's. A decoder needs 0.4 MB for each level of each stream: 6.4 MB, where 9 for all would take 10.8."""


@dataclass(frozen=True, slots=True)
class Piece:
    """`size` bytes at `new` are those at `old`, plus a difference."""

    new: int
    old: int
    size: int


@dataclass(frozen=True, slots=True)
class Span:
    start: int
    size: int


def gaps(taken: Iterable[Span], end: int) -> list[Span]:
    """What is in none of the spans, from 0 to `end`."""
    left, at = [], 0
    for span in sorted(taken, key=lambda each: each.start):
        if span.start > at:
            left.append(Span(at, span.start - at))
        at = max(at, span.start + span.size)
    if at < end:
        left.append(Span(at, end - at))
    return left


def joined(data: bytes, spans: Sequence[Span]) -> bytes:
    """The spans' bytes, one behind the other."""
    return b"".join(data[span.start : span.start + span.size] for span in spans)


def spread(pieces: Iterable[Piece], old: Sequence[Span], new: Sequence[Span]) -> Iterator[Piece]:
    """Pieces of two joined files, in the places of the files that they were joined from."""
    old_at, new_at = ([0, *accumulate(span.size for span in spans)] for spans in (old, new))
    for piece in pieces:
        done = 0
        while done < piece.size:
            o, n = piece.old + done, piece.new + done
            i, j = bisect_right(old_at, o) - 1, bisect_right(new_at, n) - 1
            size = min(piece.size - done, old_at[i + 1] - o, new_at[j + 1] - n)
            yield Piece(new[j].start + n - new_at[j], old[i].start + o - old_at[i], size)
            done += size


def merged(pieces: Iterable[Piece]) -> list[Piece]:
    """In the new file's order; those that go on where the last one ended are one."""
    out: list[Piece] = []
    for piece in sorted(pieces, key=lambda each: each.new):
        last = out[-1] if out else None
        if last and last.new + last.size == piece.new and last.old + last.size == piece.old:
            out[-1] = Piece(last.new, last.old, last.size + piece.size)
        elif piece.size:
            out.append(piece)
    return out


def encode(old: bytes, new: bytes, pieces: Iterable[Piece]) -> bytes:
    """The patch."""
    have, want = np.frombuffer(old, np.uint8), np.frombuffer(new, np.uint8)
    ordered = merged(pieces)
    differences = [want[p.new : p.new + p.size] - have[p.old : p.old + p.size] for p in ordered]
    extra = joined(new, gaps((Span(p.new, p.size) for p in ordered), len(new)))
    control = bz2.compress(_controls(ordered, len(new)), CONTROL_LEVEL)
    diff = bz2.compress(b"".join(each.tobytes() for each in differences), DIFF_LEVEL)
    header = MAGIC + b"".join(map(_integer, (len(control), len(diff), len(new))))
    return header + control + diff + bz2.compress(extra, EXTRA_LEVEL)


def _controls(pieces: Sequence[Piece], size: int) -> bytes:
    out = []
    if not pieces or pieces[0].new or pieces[0].old:
        pieces = [Piece(0, 0, 0), *pieces]
    for piece, following in zip(pieces, [*pieces[1:], None], strict=True):
        end = piece.new + piece.size
        copy = (size if following is None else following.new) - end
        seek = 0 if following is None else following.old - piece.old - piece.size
        out += [piece.size, copy, seek]
    return b"".join(map(_integer, out))


def _integer(value: int) -> bytes:
    """Sign and magnitude, little-endian."""
    return struct.pack("<Q", abs(value) | (1 << 63 if value < 0 else 0))
