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

import numpy as np
import numpy.typing as npt

from edge.domain.tensors import Shape

MIN_BYTES = 1 << 14
"""Below this the fixed cost of some forty array operations is more than a parser's."""

MAX_RANK = 32
"""Dimensions that every supported numpy has."""

Bytes = npt.NDArray[np.uint8]
Index = npt.NDArray[np.intp]

_BLANK = rb"[ \t\n\r]*"
_SIGNATURE = rb'"signature_name"' + _BLANK + rb":" + _BLANK + rb'"([A-Za-z0-9_.:/-]*)"' + _BLANK
_HEAD = re.compile(
    _BLANK + rb"\{" + _BLANK + rb"(?:" + _SIGNATURE + rb"," + _BLANK + rb")?"
    rb'"(instances|inputs)"' + _BLANK + rb":" + _BLANK + rb"(\[{1,%d})(?=[0-9])" % MAX_RANK
)  # fmt: skip
_TAIL = re.compile(_BLANK + rb"(?:," + _BLANK + _SIGNATURE + rb")?\}" + _BLANK + rb"\Z")
_COMMA, _SPACE, _ZERO, _OPEN, _CLOSE = b", 0[]"


@dataclass(frozen=True, slots=True)
class Dense:
    """A whole body: `values` are 0 to 999, in the shape of the text; `key` is `instances` or `inputs`."""

    key: str
    signature_name: str
    values: npt.NDArray[np.uint16]


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
    digits = text - np.uint8(_ZERO)
    is_digit = digits < 10
    ends = np.flatnonzero(is_digit[2:-1] > is_digit[3:])
    # Distances from the array's end: the checks below look ahead as far as `rank` closing brackets reach.
    if not ends.size or int(ends[-1]) != len(text) - 3 - rank:
        return None
    values = _values(digits, is_digit, ends)
    digit_count = int(np.count_nonzero(is_digit))
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


def _values(digits: Bytes, is_digit: npt.NDArray[np.bool_], ends: Index) -> npt.NDArray[np.uint16]:
    """What the last three digits of each number say."""
    digits *= is_digit
    units = digits[1:-1] * np.uint8(10)
    units += digits[2:]
    hundreds = digits[:-2] * is_digit[1:-1]
    values = hundreds.take(ends) * np.uint16(100)
    values += units.take(ends)
    return values


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
