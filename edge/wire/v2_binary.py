"""Tensors as bytes: the binary tensor data extension.

Source: https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
Rule 1: numbers are views on the body, read-only; nothing is copied.
Rule 2: elements are little-endian and row-major; an element of BYTES is its length, four bytes, and then itself.
"""

from __future__ import annotations

import math
import struct

import numpy as np

from edge.domain.tensors import Array, DType, Shape
from edge.wire.v2_datatypes import LITTLE

MAX_STRINGS = 1 << 20
"""Elements of a BYTES tensor: each is an object of some 40 bytes, and takes as few as five of the body."""
_LENGTH = struct.Struct("<I")


def read_numbers(body: bytes, start: int, size: int, dtype: DType, shape: Shape) -> Array | None:
    """`size` bytes of `body` from `start` → array of `dtype` and `shape`. None: they are too few or too many."""
    little = LITTLE[dtype]
    count = math.prod(shape)
    if count * little.itemsize != size:
        return None
    array = np.frombuffer(body, little, count, start).reshape(shape) if count else np.empty(shape, little)
    return array != 0 if dtype is DType.BOOL else array


def read_strings(body: bytes, start: int, size: int, shape: Shape) -> Array:
    """Length-prefixed elements → object array of `bytes`. Raises ValueError where a length, or their number, lies."""
    count, end = math.prod(shape), start + size
    if count > MAX_STRINGS:
        raise ValueError(f"want at most {MAX_STRINGS} elements, got {count}")
    found: list[bytes] = []
    while start < end:
        if len(found) == count:
            raise ValueError(f"want {count} elements, got more")
        first = start + _LENGTH.size
        if first > end:
            raise ValueError(f"element {len(found)}: want a length of 4 bytes, got {end - start}")
        start = first + int(_LENGTH.unpack_from(body, start)[0])
        if start > end:
            raise ValueError(f"element {len(found)}: want {start - first} bytes, got {end - first}")
        found.append(body[first:start])
    if len(found) != count:
        raise ValueError(f"want {count} elements, got {len(found)}")
    out = np.empty(count, object)
    out[:] = found
    return out.reshape(shape)


def one_string(body: bytes, shape: Shape) -> Array:
    """A raw body as the only element of a BYTES tensor; every size of `shape` is 1."""
    out = np.empty(1, object)
    out[0] = body
    return out.reshape(shape)


def write(array: Array) -> bytes | memoryview:
    """An array → its bytes; those of numbers are not copied where they already lie as the wire wants them."""
    if array.dtype == object:
        return b"".join(piece for item in array.ravel() for piece in (_LENGTH.pack(len(item)), item))
    flat = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return flat.reshape(-1).view(np.uint8).data
