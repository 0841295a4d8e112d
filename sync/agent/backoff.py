"""How long to wait after something failed that others met at the same moment.

Rule 1: pure but for chance, which is handed in. Rule 2: no two devices keep step: each pause falls anywhere in the second half of
what it is at the most. Rule 3: nobody is asked sooner than they wished.
"""

from __future__ import annotations

import random


class Backoff:
    """first_s: the longest that the first pause is, doubled with each failure up to max_s. Seconds."""

    def __init__(self, first_s: float, max_s: float, chance: random.Random) -> None:
        self._first_s, self._max_s, self._chance = first_s, max(first_s, max_s), chance
        self._next_s = first_s

    def failed_s(self, retry_after_s: float = 0.0) -> float:
        """The pause after a failure. retry_after_s: what the other side wished, 0 for nothing; up to half of it is added."""
        pause_s, self._next_s = self._next_s, min(self._next_s * 2, self._max_s)
        return max(pause_s * (1 + self._chance.random()) / 2, retry_after_s * (1 + self._chance.random() / 2))

    def over(self) -> None:
        """It went well: the next pause is the first again."""
        self._next_s = self._first_s
