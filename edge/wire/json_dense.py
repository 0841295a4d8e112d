"""Large bodies of small whole numbers (pictures), read by array operations: about three times as fast as a parser.

`{"instances": [[[0,255,…],…]]}` has a form so regular that nothing needs to be parsed: find where each run of digits
ends, take the three digits before that place for its value, and check that what lies between the numbers is what
the shape demands there.

Rule 1: None is always a right answer: a parser reads the body then. It never takes what a parser would not.
Rule 2: every byte of the array is accounted for: as a digit of a number written the shortest way, as a comma or
a bracket verified in its place, or as a blank between tokens.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.domain.tensors import MAX_RANK, Array, Shape

MIN_BYTES = 1 << 14
"""Below this the fixed cost of some forty array operations is more than a parser's."""

BLOCK_BYTES = 1 << 17
"""How much is read at a time: what stays in a core's cache."""

Bytes = npt.NDArray[np.uint8]
Index = npt.NDArray[np.intp]

_BLANK = rb"[ \t\n\r]*"
_SIGNATURE = rb'"signature_name"' + _BLANK + rb":" + _BLANK + rb'"([A-Za-z0-9_.:/-]*)"' + _BLANK
_HEAD = re.compile(
    _BLANK + rb"\{" + _BLANK + rb"(?:" + _SIGNATURE + rb"," + _BLANK + rb")?"
    rb'"(instances|inputs)"' + _BLANK + rb":" + _BLANK + rb"(\[{1,%d})(?=[0-9])" % MAX_RANK
)  # fmt: skip
_TAIL = re.compile(_BLANK + rb"(?:," + _BLANK + _SIGNATURE + rb")?\}" + _BLANK + rb"\Z")
_SPACE, _ZERO, _OPEN = b" 0["


@dataclass(frozen=True, slots=True)
class Dense:
    """A whole body: `values` are 0 to 999, in the shape of the text; `key` is `instances` or `inputs`."""

    key: str
    signature_name: str
    values: npt.NDArray[np.uint16]

    def as_dtype(self, dtype: np.dtype[Any]) -> Array | None:
        """A new array; None if the dtype cannot hold the values, or is no number of JSON."""
        if dtype.kind in "iu":
            if int(self.values.max()) > np.iinfo(dtype).max:
                return None
        elif dtype.kind != "f" or dtype.itemsize < 4:
            return None
        return self.values.astype(dtype)


def read(body: bytes) -> Dense | None:
    """None where the body is not of this kind, valid or not."""
    if len(body) < MIN_BYTES or b"." in body[:64] or b"-" in body[:64]:
        return None
    head = _HEAD.match(body)
    end = body.rfind(b"]") + 1
    tail = _TAIL.match(body, end)
    if head is None or tail is None or (head[1] is not None and tail[1] is not None):
        return None
    start, rank = head.start(3), len(head[3])
    if not body.endswith(b"]" * rank, start, end):
        return None
    # Two bytes before the array are no digits either: the colon and what precedes it.
    text = np.frombuffer(body, np.uint8, end - start + 2, start - 2)
    gap = body[body.find(b",", start) + 1] == _SPACE
    values = _read_array(text, rank, gap)
    name = head[1] if head[1] is not None else tail[1] or b""
    return None if values is None else Dense(head[2].decode(), name.decode(), values)


def _read_array(text: Bytes, rank: int, gap: bool) -> npt.NDArray[np.uint16] | None:
    """`gap`: commas are followed by one space."""
    ends, values, digit_count = _all_numbers(text)
    # Distances from the array's end: the checks below look ahead as far as `rank` closing brackets reach.
    if not ends.size or int(ends[-1]) != len(text) - 3 - rank:
        return None
    shortest = len(values) + int(np.count_nonzero(values >= 10)) + int(np.count_nonzero(values >= 100))
    if digit_count != shortest:
        return None  # a leading zero, or a number of four digits and more
    checked = _check(text[3:], ends, rank, gap)
    if checked is None:
        return None
    shape, structural = checked
    blanks = int(np.count_nonzero(text[2:] == _SPACE)) if gap else 0
    if digit_count + structural + blanks != len(text) - 2:
        return None
    return values.reshape(shape)


def _all_numbers(text: Bytes) -> tuple[Index, npt.NDArray[np.uint16], int]:
    """`_numbers` of the whole text, a block at a time."""
    found = [_numbers(text[block : block + BLOCK_BYTES + 3]) for block in range(0, len(text) - 3, BLOCK_BYTES)]
    if len(found) == 1:
        return found[0]
    ends = np.concatenate([ends + block * BLOCK_BYTES for block, (ends, _, _) in enumerate(found)])
    return ends, np.concatenate([values for _, values, _ in found]), sum(count for _, _, count in found)


def _numbers(text: Bytes) -> tuple[Index, npt.NDArray[np.uint16], int]:
    """Where numbers end, two places into the text being place 0; what their last three digits say; how many digits.

    The first two and the last byte are there for their neighbours' sake only.
    """
    digits = text - np.uint8(_ZERO)
    is_digit = digits < 10
    ends = np.flatnonzero(is_digit[2:-1] > is_digit[3:])
    digits *= is_digit
    units = digits[1:-2] * np.uint8(10)
    units += digits[2:-1]
    hundreds = digits[:-3] * is_digit[1:-2]
    values = hundreds.take(ends) * np.uint16(100)
    values += units.take(ends)
    return ends, values, int(np.count_nonzero(is_digit[2:-1]))


def _check(after: Bytes, ends: Index, rank: int, gap: bool) -> tuple[Shape, int] | None:
    """The shape, and how many brackets and commas were found in their places; None if they do not fit a shape.

    `after[end]` is the byte behind the number that ends at `end`. Level by level from the innermost: behind each
    list's last element is a bracket, behind its others a comma, and behind that comma as many opening brackets
    as there were closing ones before it.
    """
    sizes: list[int] = []
    structural = rank
    for level in range(rank):
        follow = after[level:].take(ends).tobytes()
        size = follow.find(b"]") + 1
        if size == 0 or follow != (b"," * (size - 1) + b"]") * (len(follow) // size):
            return None
        structural += len(follow)
        if level and size > 1:
            between = ends.reshape(-1, size)[:, :-1].ravel()
            for opening in range(level + 1 + gap, 2 * level + 1 + gap):
                if not (after[opening:].take(between) == _OPEN).all():
                    return None
            structural += level * len(between)
        ends = ends[size - 1 :: size]
        sizes.append(size)
    return (tuple(reversed(sizes)), structural) if len(ends) == 1 else None
