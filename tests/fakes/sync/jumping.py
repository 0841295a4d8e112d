"""Time that jumps: an event loop that never waits. Hours of many programs that sleep are over as soon as they have done their work.

Rule: for what sleeps by the loop's clock, and does nothing else that takes time: no sockets, no threads while anything sleeps.
"""

from __future__ import annotations

import asyncio
import selectors
from typing import Any

DEADLOCK_S = 5.0
"""So long may the loop's own thread take to end it, in real seconds."""


class _Jump(selectors.DefaultSelector):
    """Instead of waiting, it is later. `seconds`: by now."""

    seconds = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is not None:
            self.seconds += timeout
            return []
        found: list[Any] = super().select(DEADLOCK_S)
        if not found:
            raise RuntimeError("everybody waits, and nobody for the clock")
        return found


class JumpingLoop(asyncio.SelectorEventLoop):
    """For `asyncio.Runner(loop_factory=JumpingLoop)`."""

    def __init__(self) -> None:
        self._jump = _Jump()
        super().__init__(self._jump)

    def time(self) -> float:
        return self._jump.seconds


class JumpingClock:
    """`Clock` by the running loop. epoch_s: seconds since the epoch at the loop's beginning."""

    def __init__(self, epoch_s: float = 1_763_632_800.0) -> None:
        self._epoch_s = epoch_s
        self._loop: asyncio.AbstractEventLoop | None = None

    def now(self) -> float:
        return self._epoch_s + self.monotonic()

    def monotonic(self) -> float:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
