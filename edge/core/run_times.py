"""What runs took and who asks: from which `edge.core.batcher` tells how many rows pay. Pure."""

from __future__ import annotations

import math
from collections import deque

SAVES = 0.95
"""A batch twice as large is worth while where a row of it takes at most so much of a row's time in the smaller one."""
KEEP_RUNS = 16
ENOUGH_RUNS = 3
"""The second quickest of the last KEEP_RUNS runs of a size counts, or the quickest of half as many; before ENOUGH_RUNS, it is yet to be found out."""
IDLE_S = 0.1
REMEMBER_ARRIVALS = 64
"""How often requests come is told from about so many; after a silence of IDLE_S, from none."""
HOP_S = 1e-4
"""What it costs to wake a lane, and the event loop when it is done, beside the run."""
HARM = 2.0
"""A run that has to be done again counts so often: those who wait for it did nothing wrong."""
REMEMBER_REQUESTS = 256
"""How many of the last requests say what share of them fails."""
TRY_AGAIN_RUNS = 64
"""After so many runs the sizes beside the one that pays are tried again; what they took before is forgotten where they are quicker: loads and clocks change."""
FAR_RUNS = 4 * TRY_AGAIN_RUNS
"""After so many the larger ones, which have been tried before."""


class RunTimes:
    """Seconds that runs took, by their rows: sizes are told apart by their power of two."""

    def __init__(self, max_rows: int) -> None:
        self._took: list[deque[float]] = [deque(maxlen=KEEP_RUNS) for _ in range(_size(max_rows) + 1)]
        self._row_s = [math.nan] * len(self._took)
        self._worth: dict[int, int] = {}
        self._last = [0] * len(self._took)
        self._runs = 0
        self._failing = 0.0

    def observe(self, rows: int, run_s: float) -> None:
        size = min(_size(rows), len(self._took) - 1)
        if self._runs - self._last[size] >= TRY_AGAIN_RUNS and run_s / rows < SAVES * self._row_s[size]:
            self._took[size].clear()
        self._took[size].append(run_s / rows)
        self._row_s[size] = _typical(self._took[size])
        self._worth.clear()
        self._runs += 1
        self._last[size] = self._runs

    def judged(self, requests: int, *, failed: bool) -> None:
        """So many requests have been answered, or have failed in a run of their own."""
        if not failed and not self._failing:
            return
        share = 1 - (1 - 1 / REMEMBER_REQUESTS) ** requests
        self._failing += share * (failed - self._failing)
        self._worth.clear()

    def run_s(self, rows: int) -> float:
        """What a run of so many rows will take, as far as is known; else 0."""
        wanted = min(_size(rows), len(self._took) - 1)
        if self._took[wanted]:
            return self._row_s[wanted] * rows
        for size in sorted(range(len(self._took)), key=lambda size: abs(size - wanted)):
            if self._took[size]:
                return self._row_s[size] * (rows if size <= wanted else 1 << size)
        return 0.0

    def worth(self, rows: int) -> int:
        """How many of so many rows that wait should run as one."""
        if (known := self._worth.get(rows)) is None:
            known = self._worth[rows] = self._find_worth(rows)
        return known

    def _find_worth(self, rows: int) -> int:
        best, chosen = math.inf, 0
        top = min(_size(rows), len(self._took) - 1)
        for size in range(top + 1):
            if len(self._took[size]) < ENOUGH_RUNS:
                continue
            full = 1 << size
            # Rows that only fill it up cost as much as others.
            row_s = (self._row_s[size] * full + HOP_S) / min(rows, full) + self._again_s(full)
            if row_s <= SAVES * best:
                chosen = size
            best = min(best, row_s)
        for further in range(chosen + 1, top + 1):
            if self._again_s(1 << further) >= SAVES * best or best == math.inf:
                break
            if self._is_to_be_tried(further, beside=further == chosen + 1):
                return min(rows, 1 << further)
        if chosen and self._runs - self._last[chosen - 1] >= TRY_AGAIN_RUNS:
            chosen -= 1  # what it is better than may have been measured in worse times
        return min(rows, 1 << chosen)

    def _is_to_be_tried(self, size: int, *, beside: bool) -> bool:
        since = self._runs - self._last[size]
        if len(self._took[size]) < ENOUGH_RUNS:
            return beside or (bool(self._took[size]) and since < TRY_AGAIN_RUNS)
        return since >= (TRY_AGAIN_RUNS if beside else FAR_RUNS)

    def _again_s(self, rows: int) -> float:
        """What it costs each of so many requests in a run that all are run again when one of them fails it; seconds."""
        return HARM * (1 - (1 - self._failing) ** rows) * self.run_s(1) if rows > 1 else 0.0


class Load:
    """Who asks: `gap_s` between two requests, and `peers`, how many were there at once; of about the last ones that came."""

    def __init__(self) -> None:
        self.gap_s, self.peers = math.inf, 0.0
        self._last = -math.inf

    def arrived(self, now: float, there: int) -> None:
        """One more; with it so many wait or run. Seconds of a clock that never goes back."""
        gap, self._last = now - self._last, now
        if gap >= IDLE_S:
            self.gap_s, self.peers = math.inf, 0.0
        elif self.gap_s == math.inf:
            self.gap_s = gap
        else:
            self.gap_s += (gap - self.gap_s) / REMEMBER_ARRIVALS
        self.peers = max(there, self.peers * (1 - 1 / REMEMBER_ARRIVALS))


def _size(rows: int) -> int:
    """0 for 1, 1 for 2, 2 for 3 and 4, 3 for 5 to 8, and so on."""
    return (rows - 1).bit_length()


def _typical(values: deque[float]) -> float:
    """Of the quickest: first runs that compile something, and those that waited for a processor, say nothing of the size."""
    return sorted(values)[(len(values) - 1) // 8]
