"""The one table of protocol numbers. A test holds it complete."""

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
