"""Errors as TensorFlow Serving words them.

Rule 1: what the contract has a text for is told in that text and nothing else; the rest in the error's own words.
Rule 2: the status comes from `edge.wire.status` alone.
"""

from __future__ import annotations

from edge.domain.errors import (
    EdgeError,
    InferenceFailed,
    ModelsNotAvailable,
    NotFound,
    Overloaded,
    UnknownLabel,
    UnknownSignature,
)
from edge.domain.models import ModelSpec
from edge.wire.status import HTTP_STATUS
from edge.wire.tfserving_debug import quote
from edge.wire.tfserving_routes import Malformed, Verb


def error_response(error: EdgeError, verb: Verb = "predict") -> tuple[int, bytes]:
    """The status, and the body; empty where TensorFlow Serving's is."""
    message = wording(error, verb)
    body = b"" if isinstance(error, Malformed) and not message else error_body(message)
    return HTTP_STATUS[error.code], body


def error_body(message: str) -> bytes:
    """RapidJSON's layout: four spaces, no newline at the end."""
    return f'{{\n    "error": {quote(message)}\n}}'.encode("utf-8", "surrogateescape")


def wording(error: EdgeError, verb: Verb) -> str:
    """What TensorFlow Serving says."""
    match error:
        case NotFound():
            return _not_found(error.spec, verb)
        case UnknownLabel():
            return f"Unrecognized servable version label: {error.spec.label}"
        case UnknownSignature() if verb in ("classify", "regress"):
            return f"No signature was found with the name: {error.name}"
        case UnknownSignature():
            return f'Serving signature name: "{error.name}" not found in signature def'
        case InferenceFailed() if not error.shown:
            return "Failed to invoke TfLite interpreter"
        case ModelsNotAvailable():
            return f"Some models did not become available: {{{''.join(_servable(*each) for each in error.models.items())}}}"
        case Overloaded():
            return f"The batch scheduling queue to which this task was submitted is full; {error.message}"
        case _:
            return error.message


def _servable(name: str, version: int | None) -> str:
    return f"{{name: {name} version: {'none' if version is None else version}}}, "


def _not_found(spec: ModelSpec, verb: Verb) -> str:
    if verb == "status":
        versions = "any versions" if spec.version is None else f"version {spec.version}"
        return f"Could not find {versions} of model {spec.name}"
    if spec.version is None:
        return f"Servable not found for request: Latest({spec.name})"
    return f"Servable not found for request: Specific({spec.name}, {spec.version})"
