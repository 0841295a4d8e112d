"""Time that jumps: an event loop that never waits. Hours of many programs that sleep are over as soon as they have done their work.

Rule: for what sleeps by the loop's clock, and does nothing else that takes time: no sockets, no threads.
"""

from __future__ import annotations

import asyncio
import selectors
from typing import Any


class _Jump(selectors.DefaultSelector):  # type: ignore[valid-type,misc]
    """Instead of waiting, it is later. `seconds`: by now."""

    seconds = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise RuntimeError("everybody waits, and nobody for the clock")
        self.seconds += timeout
        found: list[Any] = super().select(0)
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

    def now(self) -> float:
        return self._epoch_s + self.monotonic()

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
