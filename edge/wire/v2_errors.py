"""Errors in the words of the Open Inference Protocol v2, as Triton 2.51 answers them.

Rule 1: the body is `{"error": "<text>"}`, its content type JSON.
Rule 2: what the core of Triton refuses begins with `[request id: <id>]`, and what its HTTP front end refuses does not.
Rule 3: a request that cannot be read is a 400 here, as the specification has it, where Triton says 500.
Source: https://github.com/triton-inference-server/server/blob/main/src/http_server.cc, and a transcript of 2.51.0.
"""

from __future__ import annotations

import math

import msgspec

from edge.domain.errors import (
    BatchTooLarge,
    ControlFailed,
    EdgeError,
    MissingTensors,
    NotFound,
    Overloaded,
    TensorMismatch,
    UnexpectedTensor,
)
from edge.domain.tensors import show_dims
from edge.wire.reply import JSON, Reply
from edge.wire.status import HTTP_STATUS
from edge.wire.v2_datatypes import NAMES, spoken

MAX_ERROR_CHARS = 2_048  # names that a client chose are repeated to it; none makes a reply large
UNKNOWN_ID = "<id_unknown>"


def tagged(request_id: str, text: str) -> str:
    """`text` with the request's id in front, as Triton's core writes it."""
    return f"[request id: {request_id or UNKNOWN_ID}] {text}"


def error_response(error: EdgeError, *, model: str = "", request_id: str = "") -> Reply:
    """The reply to a request that failed. `model` and `request_id` are what the request named, if anything."""
    headers = {"Content-Type": JSON}
    if isinstance(error, Overloaded):
        headers["Retry-After"] = str(math.ceil(error.retry_after_s))
    return Reply(HTTP_STATUS[error.code], headers, error_body(wording(error, model, request_id)))


def control_failed(error: ControlFailed, *, model: str, action: str, known: bool) -> Reply:
    """The reply to a `load` or `unload` that did not happen. `known`: whether the repository has the model."""
    text = control_wording(error, model, action, known)
    return Reply(HTTP_STATUS[error.code], {"Content-Type": JSON}, error_body(text))


def control_wording(error: ControlFailed, model: str, action: str, known: bool) -> str:
    """What Triton says, whatever the transport."""
    reason = error.message if known else "failed to poll from model repository"
    return f"failed to {action} '{model}', {reason}"


def error_body(text: str) -> bytes:
    """`{"error":"…"}`; any text is safe, lone surrogates included."""
    cut = text if len(text) <= MAX_ERROR_CHARS else text[:MAX_ERROR_CHARS] + "…"
    return msgspec.json.encode({"error": cut.encode("utf-8", "replace").decode()})


def wording(error: EdgeError, model: str, request_id: str) -> str:
    """What Triton says, whatever the transport."""
    match error:
        case NotFound():
            return f"Request for unknown model: {_what_is_missing(error)}"
        case TensorMismatch():
            return tagged(request_id, _mismatch(error, model))
        case UnexpectedTensor():
            return f"unexpected inference input '{error.name}' for model '{model}'"
        case MissingTensors():
            text = (
                f"expected {len(error.wanted)} inputs but got {len(error.got)} inputs for model '{model}'. Got input(s) "
                f"{_names(error.got)}, but missing required input(s) {_names(error.missing)}. "
                "Please provide all required input(s)."
            )
            return tagged(request_id, text)
        case BatchTooLarge():
            return tagged(request_id, f"inference request batch-size must be <= {error.max_batch} for '{model}'")
        case _:
            return error.message


def _what_is_missing(error: NotFound) -> str:
    if not error.model_known:
        return f"'{error.spec.name}' is not found"
    if error.spec.version is None:
        return f"'{error.spec.name}' has no available versions"
    return f"'{error.spec.name}' version {error.spec.version} is not found"


def _mismatch(error: TensorMismatch, model: str) -> str:
    want = error.want
    if error.got_dtype != want.dtype.value:
        return (
            f"inference input '{want.name}' data-type is '{spoken(error.got_dtype)}', "
            f"but model '{model}' expects '{NAMES[want.dtype]}'"
        )
    expected = "any shape" if want.shape is None else show_dims(want.shape)
    return (
        f"unexpected shape for input '{want.name}' for model '{model}'. "
        f"Expected {expected}, got {show_dims(error.got_shape)}."
    )


def _names(names: tuple[str, ...]) -> str:
    return "[" + ",".join(f"'{name}'" for name in names) + "]"
