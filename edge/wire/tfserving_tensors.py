"""JSON values → tensors, checked and worded as TensorFlow Serving does. The slow way, and the one that decides.

Rule 1: the first thing wrong in the order of the text is what is told.
Rule 2: in row format every complaint about an element is wrapped, and is an invalid argument whatever it was inside.
Rule 3: beyond the contract, an integer that its tensor cannot hold is refused, where TensorFlow Serving wraps it round.

Source: TensorFlow Serving's `util/json_tensor.cc`.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import numpy as np

from edge.domain.errors import EdgeError, InvalidInput, Unsupported
from edge.domain.tensors import MAX_RANK, Array, DType, Shape, Tensors, TensorSpec, show_dims
from edge.wire.json_fast import narrow
from edge.wire.tfserving_debug import DTYPE_NAMES, debug, type_name

Specs = Mapping[str, TensorSpec]


def from_instances(document: dict[str, Any], specs: Specs) -> Tensors:
    """Row format: the batch dimension comes first in every tensor. Raises InvalidInput."""
    rows = document["instances"]
    if type(rows) is not list:
        raise InvalidInput(f"JSON Value: {debug(document)} Expecting 'instances' to be an list/array")
    if not rows:
        raise InvalidInput(f"JSON Value: {debug(document)} No values in 'instances' array")
    of_objects = _is_object(rows[0])
    if not of_objects and len(specs) > 1:
        raise InvalidInput(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per tensorinfo_map"
        )
    stacks: dict[str, _Stack] = {}
    for index, row in enumerate(rows):
        if _is_object(row) != of_objects:
            want, got = ("object", "list") if of_objects else ("value/list", "object")
            raise InvalidInput(f"Expecting {want} but got {got} at item {index} of input list")
        if of_objects:
            _add_object(stacks, specs, index, row)
        else:
            _add_row(stacks, specs, next(iter(specs)), row, f"Failed to process element: {index} of 'instances' list.")
    return {name: stacks[name].tensor(len(rows)) for name in specs}


def from_inputs(value: Any, specs: Specs) -> Tensors:
    """Columnar format. Raises InvalidInput; Unsupported for an element type that JSON has no form for."""
    if not _is_object(value):
        if len(specs) > 1:
            raise InvalidInput(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as per tensorinfo_map"
            )
        return {name: _tensor(value, spec) for name, spec in specs.items()}
    tensors: dict[str, Array] = {}
    for name, spec in specs.items():
        if name not in value:
            raise InvalidInput(f"Missing named input: {name} in 'inputs' object.")
        tensors[name] = _tensor(value[name], spec)
    return tensors


class _Stack:
    """The rows of one tensor."""

    def __init__(self, dtype: DType, shape: Shape, values: list[Any]) -> None:
        self._dtype, self._shape, self._values = dtype, shape, values
        self._size = len(values)

    def add(self, shape: Shape, values: list[Any]) -> None:
        if len(values) != self._size:
            raise InvalidInput(f"Expecting tensor size: {self._size} but got: {len(values)}")
        if shape != self._shape:
            raise InvalidInput(f"Expecting shape {show_dims(self._shape)} but got: {show_dims(shape)}")
        self._values += values

    def tensor(self, rows: int) -> Array:
        return _array(self._values, self._dtype, (rows, *self._shape))


def _is_object(value: Any) -> bool:
    return type(value) is dict and not is_base64(value)


def _add_object(stacks: dict[str, _Stack], specs: Specs, index: int, row: dict[str, Any]) -> None:
    for name, value in row.items():
        _add_row(stacks, specs, name, value, f"Failed to process element: {index} key: {name} of 'instances' list.")
    if row.keys() != specs.keys():
        raise InvalidInput(
            f"Failed to process element: {index} of 'instances' list. JSON object: {debug(row)} "
            f"keys must be equal to: {','.join(sorted(specs))}"
        )


def _add_row(stacks: dict[str, _Stack], specs: Specs, name: str, value: Any, prefix: str) -> None:
    try:
        spec = specs.get(name)
        if spec is None:
            raise InvalidInput(f"JSON object: does not have named input: {name}")
        shape, values = _flatten(value, spec.dtype)
        if name in stacks:
            stacks[name].add(shape, values)
        else:
            stacks[name] = _Stack(spec.dtype, shape, values)
    except EdgeError as error:
        code = "UNIMPLEMENTED" if isinstance(error, Unsupported) else "INVALID_ARGUMENT"
        raise InvalidInput(f"{prefix} Error: {code}: {error.message}") from None


def _tensor(value: Any, spec: TensorSpec) -> Array:
    shape, values = _flatten(value, spec.dtype)
    return _array(values, spec.dtype, shape)


def _array(values: list[Any], dtype: DType, shape: Shape) -> Array:
    if len(shape) > MAX_RANK:
        raise InvalidInput(f"want at most {MAX_RANK} dimensions, got {len(shape)}")
    if dtype is DType.STRING:
        strings = np.empty(len(values), object)
        strings[:] = values
        return strings.reshape(shape)
    wide = np.float64 if dtype.numpy.kind == "f" else dtype.numpy
    return narrow(np.array(values, wide), dtype.numpy).reshape(shape)


def _flatten(value: Any, dtype: DType) -> tuple[Shape, list[Any]]:
    """The shape along the first elements, and every element converted; the rest must be of that shape."""
    shape: list[int] = []
    first = value
    while type(first) is list:
        shape.append(len(first))
        if not first:
            break
        first = first[0]
    values: list[Any] = []
    _fill(values, value, 0, tuple(shape), dtype)
    return tuple(shape), values


def _fill(values: list[Any], value: Any, level: int, shape: Shape, dtype: DType) -> None:
    rank = len(shape)
    if type(value) is not list:
        if level != rank:
            raise InvalidInput(
                f"JSON Value: {debug(value)} found at incorrect level: {level + 1} in the JSON DOM. Expected at level: {rank}"
            )
        values.append(_convert(value, dtype))
        return
    if level >= rank:
        raise InvalidInput(f"Encountered list at unexpected level: {level} expected < {rank}")
    if len(value) != shape[level]:
        raise InvalidInput(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}"
        )
    if level == rank - 1 and _BULK.get(dtype, _never)(value):
        values += value
        return
    for element in value:
        _fill(values, element, level + 1, shape, dtype)


def _never(_: list[Any]) -> bool:
    return False


def _all_in(low: int, high: int) -> Callable[[list[Any]], bool]:
    return lambda values: set(map(type, values)) == {int} and low <= min(values) and max(values) <= high


def _all_numbers(values: list[Any]) -> bool:
    return set(map(type, values)) <= {int, float}


# Lists that may be taken whole: nothing in them could be refused.
_BULK: dict[DType, Callable[[list[Any]], bool]] = {
    DType.FLOAT32: _all_numbers,
    DType.FLOAT64: _all_numbers,
    DType.BOOL: lambda values: set(map(type, values)) <= {bool},
} | {
    dtype: _all_in(int(np.iinfo(dtype.numpy).min), int(np.iinfo(dtype.numpy).max))
    for dtype in DType
    if dtype.is_integer
}
_INT32 = range(-(2**31), 2**31)


def _convert(value: Any, dtype: DType) -> Any:
    """One element, as a Python number, bool or bytes that the dtype holds."""
    if dtype is DType.STRING:
        return _bytes(value, dtype)
    if dtype is DType.FLOAT16:
        raise Unsupported(f"Conversion of JSON Value: {debug(value)} to type: {DTYPE_NAMES[dtype]}")
    if dtype is DType.BOOL:
        return value if type(value) is bool else _mistyped(value, dtype)
    if type(value) is not int:
        return value if type(value) is float and not dtype.is_integer else _mistyped(value, dtype)
    if not dtype.is_integer:
        return value
    limits = np.iinfo(dtype.numpy)
    if not limits.min <= value <= limits.max:
        if dtype.numpy.itemsize >= 4 or value not in _INT32:
            _mistyped(value, dtype)
        raise InvalidInput(f"JSON Value: {value} is out of range for {DTYPE_NAMES[dtype]}")
    return value


def _mistyped(value: Any, dtype: DType) -> NoReturn:
    raise InvalidInput(
        f"JSON Value: {debug(value)} Type: {type_name(value)} is not of expected type: {DTYPE_NAMES[dtype]}"
    )


def _bytes(value: Any, dtype: DType) -> bytes:
    if type(value) is str:
        return value.encode("utf-8", "surrogateescape")
    if type(value) is not dict:
        _mistyped(value, dtype)
    return from_base64(value)


def is_base64(value: Any) -> bool:
    """Whether it is exactly `{"b64": "…"}`."""
    return type(value) is dict and len(value) == 1 and type(value.get("b64")) is str


def from_base64(value: dict[str, Any]) -> bytes:
    """What `{"b64": "…"}` stands for: the standard alphabet, blanks skipped, padding optional. Raises InvalidInput."""
    if not is_base64(value):
        raise InvalidInput(f"JSON Value: {debug(value)} not formatted correctly for base64 data")
    text = "".join(value["b64"].split())
    bare = text.rstrip("=")
    try:
        if len(bare) < len(text) and len(text) % 4:
            raise binascii.Error("wrong padding")
        return base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True)
    except ValueError:
        raise InvalidInput("Unable to base64 decode") from None
