"""A request's payload, whatever its form: the same readers and writers as HTTP's, so that answers are the same, too.

| payload | is read as | answered as |
|---|---|---|
| JSON with `instances`, or with `inputs` that are no list of objects | TensorFlow Serving's | so |
| other JSON | Open Inference Protocol v2 | so |
| JSON and then bytes (`inference-header-content-length`) | v2 with binary tensors | as it asks |
| bytes with `inputs`, `datatype`, `shape` | v2 with binary tensors | bytes behind JSON |
| bytes | v2, the only input's elements | bytes behind JSON |
| a picture | v2 | JSON |

Rule: where there is no Content Type, the beginning tells: a brace and then text is JSON, and a picture has its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from edge.domain.errors import EdgeError, InvalidInput, UnsupportedMedia
from edge.domain.models import ModelSpec
from edge.domain.requests import Payload, PredictResponse
from edge.domain.tensors import MAX_RANK
from edge.mqtt.message import Properties
from edge.wire import tfserving_errors, v2_errors
from edge.wire.classes import parse_count
from edge.wire.image import ImagePayload, is_picture
from edge.wire.reply import JSON, OCTETS
from edge.wire.tfserving_json import PICTURES, parse_predict
from edge.wire.tfserving_reply import encode_predict
from edge.wire.v2_datatypes import DTYPES, LITTLE
from edge.wire.v2_payload import RequestedOutput
from edge.wire.v2_reply import encode_infer
from edge.wire.v2_request import ParsedInfer, parse_header_length, parse_infer

HEADER_LENGTH = "inference-header-content-length"
MAX_RAW_INPUTS = 32
SNIFFED_BYTES = 64

Encode = Callable[[PredictResponse], tuple[dict[str, str], bytes]]
OutputsOf = Callable[[ModelSpec], tuple[str, ...]]
"""The names of a model's outputs. Raises NotFound, UnknownLabel."""

_V2_INPUTS = re.compile(rb'"inputs"\s*:\s*\[\s*\{\s*"(?:name|shape|datatype|data|parameters)"')
_JSON_BEGINS = re.compile(rb"\s*[\[{][\x20-\x7e\s]*\Z")
_SHAPE = re.compile(r"[0-9]{1,12}(,[0-9]{1,12})*", re.ASCII)


class Read(NamedTuple):
    """What was asked, and how to write the answer. `v1`: in TensorFlow Serving's words."""

    payload: Payload
    signature_name: str
    dequantize: bool | None
    timeout_s: float | None
    encode: Encode
    v1: bool = False
    id: str = ""


class Form(NamedTuple):
    """`kind` is json-v1, json-v2, binary, named, raw or picture. `head`: bytes whose reading costs, of the whole payload."""

    kind: str
    media_type: str
    head: int


def form_of(payload: bytes, properties: Properties) -> Form:
    """Raises UnsupportedMedia, InvalidInput."""
    media_type = (properties.content_type or "").partition(";")[0].strip().lower()
    length = properties.first(HEADER_LENGTH)
    if length is not None:
        return Form("binary", media_type, min(parse_header_length(length), len(payload)))
    if not media_type:
        media_type = _sniffed(payload)
    if is_picture(media_type):
        return Form("picture", media_type, 0)
    if media_type == JSON:
        v1 = b'"instances"' in payload or (b'"inputs"' in payload and _V2_INPUTS.search(payload) is None)
        return Form("json-v1" if v1 else "json-v2", media_type, len(payload))
    if media_type == OCTETS:
        named = properties.first("inputs") is not None or properties.first("datatype") is not None
        return Form("named" if named else "raw", media_type, 0)
    raise UnsupportedMedia(
        f"Content Type: want one of {', '.join((JSON, OCTETS, *PICTURES.values()))}, got {media_type[:80]!r}"
    )


def _sniffed(payload: bytes) -> str:
    for magic, kind in PICTURES.items():
        if len(magic) > 2 and payload.startswith(magic):
            return kind
    return JSON if _JSON_BEGINS.match(payload[:SNIFFED_BYTES]) else OCTETS


def read(
    payload: bytes, properties: Properties, form: Form, spec: ModelSpec, outputs_of: OutputsOf, *, binary: bool
) -> Read:
    """`binary`: whether bytes are answered in bytes. May run in any thread but for pictures and bytes that ask for
    `params.classification`. Raises EdgeError."""
    match form.kind:
        case "json-v1":
            predict = parse_predict(payload)
            row = predict.row
            return Read(
                predict.payload,
                predict.signature_name,
                None,
                None,
                lambda response: ({"Content-Type": JSON}, encode_predict(response, row=row)),
                v1=True,
            )
        case "json-v2":
            parsed = parse_infer(payload, None, spec)
        case "binary":
            parsed = parse_infer(payload, parse_header_length(properties.first(HEADER_LENGTH) or ""), spec)
        case "named":
            head = _head(payload, properties)
            parsed = _told(parse_infer(head + payload, len(head), spec), properties, spec, outputs_of, binary=binary)
        case "picture":
            picture = ParsedInfer(ImagePayload(payload, form.media_type))
            parsed = _told(picture, properties, spec, outputs_of, binary=False)
        case _:
            parsed = _told(parse_infer(payload, 0, spec), properties, spec, outputs_of, binary=binary)
    return _v2(_accepted(parsed, properties))


def _v2(parsed: ParsedInfer) -> Read:
    return Read(
        parsed.payload,
        parsed.signature_name,
        parsed.dequantize,
        parsed.timeout_s,
        lambda response: encode_infer(response, parsed),
        id=parsed.id,
    )


def _accepted(parsed: ParsedInfer, properties: Properties) -> ParsedInfer:
    """With outputs in the form that the user property `accept` wants, if it wants one."""
    accept = properties.first("accept")
    if accept is None:
        return parsed
    if accept not in (JSON, OCTETS):
        raise InvalidInput(f"accept: want {JSON} or {OCTETS}, got {accept[:80]!r}")
    binary = accept == OCTETS
    outputs = tuple(RequestedOutput(wish.name, binary, wish.classification) for wish in parsed.outputs)
    return parsed._replace(binary=binary, outputs=outputs)


def _told(
    parsed: ParsedInfer, properties: Properties, spec: ModelSpec, outputs_of: OutputsOf, *, binary: bool
) -> ParsedInfer:
    """With what user properties say, where a payload has no JSON that could."""
    outputs: tuple[RequestedOutput, ...] = ()
    best = properties.first("params.classification")
    if best is not None:
        count = parse_count("params.classification", best)
        outputs = tuple(RequestedOutput(name, False, count) for name in outputs_of(spec))
    dequantize = properties.first("params.dequantize")
    if dequantize not in (None, "true", "false"):
        raise InvalidInput(f"params.dequantize: want true or false, got {dequantize[:40]!r}")
    return parsed._replace(
        outputs=outputs,
        binary=binary,
        signature_name=properties.first("params.signature_name") or "",
        dequantize=None if dequantize is None else dequantize == "true",
    )


def _head(payload: bytes, properties: Properties) -> bytes:
    """The JSON that would stand before the tensors in v2's binary form. Raises InvalidInput."""
    names, datatypes, shapes = (
        [value for key, value in properties.user if key == wanted] for wanted in ("inputs", "datatype", "shape")
    )
    if not len(names) == len(datatypes) == len(shapes) or len(names) > MAX_RAW_INPUTS:
        raise InvalidInput(
            f"want user properties inputs, datatype and shape once for each tensor, of at most {MAX_RAW_INPUTS}; "
            f"got {len(names)}, {len(datatypes)} and {len(shapes)}"
        )
    left, inputs = len(payload), []
    for name, datatype, text in zip(names, datatypes, shapes, strict=True):
        if not _SHAPE.fullmatch(text) or text.count(",") >= MAX_RANK:
            raise InvalidInput(f"shape: want sizes such as 1,224,224,3, got {text[:80]!r}")
        shape = [int(size) for size in text.split(",")]
        size = left if datatype == "BYTES" else _size(datatype, shape)
        left -= size
        inputs.append({"name": name, "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": size}})
    return msgspec.json.encode({"inputs": inputs})


def _size(datatype: str, shape: list[int]) -> int:
    dtype = DTYPES.get(datatype)
    if dtype is None:
        raise InvalidInput(f"datatype: want one of {', '.join(DTYPES)}, got {datatype[:40]!r}")
    size = LITTLE[dtype].itemsize
    for length in shape:
        size = min(size * length, 1 << 62)
    return size


def error_words(error: EdgeError, read: Read | None, form: Form | None, spec: ModelSpec) -> tuple[int, bytes]:
    """The status and the body that HTTP would have answered with."""
    if (read is not None and read.v1) or (form is not None and form.kind == "json-v1"):
        return tfserving_errors.error_response(error)
    reply = v2_errors.error_response(error, model=spec.name, request_id=read.id if read is not None else "")
    return reply.status, reply.body
