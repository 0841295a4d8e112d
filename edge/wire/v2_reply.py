"""The reply to an inference request: JSON, or JSON and the bytes of tensors behind it.

Rule 1: members come in Triton's order: id, model_name, model_version, outputs; of an output name, datatype, shape,
parameters, data. No blanks.
Rule 2: outputs come as they were asked for; without a wish, all of them in the signature's order.
Sources: https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md#inference and
https://github.com/triton-inference-server/server/tree/main/docs/protocol (binary data, classification)
"""

from __future__ import annotations

import zlib
from functools import lru_cache
from typing import Any, Literal

import msgspec
import numpy as np

from edge.domain.errors import InvalidInput
from edge.domain.requests import PredictResponse
from edge.domain.tensors import Array, DType, Shape
from edge.wire import v2_binary, v2_numbers
from edge.wire.reply import JSON, OCTETS
from edge.wire.v2_datatypes import NAMES
from edge.wire.v2_payload import RequestedOutput
from edge.wire.v2_request import HEADER, ParsedInfer

Encoding = Literal["gzip", "deflate"]

MIN_COMPRESSED_BYTES = 1_024  # a smaller reply travels in one packet as it is
COMPRESSION_LEVEL = 1  # the fastest: the processor is dearer here than the wire
_WINDOW = {"gzip": 31, "deflate": 15}  # zlib's numbers for gzip's and its own frame; HTTP calls the latter deflate

_DATATYPES = {dtype.numpy: name for dtype, name in NAMES.items()}


def encode_infer(response: PredictResponse, parsed: ParsedInfer) -> tuple[dict[str, str], bytes]:
    """The headers and body of a successful reply. Raises InvalidInput for an output that cannot be sent as asked."""
    wishes = parsed.outputs or tuple(RequestedOutput(name, parsed.binary) for name in response.signature.outputs)
    heads: list[bytes] = []
    tails: list[bytes | memoryview] = []
    for wish in wishes:
        head, tail = _output(wish, response)
        heads.append(head)
        if tail is not None:
            tails.append(tail)
    request_id = b'"id":%b,' % msgspec.json.encode(parsed.id) if parsed.id else b""
    model = b'"model_name":%b,"model_version":"%d"' % (_quoted(response.model.name), response.model.version)
    text = b'{%b%b,"outputs":[%b]}' % (request_id, model, b",".join(heads))
    if not tails:
        return {"Content-Type": JSON}, text
    return {"Content-Type": OCTETS, HEADER: str(len(text))}, b"".join((text, *tails))


def _output(wish: RequestedOutput, response: PredictResponse) -> tuple[bytes, bytes | memoryview | None]:
    array = response.outputs[wish.name]
    if wish.classification:
        array = classify(array, wish.classification, response.class_names)
    start = _start(wish.name, array.dtype, array.shape)
    if wish.binary:
        tail = v2_binary.write(array)
        return b'%b"parameters":{"binary_data_size":%d}}' % (start, len(tail)), tail
    return b'%b"data":%b}' % (start, v2_numbers.data(array)), None


@lru_cache(maxsize=256)
def _start(name: str, dtype: np.dtype[Any], shape: Shape) -> bytes:
    sizes = ",".join(map(str, shape)).encode()
    return b'{"name":%b,"datatype":"%b","shape":[%b],' % (_quoted(name), _DATATYPES[dtype].encode(), sizes)


def classify(array: Array, count: int, class_names: tuple[str, ...]) -> Array:
    """The `count` best classes of each row: `[batch, n]` → `[batch, k]`, `[n]` → `[k]` of `value:index[:label]`.

    With more dimensions than two, all but the first are one. Floats are written as C's `%f` has it. Of equals the
    first comes first; NaN comes last. Raises InvalidInput for BYTES and BOOL, which have no order.
    """
    dtype = DType.of(array)
    if dtype in (DType.STRING, DType.BOOL):
        raise InvalidInput(f"class result not available for output due to unsupported type '{NAMES[dtype]}'")
    rows = array.reshape(array.shape[0], -1 if array.size else 0) if array.ndim > 1 else array.reshape(1, -1)
    best = [_best(row, min(count, rows.shape[1]), class_names, dtype.is_integer) for row in rows]
    out = np.empty((len(best), min(count, rows.shape[1])), object)
    for index, texts in enumerate(best):
        out[index] = texts
    return out if array.ndim > 1 else out[0]


def _best(row: Array, count: int, class_names: tuple[str, ...], whole: bool) -> list[bytes]:
    falling = ~row if whole else -row  # the complement of an integer, unlike its negative, always fits its type
    order = np.argsort(falling, kind="stable")[:count]
    texts = []
    for index in order.tolist():
        value = f"{row[index]:d}" if whole else f"{float(row[index]):f}"
        label = f":{class_names[index]}" if index < len(class_names) else ""
        texts.append(f"{value}:{index}{label}".encode())
    return texts


@lru_cache(maxsize=256)
def _quoted(name: str) -> bytes:
    return msgspec.json.encode(name)


@lru_cache(maxsize=64)
def negotiate(accept_encoding: str | None) -> Encoding | None:
    """What an Accept-Encoding header asks for: the first of those that weigh most; None for the body as it is."""
    best, best_weight = "identity", 0.0
    for offer in (accept_encoding or "").lower().split(","):
        name, _, weight = offer.replace(" ", "").partition(";q=")
        if name in ("gzip", "deflate", "identity") and (found := _weight(weight)) > best_weight:
            best, best_weight = name, found
    return "gzip" if best == "gzip" else "deflate" if best == "deflate" else None


def _weight(text: str) -> float:
    """1 where nothing is said, 0 for what is no number."""
    try:
        return float(text or 1)
    except ValueError:
        return 0.0


def compress(headers: dict[str, str], body: bytes, encoding: Encoding | None) -> tuple[dict[str, str], bytes]:
    """The reply, compressed if that was asked for and is worth it. Lengths of JSON are those before."""
    if encoding is None or len(body) < MIN_COMPRESSED_BYTES:
        return headers, body
    machine = zlib.compressobj(COMPRESSION_LEVEL, zlib.DEFLATED, _WINDOW[encoding])
    return {**headers, "Content-Encoding": encoding}, machine.compress(body) + machine.flush()
