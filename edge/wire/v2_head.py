"""The JSON object of an inference request, without the numbers that it may carry.

Rule 1: the arrays after `"data":` are cut out before the rest is read, so that they are looked at once, by what is made for them.
Rule 2: a sound request takes the typed decoder; anything else is read again, exactly, to say what is wrong with it.
Rule 3: unknown members are ignored. Of two members of one name the last holds.
Source: https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md#inference
"""

from __future__ import annotations

import re
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from edge.domain.errors import InvalidInput
from edge.domain.tensors import MAX_RANK
from edge.wire.json_exact import bound_values
from edge.wire.v2_exact import Members, parse

MAX_TENSORS = 1_024  # inputs, and requested outputs, of one request
MAX_SIZE = 2**63 - 1  # of one dimension, and of a tensor in bytes

Size = Annotated[int, Meta(ge=0, le=MAX_SIZE)]
Shape = Annotated[tuple[Size, ...], Meta(max_length=MAX_RANK)]
Span = tuple[int, int]


class InputParameters(Struct):
    """`binary_data_size` in bytes."""

    binary_data_size: Size | UnsetType = UNSET
    shared_memory_region: Any = UNSET


class InputHead(Struct):
    """`data`: objects; or, where the head comes with spans, a list of the one index into them."""

    name: str
    datatype: str
    shape: Shape
    parameters: InputParameters | UnsetType = UNSET
    data: Any = UNSET


class OutputParameters(Struct):
    """`classification`: how many of the best classes; 0 for the tensor itself."""

    binary_data: bool | UnsetType = UNSET
    classification: Size = 0
    shared_memory_region: Any = UNSET


class OutputHead(Struct):
    name: str
    parameters: OutputParameters | UnsetType = UNSET


class Parameters(Struct):
    """`timeout` in microseconds, 0 for none. What is not here (sequences, priorities) is tolerated and does nothing."""

    binary_data_output: bool = False
    dequantize: bool | None = None
    signature_name: str = ""
    timeout: Size = 0


class Head(Struct):
    inputs: Annotated[list[InputHead], Meta(max_length=MAX_TENSORS)]
    id: str = ""
    outputs: Annotated[list[OutputHead], Meta(max_length=MAX_TENSORS)] = []
    parameters: Parameters | UnsetType = UNSET


_decoder = msgspec.json.Decoder(Head)
_DATA = re.compile(rb'"data"[ \t\r\n]*:[ \t\r\n]*(?=\[)')


def read_head(text: bytes) -> tuple[Head, list[Span]]:
    """A request's JSON → its head, and where in `text` the inputs' data lie. Without spans, `data` are objects.

    Raises InvalidInput, TooLarge.
    """
    short, spans = _without_data(text)
    bound_values(short)
    try:
        if not short.isascii():
            short.decode()  # the decoder does not look into what it skips
        head = _decoder.decode(short)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return exact_head(text), []
    if spans:
        given = [tensor.data for tensor in head.inputs if tensor.data is not UNSET]
        # An array after another `"data":` than an input's was cut out, too.
        if len(given) != len(spans) or not all(type(data) is list for data in given):
            return exact_head(text), []
    return head, spans


def _without_data(text: bytes) -> tuple[bytes, list[Span]]:
    """`text` with `[0]`, `[1]`, … for the arrays of numbers that follow `"data":`, and where those were.

    The text itself and no spans where that is not certain to be right. Nobody can write `"data":[0]` and be taken for
    one of ours, since all that is written so has been cut; and a quote in a string wears a backslash.
    """
    at = text.find(b'"data"')
    if at < 0:
        return text, []
    pieces: list[bytes] = []
    spans: list[Span] = []
    done = 0
    while match := _DATA.search(text, at):
        start = match.end()
        # Numbers end before the next string and before the object's end, and each stretch is looked at once.
        quote = text.find(b'"', start)
        brace = text.find(b"}", start, quote if quote >= 0 else len(text))
        limit = brace if brace >= 0 else quote if quote >= 0 else len(text)
        at = text.rfind(b"]", start, limit) + 1
        if at == 0 or len(spans) == MAX_TENSORS:
            return text, []
        pieces += text[done:start], b"[%d]" % len(spans)
        spans.append((start, at))
        done = at
    pieces.append(text[done:])
    short = b"".join(pieces)
    return (text, []) if b"\\" in short else (short, spans)


def exact_head(text: bytes) -> Head:
    """The same head, member by member, with data as objects. Raises InvalidInput for the first that is wrong."""
    top = Members(parse(text))
    request_id = top.string("id", default="")
    parameters = _exact_parameters(top)
    inputs = [_exact_input(item) for item in top.objects("inputs", MAX_TENSORS)]
    outputs = [_exact_output(item) for item in top.objects("outputs", MAX_TENSORS, optional=True)]
    return Head(inputs, request_id, outputs, parameters)


def _exact_parameters(top: Members) -> Parameters:
    given = top.members("parameters")
    return Parameters(
        binary_data_output=given.boolean("binary_data_output", default=False),
        dequantize=given.boolean("dequantize", default=False) if given.has("dequantize") else None,
        signature_name=given.string("signature_name", default=""),
        timeout=given.unsigned("timeout", MAX_SIZE, default=0),
    )


def _exact_input(item: Members) -> InputHead:
    given = item.members("parameters")
    parameters = InputParameters(shared_memory_region=given.get("shared_memory_region", UNSET))
    if given.has("binary_data_size"):
        parameters.binary_data_size = given.unsigned("binary_data_size", MAX_SIZE)
    check_content(data := item.get("data", UNSET), parameters)
    return InputHead(
        item.string("name"), item.string("datatype"), item.sizes("shape", MAX_RANK, MAX_SIZE), parameters, data
    )


def _exact_output(item: Members) -> OutputHead:
    given = item.members("parameters")
    return OutputHead(
        item.string("name"),
        OutputParameters(
            binary_data=given.boolean("binary_data", default=False) if given.has("binary_data") else UNSET,
            classification=given.unsigned("classification", MAX_SIZE, default=0),
            shared_memory_region=given.get("shared_memory_region", UNSET),
        ),
    )


def check_content(data: Any, parameters: InputParameters | UnsetType) -> None:
    """One way of sending a tensor, and one that is served here. Raises InvalidInput."""
    size = UNSET if parameters is UNSET else parameters.binary_data_size
    region = UNSET if parameters is UNSET else parameters.shared_memory_region
    if (data is not UNSET) + (size is not UNSET) + (region is not UNSET) != 1:
        named = [("data", data), ("binary_data_size", size), ("shared_memory_region", region)]
        found = "".join(f" '{name}'" for name, value in named if value is not UNSET)
        raise InvalidInput(
            "Input must set only one of the following fields: 'data', 'binary_data_size' in 'parameters', "
            f"'shared_memory_region' in 'parameters'. But {'set' + found if found else 'no field is set'}"
        )
    if region is not UNSET:
        raise no_shared_memory()


def no_shared_memory() -> InvalidInput:
    return InvalidInput("shared memory regions are not supported; send tensors as 'data' or with 'binary_data_size'")
