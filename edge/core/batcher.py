"""What runs next, of the requests that wait for a model that takes several at once: pure.

Rule 1: the oldest request decides what is run; others join it whose key is the same, in the order of their arrival.
Rule 2: with no run under way nothing is held back. Rule 3: a batch is held for at most half of the time
that any deadline in it leaves beside the run, and nobody joins who would make a run too long for a deadline that it could
have kept.
Rule 4: how many rows profit is not assumed but measured (`RunTimes`), unless the limits say otherwise.
Figures: docs/adr/0020-batching.md.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

SAVES = 0.95
"""A batch twice as large is worth while where a row of it takes at most so much of a row's time in the smaller one."""
KEEP_RUNS = 16
ENOUGH_RUNS = 3
"""The mean of the last KEEP_RUNS runs of a size counts; before ENOUGH_RUNS, it is yet to be found out."""
SHORT_RUN_S = 1e-3
HARDLY_MORE = 1.5
IN_NO_HURRY_S = 1.0
"""Of runs as short as this, a second one is not begun beside the first while one of twice the rows would take hardly more."""
GATHER_S = 2e-3
SATURATED = 0.7
"""With so short runs, and more requests than one lane would get done alone, who came during a run waits for up to so long."""
PEERS = 0.75
"""Not longer than until so large a part of those who ask at once is there."""
IDLE_S = 0.1
REMEMBER_ARRIVALS = 64
HOP_S = 1e-4
"""What it costs to wake a lane, and the event loop when it is done, beside the run."""
HARM = 2.0
"""A run that has to be done again counts so often: those who wait for it did nothing wrong."""
REMEMBER_REQUESTS = 256
"""How many of the last requests say what share of them fails."""
TRY_AGAIN_RUNS = 64
"""After so many runs the sizes beside the one that pays are tried again: loads and clocks change."""


class Asked(Protocol):
    """A request that waits. `key`: requests of one key may share a run, None is alone. Times in the loop's seconds."""

    @property
    def key(self) -> Hashable | None: ...
    @property
    def rows(self) -> int: ...
    @property
    def queued(self) -> float: ...
    @property
    def deadline(self) -> float | None: ...


@dataclass(frozen=True, slots=True)
class Limits:
    """`max_rows` of one run; `timeout_s` is how long a batch with room left is held while another one runs.

    `adaptive`: no more rows than measured run times say is worth while. `allowed`: ascending sizes that a run may have, to the
    next of which it is padded; empty for any. `pad_lengths`: whether inputs of different lengths share a run.
    """

    max_rows: int
    timeout_s: float = 0.0
    adaptive: bool = True
    allowed: tuple[int, ...] = ()
    pad_lengths: bool = False

    def padded(self, rows: int) -> int:
        """The rows of the run that so many make."""
        return next((size for size in self.allowed if size >= rows), rows)


class RunTimes:
    """Seconds that runs took, by their rows: sizes are told apart by their power of two."""

    def __init__(self, max_rows: int) -> None:
        self._took: list[deque[float]] = [deque(maxlen=KEEP_RUNS) for _ in range(_size(max_rows) + 1)]
        self._last = [0] * len(self._took)
        self._runs = 0
        self._failing = 0.0

    def observe(self, rows: int, run_s: float) -> None:
        size = min(_size(rows), len(self._took) - 1)
        self._took[size].append(run_s / rows)
        self._runs += 1
        self._last[size] = self._runs

    def judged(self, requests: int, *, failed: bool) -> None:
        """So many requests have been answered, or have failed in a run of their own."""
        share = 1 - (1 - 1 / REMEMBER_REQUESTS) ** requests
        self._failing += share * (failed - self._failing)

    def run_s(self, rows: int) -> float:
        """What a run of so many rows will take, as far as is known; else 0."""
        wanted = min(_size(rows), len(self._took) - 1)
        for size in sorted(range(len(self._took)), key=lambda size: abs(size - wanted)):
            if self._took[size]:
                row_s = _mean(self._took[size])
                return row_s * (rows if size <= wanted else 1 << size)
        return 0.0

    def worth(self, rows: int) -> int:
        """How many of so many rows that wait should run as one."""
        best, chosen = math.inf, 0
        top = min(_size(rows), len(self._took) - 1)
        for size in range(top + 1):
            took = self._took[size]
            if len(took) < ENOUGH_RUNS:
                continue
            row_s = _mean(took) + HOP_S / (1 << size) + self._again_s(1 << size)
            if row_s <= SAVES * best:
                chosen = size
            best = min(best, row_s)
        if chosen < top and self._again_s(2 << chosen) < SAVES * best < math.inf:
            further = chosen + 1
            if len(self._took[further]) < ENOUGH_RUNS or self._runs - self._last[further] >= TRY_AGAIN_RUNS:
                return min(rows, 1 << further)
        if chosen and self._runs - self._last[chosen - 1] >= TRY_AGAIN_RUNS:
            chosen -= 1  # what it is better than may have been measured in worse times
        return min(rows, 1 << chosen)

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


class Next(NamedTuple):
    """Indices of the requests to run as one, none if it is too early; of those whose time is up; when to look again.

    `room`: until the run under way ends, so many rows more of the same key change nothing.
    """

    take: list[int]
    late: list[int]
    look_at: float = math.inf
    room: int = 0


class _Group(NamedTuple):
    take: list[int]
    rows: int
    full: bool


def decide(
    waiting: Sequence[Asked],
    limits: Limits,
    times: RunTimes,
    *,
    now: float,
    busy: bool,
    load: Load | None = None,
    idle_since: float = -math.inf,
) -> Next:
    """`waiting` in the order of arrival; `busy`: a run of the same model is under way, `idle_since`: the last one's end."""
    late = [at for at, one in enumerate(waiting) if one.deadline is not None and one.deadline < now]
    gone, look_at = set(late), math.inf
    room = 0
    for group in _groups(waiting, limits, times, gone):
        take = _in_time(group.take, waiting, limits, times, now)
        if group.full or len(take) < len(group.take):
            return Next(take, late)
        if not busy:
            came = waiting[take[0]].queued
            if load is None or came > idle_since or now >= came + GATHER_S or limits.timeout_s or not limits.adaptive:
                return Next(take, late)
            room = int(load.peers * PEERS) - group.rows
            saturated = times.run_s(1) >= SATURATED * load.gap_s
            if room <= 0 or not saturated or not _soon([waiting[at] for at in take], group.rows, times, now):
                return Next(take, late)
            return Next([], late, came + GATHER_S, room)
        if limits.timeout_s == 0:
            if not (limits.adaptive and _soon([waiting[at] for at in take], group.rows, times, now)):
                return Next(take, late)
            room = 0 if room else times.worth(limits.max_rows) - group.rows
            continue
        due = _due([waiting[at] for at in take], group.rows, limits, times)
        if due <= now:
            return Next(take, late)
        look_at = min(look_at, due)
    return Next([], late, look_at, room)


def _groups(waiting: Sequence[Asked], limits: Limits, times: RunTimes, gone: set[int]) -> Iterator[_Group]:
    """One for each key, by its oldest request."""
    keys: set[Hashable] = set()
    for first, one in enumerate(waiting):
        if first in gone or one.key in keys:
            continue
        if one.key is None:
            yield _Group([first], one.rows, full=True)
            continue
        keys.add(one.key)
        yield _group(waiting, first, limits, times, gone)


def _group(waiting: Sequence[Asked], first: int, limits: Limits, times: RunTimes, gone: set[int]) -> _Group:
    key, take, rows, more = waiting[first].key, [first], waiting[first].rows, False
    for at in range(first + 1, len(waiting)):
        if rows >= limits.max_rows:
            break
        one = waiting[at]
        if one.key != key or at in gone:
            continue
        if rows + one.rows > limits.max_rows:
            more = True  # it is the next one's first: nobody overtakes it
            break
        take.append(at)
        rows += one.rows
    full = more or rows >= limits.max_rows
    if limits.adaptive:
        most = times.worth(rows)
        full = full or times.worth(limits.max_rows) <= rows
        while len(take) > 1 and rows > most:
            rows -= waiting[take.pop()].rows
    return _Group(take, rows, full)


def _in_time(take: list[int], waiting: Sequence[Asked], limits: Limits, times: RunTimes, now: float) -> list[int]:
    """Without the last ones, as long as a shorter run keeps a deadline that this one would not."""
    alone = now + times.run_s(limits.padded(waiting[take[0]].rows))
    deadlines = [deadline for at in take if (deadline := waiting[at].deadline) is not None and deadline >= alone]
    rows, kept = sum(waiting[at].rows for at in take), len(take)
    earliest = min(deadlines, default=math.inf)
    while kept > 1 and now + times.run_s(limits.padded(rows)) > earliest:
        kept -= 1
        rows -= waiting[take[kept]].rows
    return take[:kept]


def _soon(group: Sequence[Asked], rows: int, times: RunTimes, now: float) -> bool:
    """Whether it should wait for the run under way, which is over soon, to take whoever comes until then along."""
    run_s = times.run_s(rows)
    if not 0 < run_s <= SHORT_RUN_S or times.run_s(2 * rows) > HARDLY_MORE * run_s:
        return False
    return all(one.deadline is None or one.deadline - now > IN_NO_HURRY_S for one in group)


def _due(group: Sequence[Asked], rows: int, limits: Limits, times: RunTimes) -> float:
    """When it is to begin, with or without further company."""
    run_s = times.run_s(limits.padded(rows))
    due = min(one.queued for one in group) + limits.timeout_s
    for one in group:
        if one.deadline is not None:
            due = min(due, one.queued + max(0.0, one.deadline - one.queued - run_s) / 2)
    return due


def _size(rows: int) -> int:
    """0 for 1, 1 for 2, 2 for 3 and 4, 3 for 5 to 8, and so on."""
    return (rows - 1).bit_length()


def _mean(values: deque[float]) -> float:
    """Without the largest: a first run that compiled something should not count for long."""
    if len(values) == 1:
        return values[0]
    return (sum(values) - max(values)) / (len(values) - 1)
