"""TensorFlow's TensorProto ↔ arrays.

Rule 1: what a shape asks for is bounded before anything of that size is made: a few bytes may stand for many equal elements.
Rule 2: values come as `tensor_content`, or in the field of their type, where the last one stands for those that lack, as
TensorFlow has it; a number that its type cannot hold is refused. Rule 3: answers use the field of their type, as TensorFlow
Serving's do. Rule 4: floats are taken and given as they lie.
Source: TensorFlow's `core/framework/tensor.proto`, `types.proto` and `tensor.cc`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge.domain.errors import InvalidInput
from edge.domain.tensors import MAX_RANK, Array, DType, Shape, show_dims
from edge.wire.proto.messages import message
from edge.wire.v2_datatypes import LITTLE

NUMBERS: dict[DType, int] = {
    DType.FLOAT32: 1,
    DType.FLOAT64: 2,
    DType.INT32: 3,
    DType.UINT8: 4,
    DType.INT16: 5,
    DType.INT8: 6,
    DType.STRING: 7,
    DType.INT64: 9,
    DType.BOOL: 10,
    DType.UINT16: 17,
    DType.FLOAT16: 19,
    DType.UINT32: 22,
    DType.UINT64: 23,
}
_QUANTIZED = {11: DType.INT8, 12: DType.UINT8, 13: DType.INT32, 15: DType.INT16, 16: DType.UINT16}
"""TensorFlow's quantized types hold the same integers."""
DTYPES = {number: dtype for dtype, number in NUMBERS.items()} | _QUANTIZED
_FIELDS = {
    DType.FLOAT32: "float_val",
    DType.FLOAT64: "double_val",
    DType.FLOAT16: "half_val",
    DType.STRING: "string_val",
    DType.INT64: "int64_val",
    DType.BOOL: "bool_val",
    DType.UINT32: "uint32_val",
    DType.UINT64: "uint64_val",
}
_INT = "int_val"
_PACKED = (DType.FLOAT32, DType.FLOAT64)
MAX_STRINGS = 1 << 20
"""Elements of a tensor of strings: each is an object of some 40 bytes."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A TensorProto as far as it is looked at before its values are. `nbytes` of the array that it stands for."""

    name: str
    content: bytes
    given: Any
    dtype: DType
    shape: Shape
    nbytes: int


def look(content: bytes, name: str, max_bytes: int) -> Seen:
    """`content`: a serialized TensorProto. max_bytes: of the array that it may stand for. Raises InvalidInput."""
    try:
        given = message("tensorflow.PackedTensorProto").FromString(content)
    except Exception:
        raise wrong(name, f"{len(content)} bytes are no TensorProto") from None
    dtype = DTYPES.get(given.dtype)
    if dtype is None:
        raise wrong(name, f"no tensor here has the type number {given.dtype}")
    if given.tensor_shape.unknown_rank:
        raise wrong(name, "want a shape, got an unknown rank")
    shape = tuple(dim.size for dim in given.tensor_shape.dim)
    if len(shape) > MAX_RANK:
        raise wrong(name, f"want at most {MAX_RANK} dimensions, got {len(shape)}")
    if any(size < 0 for size in shape):
        raise wrong(name, f"want sizes of at least 0, got shape {show_dims(shape)}")
    # An empty array's other sizes count too, for numpy.
    count = math.prod(size or 1 for size in shape)
    nbytes = count * dtype.numpy.itemsize
    if nbytes > max_bytes or (dtype is DType.STRING and count > MAX_STRINGS):
        most = f"{MAX_STRINGS} strings" if dtype is DType.STRING else f"{max_bytes} bytes"
        raise wrong(name, f"want at most {most}, got {dtype.value} {show_dims(shape)}")
    return Seen(name, content, given, dtype, shape, nbytes)


def read(seen: Seen) -> Array:
    """The array; numbers in `tensor_content` are a view. Raises InvalidInput."""
    count = math.prod(seen.shape)
    if raw := seen.given.tensor_content:
        if seen.dtype is DType.STRING:
            return _strings(_listed(raw, count, seen.name), count, seen)
        return _from_bytes(raw, count, seen).reshape(seen.shape)
    if seen.dtype in _PACKED:
        packed = b"".join(getattr(seen.given, _FIELDS[seen.dtype]))
        if count and len(packed) >= seen.nbytes and len(packed) % seen.dtype.numpy.itemsize == 0:
            return np.frombuffer(packed, LITTLE[seen.dtype], count).reshape(seen.shape)
    try:
        values = getattr(message("tensorflow.TensorProto").FromString(seen.content), _FIELDS.get(seen.dtype, _INT))
    except Exception:
        raise wrong(seen.name, f"{len(seen.content)} bytes are no TensorProto") from None
    if seen.dtype is DType.STRING:
        return _strings(list(values), count, seen)
    return _filled(_numbers(values, seen), count, seen).reshape(seen.shape)


def write(array: Array) -> bytes:
    """A serialized TensorProto. Raises KeyError for elements that no tensor has."""
    dtype = DType.of(array)
    packed = dtype in _PACKED
    made = message("tensorflow.PackedTensorProto" if packed else "tensorflow.TensorProto")()
    made.dtype = NUMBERS[dtype]
    made.tensor_shape.SetInParent()
    for size in array.shape:
        made.tensor_shape.dim.add().size = size
    field = getattr(made, _FIELDS.get(dtype, _INT))
    if packed:
        if array.size:
            field.append(np.ascontiguousarray(array, LITTLE[dtype]).tobytes())
    else:
        flat = array.view(np.uint16) if dtype is DType.FLOAT16 else array
        field.extend(flat.ravel().tolist())
    data: bytes = made.SerializeToString()
    return data


def wrong(name: str, why: str) -> InvalidInput:
    """TensorFlow Serving's words, and what it does not say."""
    return InvalidInput(f"tensor parsing error: {name}: {why}")


def _from_bytes(raw: bytes, count: int, seen: Seen) -> Array:
    little = LITTLE[seen.dtype]
    if len(raw) != count * little.itemsize:
        raise wrong(
            seen.name,
            f"want {count * little.itemsize} bytes of tensor_content for {seen.dtype.value} {show_dims(seen.shape)}, got {len(raw)}",
        )
    array = np.frombuffer(raw, little, count)
    return array != 0 if seen.dtype is DType.BOOL else array


def _numbers(values: Any, seen: Seen) -> Array:
    """Of the type's own field → the type."""
    dtype = seen.dtype
    if dtype in _PACKED or dtype is DType.BOOL:
        return np.fromiter(values, dtype.numpy, len(values))
    wide = np.fromiter(values, np.uint64 if dtype is DType.UINT64 else np.int64, len(values))
    narrow = DType.UINT16 if dtype is DType.FLOAT16 else dtype
    limits = np.iinfo(narrow.numpy)
    if wide.size and (wide.min() < limits.min or wide.max() > limits.max):
        raise wrong(seen.name, f"want {dtype.value}, got a value outside {limits.min} to {limits.max}")
    numbers = wide.astype(narrow.numpy)
    return numbers.view(np.float16) if dtype is DType.FLOAT16 else numbers


def _filled(values: Array, count: int, seen: Seen) -> Array:
    if len(values) >= count:
        return values[:count]
    if not len(values):
        return np.zeros(count, seen.dtype.numpy)
    out = np.full(count, values[-1])
    out[: len(values)] = values
    return out


def _strings(values: list[bytes], count: int, seen: Seen) -> Array:
    out = np.empty(count, object)
    out[: len(values)] = values[:count]
    out[len(values) :] = values[-1] if values else b""
    return out.reshape(seen.shape)


def _listed(raw: bytes, count: int, name: str) -> list[bytes]:
    """Strings in `tensor_content`: all their lengths as varints, and then themselves. Raises InvalidInput."""
    at = 0
    lengths: list[int] = []
    for _ in range(count):
        length = shift = 0
        while True:
            if at >= len(raw) or shift > 28:
                raise wrong(name, f"want the lengths of {count} strings in tensor_content, got {len(lengths)}")
            byte = raw[at]
            at += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        lengths.append(length)
    if at + sum(lengths) != len(raw):
        raise wrong(name, f"want {at + sum(lengths)} bytes of tensor_content, got {len(raw)}")
    found = []
    for length in lengths:
        found.append(raw[at : at + length])
        at += length
    return found
