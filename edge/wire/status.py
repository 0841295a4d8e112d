"""The one table of protocol numbers, and of gRPC's names of them. A test holds both complete."""

from __future__ import annotations

from edge.domain.errors import Code

HTTP_STATUS: dict[Code, int] = {
    Code.INVALID_INPUT: 400,
    Code.TOO_LARGE: 413,
    Code.UNSUPPORTED: 501,
    Code.UNSUPPORTED_MEDIA: 415,
    Code.NOT_FOUND: 404,
    Code.NOT_READY: 503,
    Code.OVERLOADED: 503,
    Code.DEADLINE: 504,
    Code.TOO_SLOW: 408,
    Code.UNAUTHENTICATED: 401,
    Code.FORBIDDEN: 403,
    Code.INFERENCE_FAILED: 500,
    Code.CONTROL_FAILED: 500,
}

GRPC_STATUS: dict[Code, str] = {
    Code.INVALID_INPUT: "INVALID_ARGUMENT",
    Code.TOO_LARGE: "RESOURCE_EXHAUSTED",
    Code.UNSUPPORTED: "UNIMPLEMENTED",
    Code.UNSUPPORTED_MEDIA: "INVALID_ARGUMENT",
    Code.NOT_FOUND: "NOT_FOUND",
    Code.NOT_READY: "UNAVAILABLE",
    Code.OVERLOADED: "UNAVAILABLE",
    Code.DEADLINE: "DEADLINE_EXCEEDED",
    Code.TOO_SLOW: "DEADLINE_EXCEEDED",
    Code.UNAUTHENTICATED: "UNAUTHENTICATED",
    Code.FORBIDDEN: "PERMISSION_DENIED",
    Code.INFERENCE_FAILED: "INTERNAL",
    Code.CONTROL_FAILED: "INTERNAL",
}
"""https://grpc.io/docs/guides/status-codes/"""
