"""What a link is told before it starts. Secrets are names of files, which are read anew for each connection."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Protocol = Literal["auto", "5", "3.1.1"]

PORT, TLS_PORT = 1883, 8883
MIN_PACKET_BYTES = 1024
MAX_PACKET_BYTES = 268_435_455
"""What MQTT itself allows: a length is four bytes of seven bits (MQTT 5, section 1.5.5)."""


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes, retained and with QoS 1, when the link is lost without a farewell.

    `delay_s` (MQTT 5 only): how long it waits for the link to come back first.
    """

    topic: str
    payload: bytes
    delay_s: int = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSettings:
    """`protocol` auto: MQTT 5, or 3.1.1 with a broker that says that it cannot. `ca_file` None: the system's authorities.

    `session_expiry_s`: how long the broker keeps subscriptions and what came meanwhile (MQTT 5 only). `receive_maximum`:
    messages of QoS 1 that may wait for an ack (MQTT 5 only). `max_packet_bytes`: the largest packet that the broker may send
    (MQTT 5 only). `max_queued`, `max_queued_bytes`: messages that wait here to be sent. `connect_s`: for the broker to answer.
    """

    host: str
    port: int = PORT
    client_id: str
    protocol: Protocol = "auto"
    username: str = ""
    password_file: Path | None = None
    tls: bool = False
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    keepalive_s: int = 60
    session_expiry_s: int = 600
    receive_maximum: int = 8
    max_packet_bytes: int = 4 * 1024 * 1024 + 4096
    will: Will | None = None
    max_queued: int = 1000
    max_queued_bytes: int = 64 * 1024 * 1024
    connect_s: float = 10.0

    def __post_init__(self) -> None:
        """Raises ValueError."""
        if not self.host:
            raise ValueError("want the broker's host, got an empty one")
        if not 1 <= self.port <= 65535:
            raise ValueError(f"want a port from 1 to 65535, got {self.port}")
        if not self.client_id:
            raise ValueError("want a client id, got an empty one")
        if not 1 <= self.receive_maximum <= 65535:
            raise ValueError(f"want a receive_maximum from 1 to 65535, got {self.receive_maximum}")
        if not MIN_PACKET_BYTES <= self.max_packet_bytes <= MAX_PACKET_BYTES:
            raise ValueError(
                f"want max_packet_bytes from {MIN_PACKET_BYTES} to {MAX_PACKET_BYTES}, got {self.max_packet_bytes}"
            )
        if self.key_file is not None and self.cert_file is None:
            raise ValueError("a key_file wants a cert_file")


def port_of(port: int, *, tls: bool) -> int:
    """The port, or where it is 0 the one that MQTT has."""
    return port or (TLS_PORT if tls else PORT)
