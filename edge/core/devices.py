"""The accelerators that versions share, by the names that they are configured by.

Rule 1: one run at a time on each. Rule 2: one that hangs is marked until the run that hangs has come back, and nothing
new is sent there meanwhile. Rule 3: the CPU is none of them.
"""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager, nullcontext

CPU = "cpu"
FREE: AbstractContextManager[object] = nullcontext()
"""The lock of what needs none."""


class Device:
    """`lock` is held during each run. `trouble` says why nothing may be sent there now, or is empty."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lock = threading.Lock()
        self.trouble = ""


class Devices:
    def __init__(self) -> None:
        self._known: dict[str, Device] = {}

    def get(self, name: str) -> Device | None:
        """None for the CPU."""
        return None if name == CPU else self._known.setdefault(name, Device(name))

    def lock(self, name: str) -> AbstractContextManager[object]:
        device = self.get(name)
        return FREE if device is None else device.lock
