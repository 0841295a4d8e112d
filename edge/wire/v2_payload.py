"""The inputs of an inference request, waiting to be told the model that they are for.

Rule 1: types, shapes and names are checked here; an error is an EdgeError, whatever the bytes.
Rule 2: binary tensors are views on the body; arrays of numbers in JSON are read here, which may be in any thread.
Source: https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md#inference
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

from msgspec import UNSET, Struct

from edge.domain.errors import InvalidInput, MissingTensors, TensorMismatch, UnexpectedTensor
from edge.domain.requests import Target
from edge.domain.tensors import Array, DType, Shape, Signature, Tensors, TensorSpec
from edge.wire import v2_arrays, v2_binary
from edge.wire.v2_datatypes import DTYPES, LITTLE
from edge.wire.v2_errors import tagged
from edge.wire.v2_head import exact_head


class RequestedOutput(Struct, frozen=True):
    """`binary`: as bytes behind the JSON. `classification`: that many best classes for the tensor; 0 for itself."""

    name: str
    binary: bool = False
    classification: int = 0


class InputTensor(Struct, frozen=True):
    """`size` bytes of the body from `start`, elements if `binary`, else a JSON array; or `data`, objects of JSON."""

    name: str
    datatype: str
    shape: Shape
    start: int
    size: int
    binary: bool
    data: Any = UNSET


class InferPayload(NamedTuple):
    """The inputs of a request whose head has been read. `head_size`: bytes of JSON before the binary tensors."""

    body: bytes
    head_size: int
    model: str
    id: str
    inputs: tuple[InputTensor, ...]
    outputs: tuple[RequestedOutput, ...]

    @property
    def size(self) -> int:
        return len(self.body)

    @property
    def slow(self) -> bool:
        return False

    def bind(self, target: Target) -> Tensors:
        """The target's inputs. Raises EdgeError."""
        wanted = target.signature.inputs
        check_names(target.signature, [tensor.name for tensor in self.inputs], self.outputs, self.model)
        return {tensor.name: self._read(tensor, wanted[tensor.name]) for tensor in self.inputs}

    def _read(self, tensor: InputTensor, spec: TensorSpec) -> Array:
        dtype = DTYPES.get(tensor.datatype)
        if dtype is None or dtype is not spec.dtype:
            raise TensorMismatch(spec, "bf16" if dtype is None else dtype.value, tensor.shape)
        # Whether the shape fits is the core's to say: a model of one row may still be asked for several.
        return self._from_bytes(tensor, dtype) if tensor.binary else self._from_json(tensor, dtype)

    def _from_bytes(self, tensor: InputTensor, dtype: DType) -> Array:
        if dtype is DType.STRING:
            try:
                return v2_binary.read_strings(self.body, tensor.start, tensor.size, tensor.shape)
            except ValueError as error:
                text = f"BYTES of input '{tensor.name}' for model '{self.model}': {error}"
                raise InvalidInput(tagged(self.id, text)) from None
        array = v2_binary.read_numbers(self.body, tensor.start, tensor.size, dtype, tensor.shape)
        if array is None:
            raise _size_mismatch(self.id, tensor.name, self.model, dtype, tensor.shape, tensor.size)
        return array

    def _from_json(self, tensor: InputTensor, dtype: DType) -> Array:
        if tensor.data is not UNSET:
            return v2_arrays.from_objects(tensor.data, dtype, tensor.shape)
        text = self.body[tensor.start : tensor.start + tensor.size]
        array = v2_arrays.from_text(text, dtype, tensor.shape)
        if array is None:
            # What is wrong may lie anywhere in the head, so all of it is read again; inputs keep their places.
            head = exact_head(self.body[: self.head_size])
            data = head.inputs[self.inputs.index(tensor)].data
            array = v2_arrays.from_objects(data, dtype, tensor.shape)
        return array


def check_names(signature: Signature, given: list[str], outputs: tuple[RequestedOutput, ...], model: str) -> None:
    """Raises UnexpectedTensor, MissingTensors, InvalidInput. No name comes twice."""
    wanted = signature.inputs
    for name in given:
        if name not in wanted:
            raise UnexpectedTensor(name, tuple(wanted))
    if len(given) != len(wanted):
        raise MissingTensors(tuple(wanted), tuple(given))
    for output in outputs:
        if output.name not in signature.outputs:
            raise InvalidInput(f"unexpected inference output '{output.name}' for model '{model}'")


@dataclass(frozen=True, slots=True)
class RawPayload:
    """A body without JSON: the elements of a model's only input."""

    body: bytes
    model: str

    @property
    def size(self) -> int:
        return len(self.body)

    @property
    def slow(self) -> bool:
        return False

    def bind(self, target: Target) -> Tensors:
        """The target's only input; one unknown size is what the bytes make of it. Raises EdgeError."""
        wanted = target.signature.inputs
        if len(wanted) != 1:
            text = f"Raw request must only have 1 input (found 1) to be deduced but got {len(wanted)} inputs"
            raise InvalidInput(tagged("", f"{text} in '{self.model}' model configuration"))
        name, spec = next(iter(wanted.items()))
        shape = self._shape(spec)
        if spec.dtype is DType.STRING:
            return {name: v2_binary.one_string(self.body, shape)}
        array = v2_binary.read_numbers(self.body, 0, len(self.body), spec.dtype, shape)
        if array is None:
            raise _size_mismatch("", "raw_input", self.model, spec.dtype, shape, len(self.body))
        return {name: array}

    def _shape(self, spec: TensorSpec) -> Shape:
        if spec.shape is None or spec.shape.count(-1) > 1:
            text = f"The shape of the raw input '{spec.name}' can not be deduced because there are more than"
            raise InvalidInput(tagged("", f"{text} one variable-sized dimension"))
        known = math.prod(size for size in spec.shape if size >= 0)
        if spec.dtype is DType.STRING:
            if known != 1:
                text = f"For BYTE datatype raw input '{spec.name}', the model must have input shape [1]"
                raise InvalidInput(tagged("", text))
            return (1,) * len(spec.shape)
        # At least one, so that an empty body is told how much was wanted.
        unknown = max(1, len(self.body) // max(1, known * LITTLE[spec.dtype].itemsize))
        return tuple(unknown if size < 0 else size for size in spec.shape)


def _size_mismatch(request_id: str, name: str, model: str, dtype: DType, shape: Shape, got: int) -> InvalidInput:
    want = math.prod(shape) * LITTLE[dtype].itemsize
    text = f"input byte size mismatch for input '{name}' for model '{model}'. Expected {want}, got {got}"
    return InvalidInput(tagged(request_id, text))
