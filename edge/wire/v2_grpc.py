"""An inference over gRPC, as the Open Inference Protocol v2 has it: messages → what is asked, and answers → messages.

Rule 1: tensors come as `raw_input_contents`, all of them, or in `contents`; answers go as `raw_output_contents`, as Triton's
do, unless the parameter `binary_data_output` is false. Rule 2: an error is an EdgeError, whatever the bytes.
Source: https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_grpc.md
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from edge.domain.errors import InvalidInput, TensorMismatch
from edge.domain.models import MAX_VERSION, ModelSpec
from edge.domain.requests import PredictResponse, Target
from edge.domain.tensors import MAX_RANK, Array, DType, Shape, Tensors, TensorSpec
from edge.wire import v2_binary
from edge.wire.proto.messages import message, parse
from edge.wire.v2_datatypes import DTYPES, KNOWN, LITTLE, NAMES
from edge.wire.v2_errors import tagged
from edge.wire.v2_head import MAX_TENSORS, no_shared_memory
from edge.wire.v2_payload import RequestedOutput, check_names
from edge.wire.v2_reply import classify
from edge.wire.v2_request import MAX_ELEMENTS, ParsedInfer, elements

SLOW_BYTES = 1 << 16
"""Values one by one, in `contents`, are read off the event loop above this size."""
MICROSECOND = 1e-6
_CONTENTS = {
    "b": "bool_contents",
    "O": "bytes_contents",
    DType.INT64: "int64_contents",
    DType.UINT64: "uint64_contents",
    DType.FLOAT32: "fp32_contents",
    DType.FLOAT64: "fp64_contents",
    "i": "int_contents",
    "u": "uint_contents",
}


class AskedInfer(NamedTuple):
    """`parsed` as of a request over HTTP. `raw`: whether tensors go as bytes."""

    spec: ModelSpec
    parsed: ParsedInfer
    raw: bool


def spec_of(name: str, version: str) -> ModelSpec:
    """Raises InvalidInput."""
    if not version:
        return ModelSpec(name)
    if version.isascii() and version.isdecimal() and len(version) <= 19 and 0 <= int(version) <= MAX_VERSION:
        return ModelSpec(name, int(version))
    raise InvalidInput(
        f"failed to get model version from specified version string '{version[:40]}' "
        "(details: version should be an integer > 0 value)"
    )


def parse_infer(body: bytes) -> AskedInfer:
    """Raises InvalidInput."""
    return read_infer(parse("inference.ModelInferRequest", body), len(body))


def read_infer(request: Any, size: int) -> AskedInfer:
    """`request`: a ModelInferRequest of `size` bytes. Raises InvalidInput."""
    given = {name: _value(each) for name, each in request.parameters.items()}
    spec = spec_of(request.model_name, request.model_version)
    outputs = tuple(_output(each, request.id) for each in _bounded(request.outputs, "outputs"))
    if len({output.name for output in outputs}) != len(outputs):
        raise InvalidInput(tagged(request.id, "an output was asked for twice"))
    payload = GrpcPayload(size, spec.name, request.id, _inputs(request), outputs)
    timeout_us = _typed(given, "timeout", int, 0)
    parsed = ParsedInfer(
        payload,
        request.id,
        outputs,
        True,
        _typed(given, "signature_name", str, ""),
        _typed(given, "dequantize", bool, None),
        timeout_us * MICROSECOND if timeout_us else None,
    )
    return AskedInfer(spec, parsed, _typed(given, "binary_data_output", bool, True))


class Input(NamedTuple):
    """`raw` bytes, or None with the `contents`."""

    name: str
    datatype: str
    shape: Shape
    raw: bytes | None
    contents: Any


class GrpcPayload:
    def __init__(
        self, size: int, model: str, id: str, inputs: tuple[Input, ...], outputs: tuple[RequestedOutput, ...]
    ) -> None:
        self.size = size
        self.slow = size > SLOW_BYTES and any(each.raw is None for each in inputs)
        self._model, self._id, self._inputs, self._outputs = model, id, inputs, outputs

    def bind(self, target: Target) -> Tensors:
        """Raises EdgeError."""
        check_names(target.signature, [each.name for each in self._inputs], self._outputs, self._model)
        return {each.name: self._read(each, target.signature.inputs[each.name]) for each in self._inputs}

    def _read(self, given: Input, spec: TensorSpec) -> Array:
        dtype = DTYPES.get(given.datatype)
        if dtype is None or dtype is not spec.dtype:
            raise TensorMismatch(spec, "bf16" if dtype is None else dtype.value, given.shape)
        return self._from_contents(given, dtype) if given.raw is None else self._from_raw(given, given.raw, dtype)

    def _from_raw(self, given: Input, raw: bytes, dtype: DType) -> Array:
        if dtype is DType.STRING:
            try:
                return v2_binary.read_strings(raw, 0, len(raw), given.shape)
            except ValueError as error:
                text = f"BYTES of input '{given.name}' for model '{self._model}': {error}"
                raise InvalidInput(tagged(self._id, text)) from None
        array = v2_binary.read_numbers(raw, 0, len(raw), dtype, given.shape)
        if array is None:
            want = math.prod(given.shape) * LITTLE[dtype].itemsize
            raise InvalidInput(
                tagged(
                    self._id,
                    f"input byte size mismatch for input '{given.name}' for model '{self._model}'. "
                    f"Expected {want}, got {len(raw)}",
                )
            )
        return array

    def _from_contents(self, given: Input, dtype: DType) -> Array:
        field = contents_field(dtype)
        if field is None:
            raise InvalidInput(f"input '{given.name}': want raw_input_contents for {given.datatype}, got contents")
        values, count = getattr(given.contents, field), math.prod(given.shape)
        if len(values) != count:
            raise InvalidInput(
                f"unexpected number of elements {len(values)} for inference input '{given.name}', expecting {count}"
            )
        if dtype is DType.STRING:
            array: Array = np.empty(count, object)
            array[:] = list(values)
            return array.reshape(given.shape)
        wide = np.fromiter(values, {"i": np.int64, "u": np.uint64}.get(dtype.numpy.kind, dtype.numpy), count)
        if dtype.is_integer and count:
            limits = np.iinfo(dtype.numpy)
            if wide.min() < limits.min or wide.max() > limits.max:
                raise InvalidInput(
                    f"input '{given.name}': want {given.datatype} from {limits.min} to {limits.max}, got another value"
                )
        return wide.astype(dtype.numpy).reshape(given.shape)


def contents_field(dtype: DType) -> str | None:
    """Of InferTensorContents; None for FP16, which has none."""
    return _CONTENTS.get(dtype) or _CONTENTS.get(dtype.numpy.kind)


def reply(response: PredictResponse, asked: AskedInfer) -> Any:
    """A ModelInferResponse. Raises InvalidInput for an output that cannot be sent as asked."""
    made = message("inference.ModelInferResponse")()
    made.model_name, made.model_version, made.id = response.model.name, str(response.model.version), asked.parsed.id
    wishes = asked.parsed.outputs or tuple(RequestedOutput(name) for name in response.signature.outputs)
    for wish in wishes:
        array = response.outputs[wish.name]
        if wish.classification:
            array = classify(array, wish.classification, response.class_names)
        dtype = DType.of(array)
        tensor = made.outputs.add(name=wish.name, datatype=NAMES[dtype], shape=array.shape)
        if asked.raw:
            made.raw_output_contents.append(bytes(v2_binary.write(array)))
            continue
        field = contents_field(dtype)
        if field is None:
            raise InvalidInput(f"output '{wish.name}': {NAMES[dtype]} has no contents; ask for it as bytes")
        getattr(tensor.contents, field).extend(array.ravel().tolist())
    return made


def _inputs(request: Any) -> tuple[Input, ...]:
    listed = _bounded(request.inputs, "inputs")
    raws = request.raw_input_contents
    if raws and len(raws) != len(listed):
        raise InvalidInput(
            tagged(request.id, f"expected {len(listed)} raw_input_contents, one for each input, got {len(raws)}")
        )
    found: dict[str, Input] = {}
    for index, each in enumerate(listed):
        _check(each, request, each.name in found)
        if raws and each.HasField("contents"):
            raise InvalidInput(
                f"contents field must not be specified when using raw_input_contents for '{each.name}' "
                f"for model '{request.model_name}'"
            )
        raw = raws[index] if raws else None
        found[each.name] = Input(each.name, each.datatype, tuple(each.shape), raw, each.contents)
    return tuple(found.values())


def _check(given: Any, request: Any, again: bool) -> None:
    if again:
        raise InvalidInput(tagged(request.id, f"input '{given.name}' already exists in request"))
    if given.datatype not in KNOWN:
        raise InvalidInput(f"invalid datatype for input {given.name}")
    if "shared_memory_region" in given.parameters:
        raise no_shared_memory()
    shape = tuple(given.shape)
    if len(shape) > MAX_RANK or any(size < 0 for size in shape) or elements(shape) > MAX_ELEMENTS:
        raise InvalidInput(
            f"invalid shape for input '{given.name}': want at most {MAX_RANK} sizes of at least 0, "
            f"and {MAX_ELEMENTS} elements"
        )


def _output(given: Any, request_id: str) -> RequestedOutput:
    parameters = {name: _value(each) for name, each in given.parameters.items()}
    if "shared_memory_region" in parameters:
        raise no_shared_memory()
    count = _typed(parameters, "classification", int, 0)
    if count < 0:
        raise InvalidInput(tagged(request_id, f"classification: want a number of at least 0, got {count}"))
    return RequestedOutput(given.name, True, count)


def _bounded(listed: Any, what: str) -> Any:
    if len(listed) > MAX_TENSORS:
        raise InvalidInput(f"want at most {MAX_TENSORS} {what}, got {len(listed)}")
    return listed


def _value(parameter: Any) -> Any:
    chosen = parameter.WhichOneof("parameter_choice")
    return getattr(parameter, chosen) if chosen else None


def _typed(given: dict[str, Any], name: str, kind: type, default: Any) -> Any:
    value = given.get(name)
    if value is None:
        return default
    negative = isinstance(value, int) and value < 0
    if type(value) is not kind or negative:
        raise InvalidInput(f"parameter '{name}': want {_KINDS[kind]}, got {value!r:.40}")
    return value


_KINDS: dict[type, str] = {bool: "a bool_param", str: "a string_param", int: "an int64_param of at least 0"}
