"""Polls that somebody asks for, on their way to the loop that makes them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from sync.agent.nudges import NudgeLimits, Nudges
from sync.domain.nudge import Nudge
from sync.domain.ports import Clock


class Asked:
    """known: the generation of what the device has seen. `news`: `at` may have changed."""

    def __init__(
        self,
        clock: Clock,
        known: Callable[[], int] = lambda: 0,
        limits: NudgeLimits | None = None,
        chance: random.Random | None = None,
    ) -> None:
        self._clock, self._known = clock, known
        self._nudges = Nudges(limits or NudgeLimits(), chance or random.Random())
        self.news = asyncio.Event()

    @property
    def at(self) -> float | None:
        return self._nudges.at

    def nudged(self, nudge: Nudge, *, fleet: bool) -> bool:
        """Whether it leads to a poll."""
        asks = self._nudges.heard(nudge, self._known(), self._clock.monotonic(), fleet=fleet)
        if asks:
            self.news.set()
        return asks

    def poll(self, *, fleet: bool) -> float:
        """Soon; in how many seconds."""
        in_s = self._nudges.asked(self._clock.monotonic(), fleet=fleet)
        self.news.set()
        return in_s

    def polled(self, *, ok: bool, asked: bool, retry_after_s: float) -> None:
        now = self._clock.monotonic()
        self._nudges.polled(self._known(), now, ok=ok, asked=asked, retry_after_s=retry_after_s)
