"""How fast bytes come, and how fast they may.

Rule: pure but for what the caller says the time is, in seconds of a clock that never goes back.
"""

from __future__ import annotations

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
