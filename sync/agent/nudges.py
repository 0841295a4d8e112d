"""When to poll because somebody asks for it: by a nudge that says what there is, or by a command.

Rule 1: pure but for chance, which is handed in. Rule 2: what the device has seen already, and what it was told already, asks for
nothing, however often it is said. Rule 3: between two polls that nudges cause there are `every_s`, twice as many after each that
brought nothing, so that whoever makes nudges up gets about as many polls as there would be without them. Rule 4: what is said to many
devices at once is followed at different moments, and nothing is asked of a store sooner than it wished.
"""

from __future__ import annotations

import math
import random
from collections import deque
from dataclasses import dataclass

from sync.domain.nudge import Nudge

MAX_REMEMBERED = 16
"""Nudges that ask for nothing when they come again."""
MAX_POLLS = 3
"""For one nudge whose generation the store does not show: a cache before it may be a minute behind."""


@dataclass(frozen=True, slots=True)
class NudgeLimits:
    """Seconds. every_s: between two polls that are asked for, doubled up to max_every_s while they bring nothing. jitter_s: within
    which the devices follow that are told at once."""

    every_s: float = 30.0
    jitter_s: float = 60.0
    max_every_s: float = 900.0


class Nudges:
    """`at`: when to poll, None for not before the ordinary time. Instants are seconds that never go back."""

    def __init__(self, limits: NudgeLimits, chance: random.Random) -> None:
        self._limits, self._chance = limits, chance
        self._remembered: deque[Nudge] = deque(maxlen=MAX_REMEMBERED)
        self._pause_s = limits.every_s
        self._asked_at = self._not_before = -math.inf
        self._wanted = self._polls = 0
        self.at: float | None = None

    def heard(self, nudge: Nudge, known: int, now: float, *, fleet: bool) -> bool:
        """Whether it asks for a poll. known: the generation that the device has seen. fleet: others hear the same."""
        if nudge.generation <= known or nudge in self._remembered:
            return False
        self._remembered.append(nudge)
        self._wanted, self._polls = nudge.generation, 0
        self._ask(now, self._pause_s, fleet=fleet)
        return True

    def asked(self, now: float, *, fleet: bool) -> float:
        """A command; the seconds until the poll."""
        at = self._ask(now, self._limits.every_s, fleet=fleet)
        return max(at - now, 0.0)

    def _ask(self, now: float, pause_s: float, *, fleet: bool) -> float:
        at = now + (self._limits.jitter_s * self._chance.random() if fleet else 0.0)
        at = max(at, self._asked_at + pause_s, self._not_before)
        self.at = at if self.at is None else min(self.at, at)
        return self.at

    def polled(self, known: int, now: float, *, ok: bool, asked: bool, retry_after_s: float = 0.0) -> None:
        """A poll is over. ok: the store answered. asked: it was made because `at` had come. retry_after_s: as the store wished."""
        self._not_before = now + retry_after_s
        if asked:
            self._asked_at = now
        if ok and known >= self._wanted:
            if self._wanted:
                self._pause_s = self._limits.every_s
            self._wanted, self._polls, self.at = 0, 0, None
        elif asked:
            self._polls += 1
            self._pause_s = min(self._pause_s * 2, max(self._limits.max_every_s, self._limits.every_s))
            again = max(now + self._pause_s, self._not_before)
            self.at = again if self._polls < MAX_POLLS else None
        elif self.at is not None:
            self.at = max(self.at, self._not_before)
