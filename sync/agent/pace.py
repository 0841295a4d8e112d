"""How fast bytes come, and how fast they may.

Rule: pure but for what the caller says the time is: seconds of a clock that never goes back, or what the clock on the wall says.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from sync.domain.errors import Deferred
from sync.domain.rollout import opens_in_s

WINDOW_S = 30.0


class RateFloor:
    """Whether a source is too slow to be waited for: on average over WINDOW_S, from the first window on.

    min_rate_Bps: bytes per second, 0 for no floor. deadline_s: for all that is asked of the source, 0 for none.
    """

    def __init__(self, min_rate_Bps: float, *, deadline_s: float, now: float, window_s: float = WINDOW_S) -> None:
        self._floor, self._window_s = min_rate_Bps, window_s
        self._ends = now + deadline_s if deadline_s else float("inf")
        self._since, self._bytes = now, 0

    def came(self, count: int, now: float) -> str:
        """Why the source is to be left, or empty."""
        self._bytes += count
        if now > self._ends:
            return "it has taken longer than it may in all"
        passed = now - self._since
        if passed < self._window_s:
            return ""
        rate, self._since, self._bytes = self._bytes / passed, now, 0
        return f"want {self._floor:g} bytes a second, got {rate:.0f}" if rate < self._floor else ""

    def paused(self, seconds: float) -> None:
        """Nothing was asked of the source for so long."""
        self._since += seconds
        self._ends += seconds


class RateLimit:
    """A token bucket. limit_Bps: bytes per second, 0 for no limit; a second's worth may come at once."""

    def __init__(self, limit_Bps: float, now: float) -> None:
        self._limit, self._tokens, self._at = limit_Bps, limit_Bps, now

    def wait_s(self, count: int, now: float) -> float:
        """How long to wait after `count` bytes more."""
        if not self._limit:
            return 0.0
        self._tokens = min(self._limit, self._tokens + (now - self._at) * self._limit) - count
        self._at = now
        return max(0.0, -self._tokens / self._limit)


class Hours:
    """When bytes may be fetched. window: local time, "22:00-05:00", over midnight where the second is the smaller; "" for always.

    local: the time in the device's zone.
    """

    def __init__(self, window: str = "", local: Callable[[], datetime] = lambda: datetime.now().astimezone()) -> None:
        self._window, self._local = window, local

    def check(self, urgent: bool) -> None:
        """Raises Deferred outside of the window, unless it is urgent."""
        if self._window and not urgent and (wait_s := opens_in_s(self._window, self._local())) > 0:
            raise Deferred(f"downloads wait for {self._window.partition('-')[0]}", wait_s)
