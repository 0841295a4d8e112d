"""An inference request: bytes → what is asked, and a payload that becomes tensors once the model is known.

Rule 1: reading needs no model; what does is checked when the payload is bound.
Rule 2: an error is an EdgeError, whatever the bytes.
Sources: https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md#inference and
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from msgspec import UNSET

from edge.domain.errors import InvalidInput
from edge.domain.models import ModelSpec
from edge.domain.requests import NOTHING_CARRIED, Carried, Payload, PredictRequest
from edge.domain.tensors import Shape, show_dims
from edge.wire.v2_datatypes import KNOWN
from edge.wire.v2_errors import tagged
from edge.wire.v2_head import Head, InputHead, OutputHead, Span, check_content, no_shared_memory, read_head
from edge.wire.v2_payload import InferPayload, InputTensor, RawPayload, RequestedOutput

HEADER = "Inference-Header-Content-Length"
MAX_ELEMENTS = 2**59 - 1  # of one tensor, sizes of 0 not counted: as many of 16 bytes as an address can tell apart
MAX_REMEMBERED_BYTES, REMEMBERED = 2_048, 128
"""JSON up to this size, before tensors as bytes, is remembered with what it says: the last so many."""
_MICROSECOND = 1e-6


class ParsedInfer(NamedTuple):
    """What a request asks for. No `outputs` stands for all of them, as bytes if `binary`. `timeout_s` is None for none."""

    payload: Payload
    id: str = ""
    outputs: tuple[RequestedOutput, ...] = ()
    binary: bool = False
    signature_name: str = ""
    dequantize: bool | None = None
    timeout_s: float | None = None

    def request(
        self,
        spec: ModelSpec,
        *,
        now: float,
        deadline: float | None = None,
        protocol: str = "v2",
        caller: int = 0,
        carried: Carried = NOTHING_CARRIED,
    ) -> PredictRequest:
        """The request for the core, at loop time `now`; due at `deadline` or by its own timeout, if that is sooner."""
        if self.timeout_s is not None:
            own = now + self.timeout_s
            deadline = own if deadline is None else min(own, deadline)
        return PredictRequest(
            spec, self.payload, self.signature_name, self.dequantize, deadline, protocol, caller, carried
        )


def parse_header_length(value: str) -> int:
    """The value of Inference-Header-Content-Length → bytes. Raises InvalidInput."""
    if not value.isascii() or not value.isdigit() or len(value) > 19:
        raise InvalidInput(f"Unable to parse {HEADER}, got: {value}")
    return int(value)


def parse_infer(body: bytes, header_length: int | None, spec: ModelSpec) -> ParsedInfer:
    """A request's body → what it asks for. `header_length`: bytes of JSON, None for all of it. Raises InvalidInput.

    A length of 0, or no body at all, is a raw request: the bytes of the one input, and all outputs as bytes.
    """
    if header_length is None:
        header_length = len(body)
    elif not 0 <= header_length <= len(body):
        raise InvalidInput(f"inference header size should be in range (0, {len(body)}), got: {header_length}")
    if header_length == 0:
        return ParsedInfer(RawPayload(body, spec.name), binary=True)
    if header_length == len(body):
        asked = _read(body, len(body), spec.name)
    else:
        text = body[:header_length]
        read = _read_again if header_length <= MAX_REMEMBERED_BYTES else _read
        asked = read(text, len(body), spec.name)
    payload = InferPayload(body, header_length, spec.name, asked.id, asked.inputs, asked.outputs)
    return ParsedInfer(
        payload, asked.id, asked.outputs, asked.binary, asked.signature_name, asked.dequantize, asked.timeout_s
    )


class _Asked(NamedTuple):
    """All that a request's JSON says; where its inputs lie is counted from the body's start."""

    inputs: tuple[InputTensor, ...]
    id: str
    outputs: tuple[RequestedOutput, ...]
    binary: bool = False
    signature_name: str = ""
    dequantize: bool | None = None
    timeout_s: float | None = None


def _read(text: bytes, size: int, model: str) -> _Asked:
    """`size`: bytes of the whole body. Raises InvalidInput."""
    head, spans = read_head(text)
    given = head.parameters
    binary = given is not UNSET and given.binary_data_output
    outputs = _outputs(head, binary) if head.outputs else ()
    inputs = _inputs(head, spans, len(text), size, model)
    if given is UNSET:
        return _Asked(inputs, head.id, outputs)
    timeout_s = given.timeout * _MICROSECOND if given.timeout else None
    return _Asked(inputs, head.id, outputs, binary, given.signature_name, given.dequantize, timeout_s)


# A client whose tensors travel as bytes sends the same JSON again and again.
_read_again = lru_cache(maxsize=REMEMBERED)(_read)


def _inputs(head: Head, spans: Sequence[Span], at: int, end: int, model: str) -> tuple[InputTensor, ...]:
    """Where each input lies; binary ones follow each other from `at`, and nothing follows them before `end`."""
    found: dict[str, InputTensor] = {}
    for item in head.inputs:
        _check(item, head.id, item.name in found)
        if item.data is not UNSET:
            found[item.name] = _in_json(item, spans)
            continue
        size = _binary_size(item)
        if size > end - at:
            text = f"unexpected size for input '{item.name}', expecting {size - (end - at)} additional bytes"
            raise InvalidInput(f"{text} for model '{model}'")
        found[item.name] = InputTensor(item.name, item.datatype, item.shape, at, size, True)
        at += size
    if at != end:
        raise InvalidInput(f"unexpected additional input data for model '{model}'")
    return tuple(found.values())


def _check(item: InputHead, request_id: str, again: bool) -> None:
    if again:
        raise InvalidInput(tagged(request_id, f"input '{item.name}' already exists in request"))
    if item.datatype not in KNOWN:
        raise InvalidInput(f"invalid datatype for input {item.name}")
    check_content(item.data, item.parameters)
    if elements(item.shape) > MAX_ELEMENTS:
        text = f"invalid shape for input '{item.name}': shape {show_dims(item.shape)} causes total element count"
        raise InvalidInput(f"{text} to exceed maximum size of {MAX_ELEMENTS}")


def elements(shape: Shape) -> int:
    """How many there are, or would be if sizes of 0 were 1: numpy counts an empty tensor's other sizes too."""
    return math.prod(shape) or math.prod(size or 1 for size in shape)


def _in_json(item: InputHead, spans: Sequence[Span]) -> InputTensor:
    if not spans:
        return InputTensor(item.name, item.datatype, item.shape, 0, 0, False, item.data)
    start, stop = spans[item.data[0]]
    return InputTensor(item.name, item.datatype, item.shape, start, stop - start, False)


def _binary_size(item: InputHead) -> int:
    given = UNSET if item.parameters is UNSET else item.parameters.binary_data_size
    assert given is not UNSET, "an input without data has a binary size"
    return given


def _outputs(head: Head, binary: bool) -> tuple[RequestedOutput, ...]:
    found: dict[str, RequestedOutput] = {}
    for item in head.outputs:
        if item.name in found:
            raise InvalidInput(tagged(head.id, f"output '{item.name}' already exists in request"))
        found[item.name] = _output(item, binary)
    return tuple(found.values())


def _output(item: OutputHead, binary: bool) -> RequestedOutput:
    given = item.parameters
    if given is UNSET:
        return RequestedOutput(item.name, binary)
    if given.shared_memory_region is not UNSET:
        raise no_shared_memory()
    asked = given.binary_data
    return RequestedOutput(item.name, asked if isinstance(asked, bool) else binary, given.classification)
