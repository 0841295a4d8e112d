"""What a node is called, on MQTT and on the local network alike. Pure: who asks has looked at the machine."""

from __future__ import annotations

import hashlib
import re

NODE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
"""A node's name: a label of DNS, and a level of a topic."""

COMMON_HOSTNAMES = frozenset(
    {"", "localhost", "raspberrypi", "debian", "ubuntu", "orangepi", "rock", "mendel", "jetson", "dietpi", "alpine"}
)
"""What images come with: many devices have it."""


def node_name(hostname: str, machine_id: str = "") -> str:
    """A node's name: the host's first label, made valid; where images come with it, told apart by a hash of the machine's
    id. Where neither says anything, it is `edge`."""
    name = re.sub(r"[^a-z0-9-]+", "-", hostname.partition(".")[0].lower()).strip("-")
    if name not in COMMON_HOSTNAMES:
        return name[:63].strip("-")
    base = name or "edge"
    if not machine_id.strip():
        return base
    return f"{base}-{hashlib.sha256(b'edge-node:' + machine_id.strip().encode()).hexdigest()[:6]}"
