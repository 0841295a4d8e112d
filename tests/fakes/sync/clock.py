"""A clock that goes on when somebody sleeps, and not otherwise. `asleep`: seconds by which the machine sleeps in each sleep."""

from __future__ import annotations

import asyncio


class FakeClock:
    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self._now, self._up = now, 0.0
        self.asleep = 0.0
        self.slept: list[float] = []

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._up

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self._now += seconds + self.asleep
        self._up += seconds
        await asyncio.sleep(0)
