"""How a call over gRPC failed: the code, and a text that fits in a header.

Rule: a message is cut as TensorFlow Serving cuts it, whichever service it is of.
"""

from __future__ import annotations

from typing import NamedTuple

from edge.domain.errors import EdgeError, Overloaded, UnknownSignature
from edge.wire.status import GRPC_STATUS
from edge.wire.tfserving_errors import wording as tfserving_wording
from edge.wire.tfserving_routes import Verb
from edge.wire.v2_errors import wording as v2_wording

MAX_TEXT_BYTES = 1024
CUT = "...TRUNCATED"


class Failure(NamedTuple):
    """`code`: gRPC's name of it, such as INVALID_ARGUMENT. `retry_after_ms`: when to come back, if that would help."""

    code: str
    text: str
    retry_after_ms: int | None = None


def tfserving_failure(error: EdgeError, verb: Verb = "predict") -> Failure:
    """In TensorFlow Serving's words."""
    if isinstance(error, UnknownSignature) and verb == "predict":
        return Failure("FAILED_PRECONDITION", cut(f'Serving signature key "{error.name}" not found.'))
    return _failure(error, tfserving_wording(error, verb))


def v2_failure(error: EdgeError, *, model: str = "", request_id: str = "") -> Failure:
    """In Triton's words."""
    return _failure(error, v2_wording(error, model, request_id))


def plain_failure(error: EdgeError) -> Failure:
    """In the error's own words."""
    return _failure(error, error.message)


def cut(text: str) -> str:
    """At MAX_TEXT_BYTES, between two characters; what no text may hold is replaced."""
    data = text.encode("utf-8", "replace")
    if len(data) <= MAX_TEXT_BYTES:
        return data.decode()
    return data[:MAX_TEXT_BYTES].decode("utf-8", "ignore") + CUT


def _failure(error: EdgeError, text: str) -> Failure:
    retry_after_ms = round(error.retry_after_s * 1000) if isinstance(error, Overloaded) else None
    return Failure(GRPC_STATUS[error.code], cut(text), retry_after_ms)
