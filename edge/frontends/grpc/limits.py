"""What calls may take: of bytes, of time, of places."""

from __future__ import annotations

from dataclasses import dataclass

MAX_PER_CONNECTION = 1024
"""Calls under way on one connection; more wait at the client."""
KEEPALIVE_MS = 60_000
KEEPALIVE_TIMEOUT_MS = 20_000
"""A connection whose other end says nothing for so long is asked whether it is there, and then has so long to answer."""
MIN_PING_MS = 10_000
"""Pings that come faster on a connection without calls end it."""
MAX_METADATA_BYTES = 16 << 10


@dataclass(frozen=True, slots=True)
class GrpcLimits:
    """max_message_bytes: of one message, and of the arrays that it stands for. max_held_bytes: of all messages that have not
    been answered. max_streams: inference streams and health watchers that are open at once. message_timeout_s: from a call's
    head to the end of its message. request_timeout_s: of a call that brings no deadline."""

    max_message_bytes: int = 64 << 20
    max_held_bytes: int = 256 << 20
    max_streams: int = 256
    message_timeout_s: float = 60.0
    request_timeout_s: float = 30.0
