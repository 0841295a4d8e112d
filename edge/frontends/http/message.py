"""A request that has come whole, and the answer to it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from urllib.parse import parse_qs

from edge.domain.errors import InvalidInput
from edge.wire.reply import JSON

MAX_QUERY_FIELDS = 100

# What an answer says of its connection: nothing in HTTP/1.1, where to go on is the rule.
PERSISTENT, KEEP_ALIVE, CLOSE = b"", b"Connection: keep-alive\r\n", b"Connection: close\r\n"

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

    `arrived` is a reading of the event loop's clock, in seconds: when its last byte was read. `caller`: a number for its
    connection.
    """

    method: str
    target: str
    headers: Mapping[bytes, bytes]
    body: bytes
    arrived: float = 0.0
    caller: int = 0

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @cached_property
    def query(self) -> Mapping[str, Sequence[str]]:
        """Raises InvalidInput."""
        try:
            return parse_qs(self.target.partition("?")[2], max_num_fields=MAX_QUERY_FIELDS)
        except ValueError:
            raise InvalidInput(f"want at most {MAX_QUERY_FIELDS} fields in a query, got more") from None

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
    return Response(status, json.dumps({"error": message}).encode(), JSON, headers)


def head_without_upgrade(method: bytes, target: bytes, version: str, headers: Mapping[bytes, bytes]) -> bytes:
    """A request's head as bytes, without the offer to go on in another protocol.

    None is spoken here, and the client of such an offer goes on in HTTP/1.1, in its body at once (RFC 9110, section
    7.8). A parser does not: it takes the body for the other protocol's.
    """
    lines = [b"%s %s HTTP/%s" % (method, target, version.encode())]
    lines += [b"%s: %s" % (name, value) for name, value in headers.items() if name != b"upgrade"]
    return b"\r\n".join([*lines, b"", b""])


_heads: dict[tuple[int, str], bytes] = {}


def encode(response: Response, connection: bytes, *, head_only: bool) -> bytes:
    """The answer as HTTP/1.1. `connection`: PERSISTENT, KEEP_ALIVE or CLOSE."""
    key = (response.status, response.content_type)
    head = _heads.get(key)
    if head is None:
        reason = REASONS.get(response.status, "Unknown")
        head = f"HTTP/1.1 {response.status} {reason}\r\nContent-Type: {response.content_type}\r\n".encode("latin-1")
        if len(_heads) < 256:
            _heads[key] = head
    parts = [head]
    for name, value in response.headers:
        parts.append(f"{name}: {value}\r\n".encode("latin-1"))
    parts.append(connection)
    parts.append(b"Content-Length: %d\r\n\r\n" % len(response.body))
    if not head_only:
        parts.append(response.body)
    return b"".join(parts)
