"""What a connection may take: of bytes, of time, of places."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Bounds, each with its unit in its name.

    max_inflight_body_bytes: of all requests that have not been answered. header_timeout_s and body_timeout_s: from
    the first byte of each to the last. keepalive_s: an idle connection's life. min_send_bytes: what a client must take
    of its answer in each send_timeout_s. linger_s: how long what a refused client still sends is read and thrown away.
    last_call_s: how long a connection that is idle when the server ends may still ask. tick_s: how often deadlines are looked at. backlog: connections that wait to be accepted.
    """

    max_body_bytes: int = 64 << 20
    max_header_bytes: int = 64 << 10
    max_connections: int = 12_000
    max_inflight_body_bytes: int = 256 << 20
    header_timeout_s: float = 15.0
    body_timeout_s: float = 60.0
    keepalive_s: float = 75.0
    send_timeout_s: float = 30.0
    min_send_bytes: int = 64 << 10
    linger_s: float = 2.0
    last_call_s: float = 0.05
    tick_s: float = 1.0
    backlog: int = 1024
