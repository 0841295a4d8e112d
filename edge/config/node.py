"""What this node is called where no configuration says it. Blocks: it looks at the machine."""

from __future__ import annotations

import socket
from pathlib import Path

from edge.domain.node import node_name

MACHINE_ID = Path("/etc/machine-id")


def own_node_name() -> str:
    """The same for everybody who speaks of this machine: the server, its announcement, and tools that look for it."""
    try:
        machine = MACHINE_ID.read_text()
    except (OSError, ValueError):
        machine = ""
    return node_name(socket.gethostname(), machine)
