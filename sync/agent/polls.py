"""When to ask the store next.

Rule 1: pure but for chance, which is handed in. Rule 2: no two devices keep step: not those that were switched on at one
moment, not those that a store sent away at one moment, not those that it asked to come back at one moment. Rule 3: nothing is
ever asked sooner than a store wished.
"""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PollLimits:
    """Seconds. poll_s: between polls, each up to `jitter` (a share) shorter or longer; doubled after a failure up to
    max_poll_s, before the jitter."""

    poll_s: float = 900.0
    jitter: float = 0.2
    max_poll_s: float = 6 * 3600.0


class Polls:
    """One device's pauses."""

    def __init__(self, limits: PollLimits, chance: random.Random) -> None:
        self._limits, self._chance = limits, chance
        self._wait_s = limits.poll_s

    def first_s(self, *, serves: bool) -> float:
        """From the start to the first poll. serves: whether there is a model to go on with in the meantime.

        Anywhere in one interval, as if the device had been polling before: a plant that gets its power back would else
        be one peak, which the jitter takes twenty polls to wash out.
        """
        return self.jittered(self._limits.poll_s) * self._chance.random() if serves else 0.0

    def good_s(self) -> float:
        """After a poll that was answered."""
        self._wait_s = self._limits.poll_s
        return self.jittered(self._wait_s)

    def failed_s(self, retry_after_s: float = 0.0) -> float:
        """After one that was not. retry_after_s: what the store wished, 0 for nothing."""
        self._wait_s = min(self._wait_s * 2, max(self._limits.max_poll_s, self._limits.poll_s))
        after = retry_after_s + self._limits.jitter * self._limits.poll_s * self._chance.random()
        return max(self.jittered(self._wait_s), after)

    def jittered(self, seconds: float) -> float:
        return seconds * (1 + self._limits.jitter * (2 * self._chance.random() - 1))
