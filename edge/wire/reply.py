"""A whole answer, as a codec hands it to the front end that sends it."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

JSON = "application/json"
TEXT = "text/plain"
OCTETS = "application/octet-stream"


class Reply(NamedTuple):
    """Status, headers (`Content-Type` among them) and body of an HTTP reply."""

    status: int
    headers: dict[str, str]
    body: bytes


def json_reply(value: Any) -> Reply:
    """200 with `value` as JSON, which msgspec must know how to write."""
    return Reply(200, {"Content-Type": JSON}, msgspec.json.encode(value))
