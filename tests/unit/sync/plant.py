"""A plant's 10,000 devices: how often they poll, the documents that they are shown, and what chance may make of a rate.

Bounds on shares and rates are what chance leaves, at five standard deviations; device ids and seeds are fixed, so that a run
is as good as any other and the same as the last.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from sync.agent.loop import LoopLimits
from sync.domain.rollout import FORMAT, Candidate, ModelRollout, Probation, Rollout, State
from tests.unit.sync.simulation import GROUP, MODEL, NEW, OLD

DEVICES = 10_000
LIMITS = LoopLimits()
LONGEST_S = LIMITS.poll_s * (1 + LIMITS.jitter)
POLLS_PER_S = DEVICES / LIMITS.poll_s

TENTH, HALF, ALL, PAUSED, RECALLED, HUNDREDTH, OTHER, LONG, LONG_PAUSED, LONG_RESUMED = range(10)
"""Numbers of the documents."""


def document(seq: int, percent: float, *, spread_s: float, state: State = "running", name: str = "r-1") -> Rollout:
    candidate = Candidate(NEW, name, state, percent)
    model = ModelRollout(OLD, candidate, Probation(seconds=0, min_requests=0))
    return Rollout(FORMAT, GROUP, seq, {MODEL: model}, spread_s=spread_s)


DOCUMENTS = [
    document(1, 10, spread_s=600),
    document(2, 50, spread_s=1200),
    document(3, 100, spread_s=600),
    document(4, 100, spread_s=600, state="paused"),
    document(5, 100, spread_s=600, state="rolling_back"),
    document(6, 1, spread_s=600),
    document(7, 10, spread_s=600, name="r-2"),
    document(8, 100, spread_s=3600, name="r-3"),
    document(9, 100, spread_s=3600, name="r-3", state="paused"),
    document(10, 100, spread_s=3600, name="r-3"),
]


def by_chance(expected: float, *, share: float = 0.0) -> float:
    """The most that `expected` of many may be; `share` of them all is what each is taken with."""
    return expected + 5 * math.sqrt(expected * (1 - share)) + 1


def peak(times: Sequence[float], window_s: float) -> int:
    """The most in any stretch of time that long; sorted times."""
    return max(bisect_right(times, start + window_s) - number for number, start in enumerate(times))


def first_since(times: Sequence[float], when: float) -> float:
    return times[bisect_left(times, when)]
