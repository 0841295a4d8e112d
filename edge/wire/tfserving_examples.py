"""The body of a classify or regress request → one serialized tf.Example per example, for a model that parses them.

Rule 1: unlike a predict request's, the body is judged whole before the model is looked up.
Rule 2: signatures here carry no method name; it follows from their shape, as SavedModel's exporters make them.

Source: `FillClassificationRequestFromJson` of TensorFlow Serving's `util/json_tensor.cc`; TensorFlow's
`core/example/feature.proto`; https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from edge.domain.errors import InvalidInput
from edge.domain.requests import Payload, Target
from edge.domain.tensors import DType, Signature, Tensors
from edge.wire.tfserving_debug import debug, type_name
from edge.wire.tfserving_json import SLOW_BYTES, parse_document
from edge.wire.tfserving_tensors import from_base64

Method = Literal["classify", "regress"]
METHOD_NAMES = {method: f"tensorflow/serving/{method}" for method in ("predict", "classify", "regress")}
_NOUNS: dict[Method, str] = {"classify": "classification", "regress": "regression"}

# Feature's oneof: field number, and the kind's name in messages.
_KINDS = {"bytes": 1, "float": 2, "int64": 3}


@dataclass(frozen=True, slots=True)
class ParsedExamples:
    signature_name: str
    payload: Payload


def parse_examples(body: bytes, method: Method) -> ParsedExamples:
    """Raises InvalidInput."""
    document = parse_document(body)
    context = _features(document["context"]) if "context" in document else {}
    if "examples" not in document:
        raise InvalidInput(
            f"JSON Value: {debug(document)} When method is classify, key 'examples' is expected and was not found"
        )
    examples = document["examples"]
    if type(examples) is not list:
        raise InvalidInput(f"JSON Value: {debug(document)} Expecting 'examples' value to be an list/array")
    if not examples:
        raise InvalidInput(f"JSON Value: {debug(document)} 'examples' value is an empty array")
    serialized = [_example(context | _features(example)) for example in examples]
    return ParsedExamples(document.get("signature_name", ""), ExamplesPayload(len(body), method, serialized))


def method_name(signature: Signature) -> str:
    """`tensorflow/serving/classify` or `…/regress` where a signature takes examples and gives what those give."""
    inputs = list(signature.inputs.values())
    outputs = signature.outputs
    if len(inputs) != 1 or inputs[0].dtype is not DType.STRING or inputs[0].shape is None or len(inputs[0].shape) != 1:
        return METHOD_NAMES["predict"]
    if outputs and outputs.keys() <= {"classes", "scores"}:
        return METHOD_NAMES["classify"]
    if outputs.keys() == {"outputs"} and outputs["outputs"].dtype is DType.FLOAT32:
        return METHOD_NAMES["regress"]
    return METHOD_NAMES["predict"]


class ExamplesPayload:
    """`examples`: serialized. `size`: bytes of the request."""

    def __init__(self, size: int, method: Method, examples: list[bytes]) -> None:
        self.size = size
        self.slow = size > SLOW_BYTES
        self._method = method
        self._examples = examples

    def bind(self, target: Target) -> Tensors:
        """One string tensor of rank 1."""
        want, got = METHOD_NAMES[self._method], method_name(target.signature)
        if got != want:
            raise InvalidInput(f"Expected {_NOUNS[self._method]} signature method_name to be {want}. Was: {got}")
        tensor = np.empty(len(self._examples), object)
        tensor[:] = self._examples
        return {next(iter(target.signature.inputs)): tensor}


def _features(example: Any) -> dict[str, bytes]:
    """Each feature's name and its serialized `Feature`."""
    if type(example) is not dict:
        raise InvalidInput(f"Example must be JSON object but got JSON {type_name(example)}")
    return {name: _feature(name, value) for name, value in example.items()}


def _feature(name: str, value: Any) -> bytes:
    """One kind per feature, that of its first element; none for an empty list."""
    elements: list[bytes | float | int] = []
    kind = ""
    for element in value if type(value) is list else [value]:
        of_kind, converted = _element(name, element)
        if kind not in ("", of_kind):
            raise InvalidInput(f"Unexpected element type in feature: {name} expecting type: {kind}")
        kind = of_kind
        elements.append(converted)
    return _field(_KINDS[kind], _list(kind, elements)) if kind else b""


def _element(name: str, value: Any) -> tuple[str, Any]:
    if type(value) is str:
        return "bytes", value.encode("utf-8", "surrogateescape")
    if type(value) is dict:
        return "bytes", from_base64(value)
    if type(value) is float:
        return "float", value
    if type(value) is bool or type(value) is int:
        if value >= 2**63:
            raise InvalidInput(f"Feature: {name} has uint64_t element. Only int64_t is supported.")
        return "int64", int(value)
    raise InvalidInput(f"Feature: {name} has element with unexpected JSON type: {type_name(value)}")


def _list(kind: str, elements: list[Any]) -> bytes:
    """A serialized BytesList, FloatList or Int64List; numbers are packed."""
    if kind == "bytes":
        return b"".join(_field(1, element) for element in elements)
    if kind == "float":
        with np.errstate(over="ignore"):
            return _field(1, np.array(elements, "<f8").astype("<f4").tobytes())
    return _field(1, b"".join(_varint(element & (2**64 - 1)) for element in elements))


def _example(features: dict[str, bytes]) -> bytes:
    entries = (
        _field(1, _field(1, name.encode("utf-8", "surrogateescape")) + _field(2, feature))
        for name, feature in features.items()
    )
    return _field(1, b"".join(entries))


def _field(number: int, content: bytes) -> bytes:
    """A length-delimited field."""
    return struct.pack("B", number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)
