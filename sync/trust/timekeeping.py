"""Whether the device's clock is to be believed, and by which time metadata is judged.

Rule 1: metadata is judged by the clock, or by the floor's time where that is later: an old clock makes no old metadata valid.
Rule 2: a clock that is ahead only keeps updates away; what is left to do is to say so rather than blame the store. It is
suspect when it went on by more than the time that passed since it was right, or when all that is signed ended so long ago
that nobody would have left it so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from sync.domain.errors import Reason, TrustError

SLACK_S = 3600.0
"""So far may the clock be off without being suspect."""
ABANDONED_S = 366 * 86400.0
"""A store that nobody has signed for so long is less likely than a wrong clock."""
EXPIRIES = (Reason.STALE_METADATA, Reason.TRUST_EXPIRED)


def uptime() -> float:
    """Seconds that go on while the device sleeps, and that nobody sets."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Timekeeper:
    """`ok`: whether the clock was believed when it was last asked."""

    def __init__(self, now: Callable[[], float], uptime_s: Callable[[], float]) -> None:
        self._now, self._uptime = now, uptime_s
        self._right_since: float | None = (
            None  # the epoch's second at which the uptime began, by a clock that was right
        )
        self._read, self._floor = 0.0, 0.0
        self.ok = True

    def reference(self, floor: float) -> float:
        """The time to judge by, in seconds since the epoch. floor: a time that is over."""
        self._read, self._floor = self._now(), floor
        self.ok = self._read > floor - SLACK_S
        return max(self._read, floor)

    def right(self) -> None:
        """What is signed was valid by the clock."""
        if self.ok:
            self._right_since = self._read - self._uptime()

    def judged(self, error: TrustError, ends: Sequence[float]) -> TrustError:
        """The error, or another one where the clock is the likelier reason. ends: when what is signed expires."""
        if error.reason not in EXPIRIES or self._read <= self._floor:
            return error
        jumped = self._right_since is not None and self._read - self._uptime() > self._right_since + SLACK_S
        over = [end for end in ends if end < self._read]
        if not jumped and not (over and self._read - max(over) > ABANDONED_S):
            return error
        self.ok = False
        return TrustError(f"{error.message} by this clock, which is likely ahead", Reason.CLOCK_SUSPECT)
