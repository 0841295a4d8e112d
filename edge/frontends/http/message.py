"""A request that has come whole, and the answer to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from urllib.parse import parse_qs

JSON = "application/json"
TEXT = "text/plain"

REASONS = {
    200: "OK",
    204: "No Content",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    411: "Length Required",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    421: "Misdirected Request",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}


@dataclass
class Request:
    """`target` is the path and query as they were sent; header names are lower case, the first of a kind wins.

    `arrived` is a reading of the event loop's clock, in seconds: when its last byte was read.
    """

    method: str
    target: str
    headers: Mapping[bytes, bytes]
    body: bytes
    arrived: float = 0.0

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @cached_property
    def query(self) -> Mapping[str, Sequence[str]]:
        return parse_qs(self.target.partition("?")[2], max_num_fields=100)

    def header(self, name: bytes) -> str:
        """Its value, or empty."""
        return self.headers.get(name, b"").decode("latin-1")

    @property
    def media_type(self) -> str:
        return _media_type(self.headers.get(b"content-type", b""))


@lru_cache(maxsize=64)
def _media_type(content_type: bytes) -> str:
    return content_type.decode("latin-1").partition(";")[0].strip().lower()


@dataclass(slots=True)
class Response:
    status: int
    body: bytes = b""
    content_type: str = JSON
    headers: Sequence[tuple[str, str]] = field(default_factory=tuple)


def json_error(status: int, message: str, headers: Sequence[tuple[str, str]] = ()) -> Response:
    """For what no protocol has words of its own."""
    import json

    return Response(status, json.dumps({"error": message}).encode(), JSON, headers)
