"""Arrays ↔ the Open Inference Protocol's JSON with tensors as bytes behind it. No I/O.

Rule 1: numbers are not copied: out they go as they lie, in they are views on the body, which may be written to.
Rule 2: whoever answers may lie: every size is checked before it is believed, and what is wrong is BadAnswer.
Sources: https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md and
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np

from edge.client.errors import BadAnswer, Invalid
from edge.domain.tensors import MAX_RANK, Array, DType

HEADER = "Inference-Header-Content-Length"
ALIGNMENT = 64
"""Bytes: what a body's first tensor begins at a multiple of."""
MAX_STRINGS = 1 << 20
MAX_OUTPUTS = 1024
_LENGTH = struct.Struct("<I")

NAMES: dict[DType, str] = {
    dtype: {"float": "FP", "uint": "UINT", "int": "INT"}[dtype.value.rstrip("0123456789")]
    + dtype.value.lstrip("abcdefghijklmnopqrstuvwxyz")
    for dtype in DType
    if dtype not in (DType.BOOL, DType.STRING)
} | {DType.BOOL: "BOOL", DType.STRING: "BYTES"}
_DTYPES = {name: dtype for dtype, name in NAMES.items()}

Size = Annotated[int, msgspec.Meta(ge=0, le=2**40)]
Body = bytes | bytearray | memoryview


class _Parameters(msgspec.Struct):
    binary_data_size: Size | None = None


class _Output(msgspec.Struct):
    name: str
    datatype: str
    shape: Annotated[list[Size], msgspec.Meta(max_length=MAX_RANK)]
    parameters: _Parameters = msgspec.field(default_factory=_Parameters)
    data: Any = msgspec.UNSET


class _Head(msgspec.Struct):
    model_name: str
    outputs: Annotated[list[_Output], msgspec.Meta(max_length=MAX_OUTPUTS)]
    model_version: str = ""


_HEAD = msgspec.json.Decoder(_Head)


class Request(NamedTuple):
    """`pieces` follow each other on the wire; the first `head` bytes are JSON."""

    head: int
    pieces: list[bytes | memoryview]


class Prediction(dict[str, Array]):
    """A model's outputs by name. `model` and `version` gave them."""

    def __init__(self, outputs: Mapping[str, Array], model: str, version: int | None) -> None:
        super().__init__(outputs)
        self.model, self.version = model, version

    @property
    def only(self) -> Array:
        """The output of a model that has one. Raises ValueError for one that has more."""
        if len(self) != 1:
            raise ValueError(f"want a model with one output, got {', '.join(self)}")
        return next(iter(self.values()))


def encode(inputs: Mapping[str, Any], outputs: Sequence[str] | None, parameters: Mapping[str, Any]) -> Request:
    """A request for `outputs`, or for all. inputs: what `numpy.asarray` takes, by name. Raises Invalid."""
    heads, tails = [], []
    for name, value in inputs.items():
        array, dtype = _array(name, value)
        data = _strings(array) if dtype is DType.STRING else _numbers(array)
        shape = list(array.shape)
        heads.append({"name": name, "datatype": NAMES[dtype], "shape": shape, "parameters": {_BINARY: len(data)}})
        tails.append(data)
    document: dict[str, Any] = {"inputs": heads, "parameters": {"binary_data_output": True, **parameters}}
    if outputs is not None:
        document["outputs"] = [{"name": name, "parameters": {"binary_data": True}} for name in outputs]
    head = msgspec.json.encode(document)
    head += b" " * (-len(head) % 8)  # the first tensor begins where the server may read it in place
    return Request(len(head), [head, *tails])


_BINARY = "binary_data_size"


def _array(name: str, value: Any) -> tuple[Array, DType]:
    try:
        array = np.asarray(value)
    except UnicodeDecodeError:  # bytes beside text
        array = np.asarray(value, object)
    except (ValueError, TypeError, OverflowError) as error:
        raise Invalid(f"{name}: want an array: {error}") from None
    if array.dtype.kind in "US":
        # Anew from a list: in an array of its own kind a string has lost the zeros at its end.
        array = array.astype(object) if isinstance(value, np.ndarray) else np.asarray(value, object)
    try:
        return array, DType.of(array.astype(array.dtype.newbyteorder("="), copy=False))
    except KeyError:
        raise Invalid(f"{name}: want numbers, truths or strings, got {array.dtype}") from None


def _numbers(array: Array) -> memoryview:
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return little.reshape(-1).view(np.uint8).data


def _strings(array: Array) -> bytes:
    pieces: list[bytes] = []
    for item in array.ravel():
        if not isinstance(item, str | bytes):
            raise Invalid(f"want strings or bytes, got {type(item).__name__}")
        data = item.encode() if isinstance(item, str) else item
        pieces += (_LENGTH.pack(len(data)), data)
    return b"".join(pieces)


def decode(head_length: str, body: Body) -> Prediction:
    """A good answer's body. head_length: the value of HEADER, empty where it is all JSON. Raises BadAnswer."""
    view = memoryview(body)
    head_size = _head_size(head_length, len(view))
    try:
        head = _HEAD.decode(view[:head_size])
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise BadAnswer(f"want the JSON of an inference's answer: {error}") from None
    at, found = head_size, {}
    for output in head.outputs:
        size = output.parameters.binary_data_size
        if output.name in found:
            raise BadAnswer(f"output {output.name!r} came twice")
        if size is None:
            found[output.name] = _from_json(output)
            continue
        if size > len(view) - at:
            raise BadAnswer(f"output {output.name!r}: want {size} bytes, got {len(view) - at}")
        found[output.name] = _from_bytes(output, view[at : at + size])
        at += size
    if at != len(view):
        raise BadAnswer(f"want {at} bytes, got {len(view)}")
    version = head.model_version
    return Prediction(found, head.model_name, int(version) if version.isdecimal() and len(version) < 20 else None)


def _head_size(text: str, size: int) -> int:
    if not text:
        return size
    if not (text.isascii() and text.isdecimal() and len(text) < 16 and int(text) <= size):
        raise BadAnswer(f"{HEADER}: want at most {size}, got {text[:40]!r}")
    return int(text)


def _dtype(output: _Output) -> DType:
    if output.datatype not in _DTYPES:
        raise BadAnswer(f"output {output.name!r}: want one of {', '.join(_DTYPES)}, got {output.datatype[:40]!r}")
    return _DTYPES[output.datatype]


def _from_bytes(output: _Output, data: memoryview) -> Array:
    dtype, count = _dtype(output), math.prod(output.shape)
    if dtype is DType.STRING:
        return _from_strings(output, data, count)
    kind = np.dtype(np.uint8) if dtype is DType.BOOL else dtype.numpy.newbyteorder("<")
    if count * kind.itemsize != len(data):
        raise BadAnswer(f"output {output.name!r}: want {count * kind.itemsize} bytes, got {len(data)}")
    array: Array = np.frombuffer(data, kind) if count else np.empty(0, kind)
    if not array.flags.aligned:
        array = array.copy()
    # Not a view as bool: whoever answers may send other truths than 0 and 1, which numpy would believe.
    return _shaped(output, array != 0 if dtype is DType.BOOL else array)


def _from_strings(output: _Output, data: memoryview, count: int) -> Array:
    if count > MAX_STRINGS:
        raise BadAnswer(f"output {output.name!r}: want at most {MAX_STRINGS} strings, got {count}")
    found, at = np.empty(count, object), 0
    for index in range(count):
        first = at + _LENGTH.size
        at = first + (_LENGTH.unpack_from(data, at)[0] if first <= len(data) else 0)
        if at > len(data):
            raise BadAnswer(f"output {output.name!r}: string {index} ends behind its {len(data)} bytes")
        found[index] = bytes(data[first:at])
    if at != len(data):
        raise BadAnswer(f"output {output.name!r}: want {at} bytes, got {len(data)}")
    return _shaped(output, found)


def _from_json(output: _Output) -> Array:
    dtype, data = _dtype(output), output.data
    if not isinstance(data, list) or len(data) > MAX_STRINGS:
        raise BadAnswer(f"output {output.name!r}: want a list of at most {MAX_STRINGS} elements")
    kind = str if dtype is DType.STRING else (int, float)
    if not all(isinstance(item, kind) for item in data):
        raise BadAnswer(f"output {output.name!r}: want a flat list of {output.datatype}")
    if dtype is DType.STRING:
        array = np.empty(len(data), object)
        array[:] = [item.encode() for item in data]
        return _shaped(output, array)
    try:
        return _shaped(output, np.array(data, dtype.numpy))
    except (OverflowError, ValueError, TypeError) as error:
        raise BadAnswer(f"output {output.name!r}: {error}") from None


def _shaped(output: _Output, array: Array) -> Array:
    try:
        return array.reshape(output.shape)
    except ValueError:
        raise BadAnswer(f"output {output.name!r}: want the shape {output.shape}, got {array.size} elements") from None
