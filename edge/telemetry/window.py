"""The last minute of one version: how many requests, how fast, how many went wrong.

Rule 1: remembering a request is a few stores into arrays; everything else is worked out by the one who asks.
Rule 2: times are the given clock's, in seconds. Counts are exact for WINDOW_S; percentiles are of the newest SAMPLES answers.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import ceil

SAMPLES = 1024  # a power of two
WINDOW_S = 60
RATE_S = 10
_SECONDS = 64  # one counter for each of the last seconds; a power of two above WINDOW_S
_SAMPLE_MASK, _SECOND_MASK = SAMPLES - 1, _SECONDS - 1


@dataclass(frozen=True, slots=True)
class Recent:
    """What happened in the last `seconds`. Times in seconds."""

    seconds: float = WINDOW_S
    requests: int = 0
    failures: int = 0
    non_finite: int = 0
    run_p50_s: float = 0.0
    run_p99_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Totals:
    """Since the version was first loaded. `answered`: of `requests`, those that got what they asked for; `failures`:
    those that the version failed; the others were the clients' or the load's. `non_finite`: of `answered`.
    `unserved`: those that the server owed an answer, and failed, refused for want of room, or did not get done in time.

    Times in seconds, added up: `answered_s` in the server, of which `queue_s` and `run_s` are parts; `failures_s`."""

    requests: int = 0
    answered: int = 0
    failures: int = 0
    non_finite: int = 0
    unserved: int = 0
    answered_s: float = 0.0
    queue_s: float = 0.0
    run_s: float = 0.0
    failures_s: float = 0.0


def percentile(ordered: list[float], share: float) -> float:
    """By nearest rank, of values in ascending order; 0 for none."""
    return ordered[max(0, ceil(share * len(ordered)) - 1)] if ordered else 0.0


class Window:
    """Not thread-safe for writing; reading from another thread sees a moment's mixture, which does no harm."""

    __slots__ = ("_at", "_born", "_by_second", "_clock", "_failed", "_next", "_non_finite", "_run", "_second", "_total")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._born = clock()
        # Grown to SAMPLES at the first answer: a version that never gives one takes no room for them.
        self._at, self._run, self._total = array("d"), array("d"), array("d")
        self._next = 0
        self._by_second = [0] * _SECONDS
        self._second = int(self._born)
        self._failed: deque[float] = deque(maxlen=SAMPLES)
        self._non_finite: deque[float] = deque(maxlen=SAMPLES)

    def answered(self, total_s: float, run_s: float) -> None:
        """A request that was answered as it should be."""
        now = self._clock()
        second = int(now)
        if second != self._second:
            self._turn(second)
        self._by_second[second & _SECOND_MASK] += 1
        index = self._next
        try:
            self._at[index] = now
        except IndexError:
            self._grow()
            self._at[index] = now
        self._run[index] = run_s
        self._total[index] = total_s
        self._next = (index + 1) & _SAMPLE_MASK

    def _grow(self) -> None:
        self._run = array("d", [0.0]) * SAMPLES
        self._total = array("d", [0.0]) * SAMPLES
        self._at = array("d", [-1e300]) * SAMPLES

    def refused(self, *, failure: bool) -> None:
        """A request that got an error; `failure` where the model is to blame."""
        now = self._clock()
        self._turn(int(now))
        self._by_second[int(now) & _SECOND_MASK] += 1
        if failure:
            self._failed.append(now)

    def non_finite(self) -> None:
        """An answer with a NaN or an infinity in it."""
        self._non_finite.append(self._clock())

    def _turn(self, second: int) -> None:
        """Forget the counters of a minute ago, which the seconds since the last request would reuse."""
        for passed in range(max(self._second + 1, second - _SECONDS + 1), second + 1):
            self._by_second[passed & _SECOND_MASK] = 0
        self._second = max(second, self._second)

    def samples(self, seconds: float = WINDOW_S) -> list[tuple[float, float]]:
        """(run_s, total_s) of the answers of the last `seconds`, at most SAMPLES of them, in no order."""
        since = self._clock() - seconds
        rows = zip(self._at, self._run, self._total, strict=False)  # they may be growing just now
        return [(run, total) for at, run, total in rows if at >= since]

    def rate(self) -> float:
        """Requests per second over the last RATE_S whole seconds, or since the beginning if that is later."""
        now = self._clock()
        first = max(int(now) - RATE_S, int(self._born))
        if first == int(now):
            return float(self._count(first, first)) / max(now - self._born, 0.1)
        return self._count(first, int(now) - 1) / (int(now) - first)

    def _count(self, first: int, last: int) -> int:
        """Requests in the seconds first..last, both included; those of more than a minute ago are forgotten."""
        newest = self._second
        return sum(
            self._by_second[s & _SECOND_MASK] for s in range(max(first, newest - _SECONDS + 1), min(last, newest) + 1)
        )

    def recent(self, seconds: float = WINDOW_S) -> Recent:
        """`seconds` is at most WINDOW_S; a larger one is taken as that."""
        seconds = min(seconds, WINDOW_S)
        now = self._clock()
        runs = sorted(run for run, _ in self.samples(seconds))
        return Recent(
            seconds=seconds,
            requests=self._count(int(now - seconds) + 1, int(now)),
            failures=_since(self._failed, now - seconds),
            non_finite=_since(self._non_finite, now - seconds),
            run_p50_s=percentile(runs, 0.5),
            run_p99_s=percentile(runs, 0.99),
        )


def _since(times: Iterable[float], start: float) -> int:
    return sum(at >= start for at in list(times))
