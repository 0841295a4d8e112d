"""Whether a new version may stay: decided from what the server has counted, and from nothing that a client can send.

Rule 1: pure and total. Rule 2: bad news is acted on as soon as it is certain, good news only when the time is over.
Rule 3: a share of failures counts by the lower bound of its 95 % confidence interval (Wilson 1927), so that one failure
among three requests condemns nobody. Rule 4: p99 is of the run alone, so that load cannot make a version look slow; and where
it grew by less than the machine's own noise, whatever the ratio, nobody is condemned.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from sync.domain.errors import Reason
from sync.domain.journal import Baseline, Watched
from sync.domain.ports import VersionHealth
from sync.domain.rollout import Probation

MAX_DEATHS = 2
"""Deaths of the server within a probation, the last of which ends it."""
MIN_FAILURES = 3
"""So many failures, at least, condemn a version."""
MIN_SLOWER_S = 0.002
"""By so much, at least, is the p99 of a run longer where a version is condemned for it: a run of microseconds takes twice
its time whenever something else wants the processor."""
Z95 = 1.96


class Verdict(NamedTuple):
    """`healthy`: True to commit, False to roll back, None to go on watching. `detail`: for a person."""

    healthy: bool | None
    reason: Reason | None = None
    detail: str = ""


WATCH = Verdict(None)
BROKEN_STATES = ("failed", "unloaded")


def judge(
    probation: Probation, baseline: Baseline, watched: Watched, now: VersionHealth | None, elapsed_s: float
) -> Verdict:
    """`now`: the version in the process of `watched.boot`; None where the server does not know it, or not yet."""
    if watched.deaths >= MAX_DEATHS:
        return Verdict(False, Reason.CRASH_LOOP, f"the server died {watched.deaths} times")
    if now is None:
        return WATCH
    if now.state in BROKEN_STATES:
        return Verdict(False, Reason.LOAD_FAILED, now.reason or f"it is {now.state}")
    answered = watched.answered + now.answered
    failures = watched.failures + now.failures
    non_finite = watched.non_finite + now.non_finite
    allowed = probation.max_error_rate
    for what, count, of, before in (
        ("failed", failures, answered + failures, share(baseline.failures, baseline.answered + baseline.failures)),
        ("not finite", non_finite, answered, share(baseline.non_finite, baseline.answered)),
    ):
        if count >= MIN_FAILURES and wilson_low(count, of) > before + allowed:
            text = f"{count} of {of} answers {what}, {before:.1%} before; at most {allowed:.1%} more are allowed"
            return Verdict(False, Reason.HEALTH_ERRORS, text)
    if elapsed_s < probation.seconds or now.state != "ready":
        return WATCH
    if (
        answered + failures >= probation.min_requests
        and 0 < baseline.run_p99_s * probation.max_p99_ratio < now.run_p99_s
        and now.run_p99_s - baseline.run_p99_s >= MIN_SLOWER_S
    ):
        text = (
            f"p99 of a run is {now.run_p99_s * 1000:.3g} ms, {baseline.run_p99_s * 1000:.3g} ms before; "
            f"at most {probation.max_p99_ratio:g} times that is allowed"
        )
        return Verdict(False, Reason.HEALTH_LATENCY, text)
    enough = answered + failures >= probation.min_requests
    return Verdict(True, detail="" if enough else f"{answered + failures} requests only")


def share(count: int, of: int) -> float:
    return count / of if of else 0.0


def wilson_low(count: int, of: int, z: float = Z95) -> float:
    """The lower bound of a share's confidence interval; 0 of nothing."""
    if of == 0:
        return 0.0
    p = count / of
    middle = p + z * z / (2 * of)
    spread = z * math.sqrt(p * (1 - p) / of + z * z / (4 * of * of))
    return max(0.0, (middle - spread) / (1 + z * z / of))
