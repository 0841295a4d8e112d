"""The body of a predict request: what can be said of it without the model, and its tensors once there is one.

Three readers, quickest first; each takes only what the next would read alike: array operations for pictures
(`json_dense`), simdjson for arrays of numbers (`json_fast`), and the exact reader, which takes everything else and
words every complaint.

Rule 1: what is wrong is found in TensorFlow Serving's order: empty body, JSON, object, signature name, and at
binding, when the model is known, the rest.
Rule 2: a reader that gives up leaves no trace; the next one starts from the body.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from edge.domain.errors import InvalidInput
from edge.domain.requests import Payload, Target
from edge.domain.tensors import Tensors
from edge.wire import json_dense, json_exact, json_fast
from edge.wire.encoding import Claim, CorruptBody, free, inflate
from edge.wire.tfserving_debug import debug
from edge.wire.tfserving_tensors import Specs, from_inputs, from_instances

PICTURES = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG\r\n": "image/png", b"BM": "image/bmp"}
"""How the files begin that somebody may send without saying what they are."""

SLOW_BYTES = 1 << 16
"""A body larger than this is bound off the event loop when only the exact reader takes it."""


class ParsedPredict(NamedTuple):
    """`row`: the request used `instances`, and its reply has a `predictions` entry per row."""

    signature_name: str
    row: bool
    payload: Payload


def read_body(body: bytes, content_encoding: str, max_bytes: int, claim: Claim = free) -> bytes:
    """The body without its content encoding; a corrupt one counts as empty. Raises TooLarge, and what `claim` raises."""
    try:
        return inflate(body, content_encoding, max_bytes, claim)
    except CorruptBody:
        return b""


def parse_predict(body: bytes) -> ParsedPredict:
    """Everything that needs no model. Blocks for some 3 ms per MB of numbers. Raises InvalidInput."""
    dense = json_dense.read(body)
    if dense is not None:
        return ParsedPredict(dense.signature_name, dense.key == "instances", _DensePayload(body, dense))
    fast = json_fast.read(body)
    if fast is not None:
        return ParsedPredict(fast.signature_name, fast.key == "instances", _FastPayload(body, fast))
    document = parse_document(body)
    name = document.get("signature_name", "")
    return ParsedPredict(name, "instances" in document, _TreePayload(len(body), document))


def parse_document(body: bytes) -> dict[str, Any]:
    """The root object, whose `signature_name`, if any, is a string. Raises InvalidInput."""
    if not body:
        raise InvalidInput("JSON Parse error: The document is empty")
    try:
        document = json_exact.parse(body)
    except json_exact.JsonError as error:
        raise InvalidInput(f"JSON Parse error: {error}{_perhaps_a_picture(body)}") from None
    if type(document) is not dict:
        raise InvalidInput(f"JSON Value: {debug(document)} Is not object")
    if type(document.get("signature_name", "")) is not str:
        raise InvalidInput(
            f"JSON Value: {debug(document)} not formatted correctly. 'signature_name' key must be a string value."
        )
    return document


class _FastPayload:
    def __init__(self, body: bytes, document: json_fast.FastDocument) -> None:
        self._body = body
        self._document = document
        self.size = len(body)
        self.slow = self.size > SLOW_BYTES and not document.numeric

    def bind(self, target: Target) -> Tensors:
        specs = target.signature.inputs
        if len(specs) == 1:
            ((name, spec),) = specs.items()
            array = self._document.take(name, spec.dtype.numpy)
            if array is not None:
                return {name: array}
        elif specs:
            arrays = self._document.take_all({name: spec.dtype.numpy for name, spec in specs.items()})
            if arrays is not None:
                return arrays
        return bind_document(parse_document(self._body), specs)


class _DensePayload:
    slow = False

    def __init__(self, body: bytes, dense: json_dense.Dense) -> None:
        self._body = body
        self._dense = dense
        self.size = len(body)

    def bind(self, target: Target) -> Tensors:
        specs = target.signature.inputs
        if len(specs) == 1:
            ((name, spec),) = specs.items()
            array = self._dense.as_dtype(spec.dtype.numpy)
            if array is not None:
                return {name: array}
        return bind_document(parse_document(self._body), specs)


class _TreePayload:
    def __init__(self, size: int, document: dict[str, Any]) -> None:
        self._document = document
        self.size = size
        self.slow = size > SLOW_BYTES

    def bind(self, target: Target) -> Tensors:
        return bind_document(self._document, target.signature.inputs)


def bind_document(document: dict[str, Any], specs: Specs) -> Tensors:
    """Tensors by the exact reader. Raises InvalidInput, Unsupported."""
    if not specs:
        name = document.get("signature_name", "")
        raise InvalidInput(f"Failed to get input map for signature: {name or 'DEFAULT'}")
    if "instances" in document:
        if "inputs" in document:
            raise InvalidInput(
                f"JSON Value: {debug(document)} Not formatted correctly expecting only one of 'inputs' or "
                "'instances' keys to exist "
            )
        return from_instances(document, specs)
    if "inputs" in document:
        return from_inputs(document["inputs"], specs)
    raise InvalidInput("Missing 'inputs' or 'instances' key")


def _perhaps_a_picture(body: bytes) -> str:
    """What somebody forgot who sent one as it is."""
    kind = next((kind for magic, kind in PICTURES.items() if body.startswith(magic)), None)
    return f"; these are the bytes of a picture: send the header 'Content-Type: {kind}'" if kind else ""
