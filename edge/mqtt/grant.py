"""What a broker allows on a connection. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edge.mqtt.settings import MAX_PACKET_BYTES

MAX_INFLIGHT = 20
"""Publications with QoS 1 that may wait for the broker's PUBACK."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What the broker allows, from its CONNACK."""

    session_present: bool = False
    max_inflight: int = MAX_INFLIGHT
    max_packet_bytes: int = MAX_PACKET_BYTES
    max_qos: int = 1
    retain: bool = True


def grant_of(session_present: bool, properties: Any) -> Grant:
    there = vars(properties)
    return Grant(
        session_present=session_present,
        max_inflight=min(MAX_INFLIGHT, int(there.get("ReceiveMaximum", MAX_INFLIGHT))),
        max_packet_bytes=int(there.get("MaximumPacketSize", MAX_PACKET_BYTES)),
        max_qos=min(1, int(there.get("MaximumQoS", 1))),
        retain=bool(there.get("RetainAvailable", 1)),
    )
