"""A tensor's `data` member: JSON text or objects → array.

Rule 1: numbers are read straight into a buffer; whatever that does not understand takes the exact path, which words the error.
Rule 2: `data` is row-major, and may be nested as its shape is, or less (neighbouring sizes as one, the flat list being
the extreme), or leave out sizes of 1. Lists of uneven lengths are refused even where the total is right.
Rule 3: a number that its element type cannot hold is refused; a float that is too large for it is an infinity.
"""

from __future__ import annotations

import math
import threading
from itertools import chain
from typing import Any, Literal

import numpy as np
import simdjson

from edge.domain.errors import InvalidInput
from edge.domain.tensors import MAX_RANK, Array, DType, Shape
from edge.wire.json_fast import NUMBER_BYTES, skeleton_of
from edge.wire.v2_datatypes import NAMES

MAX_KEPT_BYTES = 1 << 20  # a parser holds more than ten times the largest text that it saw; beyond this it is let go
MISFIT = "Unable to parse 'data': Shape does not match true shape of 'data' field"

_BUFFER: dict[str, tuple[Literal["u", "i", "d"], type[np.number[Any]]]] = {
    "u": ("u", np.uint64),
    "i": ("i", np.int64),
    "f": ("d", np.float64),
}
_SIZE_SATURATES = 0xFFFFFF  # simdjson counts no further in one list
_SCALARS = {"u": "unsigned-integer", "i": "signed-integer", "b": "boolean", "O": "string"}


class _Parsers(threading.local):
    """One parser for each thread: its buffers are what makes it fast, and it is not to be shared."""

    parser: simdjson.Parser | None = None


_parsers = _Parsers()


def from_text(text: bytes, dtype: DType, shape: Shape) -> Array | None:
    """`text`, a JSON array of numbers → array of `dtype` and `shape`. None: let the exact path have a look.

    Raises InvalidInput where the text is sound, but not what the shape or the type says.
    """
    kind = _BUFFER.get(dtype.numpy.kind)
    if kind is None:
        return None
    parser = _parsers.parser or simdjson.Parser()
    _parsers.parser = parser if len(text) <= MAX_KEPT_BYTES else None
    try:
        lists: Any = parser.parse(text)  # an array, as `text` is one, or an error
        flat = np.frombuffer(lists.as_buffer(of_type=kind[0]), kind[1])
        nesting = (flat.size,) if text.find(b"[", 1) < 0 else _first_sizes(lists)
        del lists  # the parser refuses to go on while anything points into its document
    except (ValueError, TypeError, RuntimeError):  # simdjson's errors, depth and integers of many digits among them
        return None
    if len(nesting) > 1 and (0 in nesting or max(nesting) >= _SIZE_SATURATES):
        return None
    even = math.prod(nesting) == flat.size and (len(nesting) == 1 or _is_even(text, nesting))
    if not even or not nests(nesting, shape):
        raise InvalidInput(MISFIT)
    return _narrowed(flat, dtype).reshape(shape)


def from_objects(data: object, dtype: DType, shape: Shape) -> Array:
    """`data` as a JSON library hands it over → array of `dtype` and `shape`. Exact, not fast. Raises InvalidInput."""
    flat, nesting = _flattened(data)
    if not nests(nesting, shape):
        raise InvalidInput(MISFIT)
    kind = dtype.numpy.kind
    if kind == "O":
        out = np.empty(len(flat), object)
        out[:] = _strings(flat)
        return out.reshape(shape)
    if kind == "f":
        wide: Array = np.array(_floats(flat), np.float64)
    else:
        wide = np.array(_whole(flat, dtype), dtype.numpy)
    return _narrowed(wide, dtype).reshape(shape)


def nests(nesting: Shape, shape: Shape) -> bool:
    """Whether lists of these sizes may hold a tensor of this shape (rule 2). Without elements, any lists without."""
    count = math.prod(shape)
    if count == 0 or math.prod(nesting) != count:
        return count == math.prod(nesting)
    sizes = iter(shape)
    for left in nesting:
        while left > 1:  # what is left of the nesting is what is left of the shape, so that there is a next one
            left, over = divmod(left, next(sizes))
            if over:
                return False
    return True


def _first_sizes(lists: Any) -> Shape:
    """How long the first list is, the first list in it, and so on."""
    sizes = [len(lists)]
    while sizes[-1] and isinstance(lists := lists[0], simdjson.Array):
        sizes.append(len(lists))
    return tuple(sizes)


def _is_even(text: bytes, nesting: Shape) -> bool:
    """Whether every list is as long as the first of its level: the text without its numbers must be what that makes."""
    if len(nesting) > MAX_RANK:
        return False
    length = nesting[-1] + 1
    for size in reversed(nesting[:-1]):
        length = size * (length + 1) + 1
    if length > len(text):  # a few lists nested deeply must not make us write out what they would make of all the rest
        return False
    return text.translate(None, NUMBER_BYTES) == skeleton_of(nesting)


def _narrowed(wide: Array, dtype: DType) -> Array:
    """64-bit numbers → `dtype`. Raises InvalidInput for one that does not fit."""
    if wide.dtype == dtype.numpy:
        return wide
    if dtype.is_integer and wide.size:
        limits, low, high = np.iinfo(dtype.numpy), wide.min(), wide.max()
        if low < limits.min or high > limits.max:
            raise _out_of_range(int(low if low < limits.min else high), dtype)
    with np.errstate(over="ignore"):
        return wide.astype(dtype.numpy)


def _flattened(data: object) -> tuple[list[Any], Shape]:
    """The scalars of nested lists, in order, and the lists' sizes. Raises InvalidInput for uneven ones."""
    if not isinstance(data, list):
        raise InvalidInput("Unable to parse 'data': attempt to access JSON non-array as array")
    level, sizes = data, [len(data)]
    while level and isinstance(level[0], list):
        size = len(level[0])
        if len(sizes) == MAX_RANK or any(type(item) is not list or len(item) != size for item in level):
            raise InvalidInput(MISFIT)
        sizes.append(size)
        level = list(chain.from_iterable(level))
    if any(type(item) is list for item in level):
        raise InvalidInput(MISFIT)
    return level, tuple(sizes)


def _floats(flat: list[Any]) -> list[float]:
    if not all(type(item) is float or type(item) is int for item in flat):
        raise InvalidInput("Unable to parse 'data': attempt to access JSON non-number as double")
    try:
        return [float(item) for item in flat]
    except OverflowError:
        raise InvalidInput("Unable to parse 'data': Number too big to be stored in double.") from None


def _whole(flat: list[Any], dtype: DType) -> list[Any]:
    """`flat`, all of it integers, or truths for BOOL, that `dtype` can hold."""
    kind = dtype.numpy.kind
    want = bool if kind == "b" else int
    if not all(type(item) is want and (kind != "u" or item >= 0) for item in flat):
        raise InvalidInput(f"Unable to parse 'data': attempt to access JSON non-{_SCALARS[kind]} as {_SCALARS[kind]}")
    if kind != "b" and flat:
        limits = np.iinfo(dtype.numpy)
        for extreme in (min(flat), max(flat)):
            if not limits.min <= extreme <= limits.max:
                raise _out_of_range(extreme, dtype)
    return flat


def _strings(flat: list[Any]) -> list[bytes]:
    if not all(type(item) is str for item in flat):
        raise InvalidInput("Unable to parse 'data': attempt to access JSON non-string as string")
    try:
        return [item.encode() for item in flat]
    except UnicodeEncodeError:
        raise InvalidInput("Unable to parse 'data': The surrogate pair in string is invalid.") from None


def _out_of_range(value: int, dtype: DType) -> InvalidInput:
    limits = np.iinfo(dtype.numpy)
    shown = value if abs(value) < 1 << 80 else "a number of more than 80 bits"
    want = f"want {NAMES[dtype]} from {limits.min} to {limits.max}"
    return InvalidInput(f"Unable to parse 'data': {shown} is out of range: {want}")
