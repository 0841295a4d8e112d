"""How long to wait before the next connection. Pure but for the dice.

Rule 1: full jitter, so that a fleet does not come back as one when its broker does. Rule 2: a link that another client
with the same name took over waits long, and ever longer: else the two would throw each other out once a second for ever.
Rule 3: the pauses begin anew only after a connection that has lasted. Rule 4: not every broker says that a link was taken
over; one that has closed it without a word, and then still knows its session, was not away itself.
"""

from __future__ import annotations

import random

FIRST_S = 1.0
MAX_S = 60.0
LASTED_S = 10.0
"""A connection that lived so long was no failure."""
AT_PEACE_S = 120.0
"""So long after it was taken over, a link has its name to itself."""
EVIDENCE = 2
"""Times in a row that a broker closed a connection without a word and knew the session right afterwards."""
_TAKEN_OVER_EXPONENT = 4
_MAX_EXPONENT = 6


class Backoff:
    def __init__(self, chance: random.Random | None = None) -> None:
        self._chance = chance or random.Random()
        self._failures = 0
        self._takeovers = 0

    def lost(self, lasted_s: float, *, taken_over: bool = False, silent: bool = False) -> float:
        """Seconds to wait, after a connection that lasted `lasted_s` seconds: 0 for one that never was. `silent`: the broker
        has closed it without a word, as it does when it is killed or when another client has taken over."""
        if lasted_s >= AT_PEACE_S:
            self._takeovers = 0
        if lasted_s >= (AT_PEACE_S if silent else LASTED_S) and not self._takeovers:
            self._failures = 0
        if taken_over:
            cap = _cap(_TAKEN_OVER_EXPONENT + self._takeovers)
            self._takeovers = min(self._takeovers + 1, _MAX_EXPONENT)
            return self._chance.uniform(cap / 2, cap)
        cap = _cap(self._failures)
        self._failures = min(self._failures + 1, _MAX_EXPONENT)
        return self._chance.uniform(0.0, cap)


class Rivalry:
    """Whether another client goes by the same name, as far as it shows where the broker does not say so."""

    def __init__(self) -> None:
        self._evidence = 0
        self._silent = False

    def failed(self) -> None:
        """A connection was tried and could not be had: the broker itself is away."""
        self._silent = False

    def connected(self, *, session_present: bool) -> None:
        self._evidence = self._evidence + 1 if self._silent and session_present else 0

    def lost(self, lasted_s: float, *, silent: bool) -> bool:
        """Whether it looks as if the connection was taken over."""
        self._silent = silent
        if lasted_s >= AT_PEACE_S:
            self._evidence = 0
        return silent and self._evidence >= EVIDENCE


def _cap(exponent: int) -> float:
    return float(min(MAX_S, FIRST_S * 2**exponent))
