"""What runs next, of the requests that wait for a model that takes several at once: pure.

Rule 1: the oldest request decides what is run; others join it whose key is the same, in the order of their arrival.
Rule 2: where a lane is free, nobody is held back, unless requests come faster than the lanes would do them one by one: then,
without company, everybody would wait for longer. Rule 3: a batch is held for at most half of the time that any deadline in
it leaves beside the run, and nobody joins who would make a run too long for a deadline that it could have kept.
Rule 4: how many rows profit is not assumed but measured (`RunTimes`), unless the limits say otherwise.
Figures: docs/adr/0020-batching.md.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from edge.core.run_times import Load, RunTimes

SHORT_RUN_S = 2e-3
HARDLY_MORE = 1.5
"""Of runs as short as this, a second one is not begun beside the first while one of twice the rows would take hardly more."""
OVERDUE_S = 10 * SHORT_RUN_S
"""A run that was to be short has taken longer than was thought where somebody has waited so long for its end: no longer beside a free lane."""
IN_NO_HURRY_S = 1.0
"""Whoever has less time than this waits for nobody, unless a timeout is set."""
SATURATED = 0.7
"""Requests come faster than lanes do them alone where a run takes so much of the time between two of them."""
PEERS, PEERS_OF_LONG = 0.75, 0.5
"""A run is worth waiting for until so large a part of those who ask at once, and are not in a run, is there; of runs longer
than SHORT_RUN_S a smaller one, as the lane that waits would keep a core busy."""
GATHER_S, MAX_GATHER_S = 2e-3, 8e-3
"""For as long as it takes them to come, by the time between two requests; at least and at most this."""


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


class Next(NamedTuple):
    """Indices of the requests to run as one, none if it is too early; of those whose time is up; when to look again.

    `room`: until the run under way ends, so many rows more of the same key change nothing.
    """

    take: list[int]
    late: list[int]
    look_at: float = math.inf
    room: int = 0


class Lanes(NamedTuple):
    """How many there are, and how many requests are in their runs now."""

    number: int = 1
    running: int = 0


IDLE = Lanes()


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
    lanes: Lanes = IDLE,
    load: Load | None = None,
) -> Next:
    """`waiting` in the order of arrival. `load`: who asks, None to hold nobody back for others."""
    late = [at for at, one in enumerate(waiting) if one.deadline is not None and one.deadline < now]
    held, look_at = [], math.inf
    for group in _groups(waiting, limits, times, set(late)):
        take = _in_time(group.take, waiting, limits, times, now)
        if group.full or len(take) < len(group.take):
            return Next(take, late)
        hold = _hold([waiting[at] for at in take], group.rows, limits, times, now, lanes, load)
        if hold.until <= now:
            return Next(take, late)
        held.append(hold)
        look_at = min(look_at, hold.until)
    return Next([], late, look_at, held[0].room if len(held) == 1 else 0)


class _Hold(NamedTuple):
    """`until` when, at the latest; `room`: for how many rows more that stays so."""

    until: float
    room: int = 0


AT_ONCE = _Hold(-math.inf)


def _hold(
    asked: Sequence[Asked], rows: int, limits: Limits, times: RunTimes, now: float, lanes: Lanes, load: Load | None
) -> _Hold:
    """Whether they wait for more, who would have room in their run."""
    if limits.timeout_s > 0:
        return _Hold(_due(asked, rows, limits, times)) if lanes.running else AT_ONCE
    if not limits.adaptive or any(one.deadline is not None and one.deadline - now <= IN_NO_HURRY_S for one in asked):
        return AT_ONCE
    if lanes.running and _hardly_longer(rows, times):
        # The run under way is over soon: it ends first, to take whoever comes until then along.
        return _Hold(asked[0].queued + OVERDUE_S, times.worth(limits.max_rows) - rows)
    return AT_ONCE if load is None else _gather(asked, rows, limits, times, lanes, load)


def _gather(asked: Sequence[Asked], rows: int, limits: Limits, times: RunTimes, lanes: Lanes, load: Load) -> _Hold:
    run_s = times.run_s(1)
    # Of short runs, one lane keeps the interpreter as busy as several do.
    part, alike = (PEERS, 1) if run_s <= SHORT_RUN_S else (PEERS_OF_LONG, lanes.number)
    room = min(int((load.peers - lanes.running) * part), times.worth(limits.max_rows)) - rows
    if room <= 0 or run_s < SATURATED * load.gap_s * alike:
        return AT_ONCE
    most_s = max(MAX_GATHER_S, times.run_s(rows + room) / 2)
    return _Hold(asked[0].queued + min(most_s, max(GATHER_S, room * load.gap_s)), room)


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


def _hardly_longer(rows: int, times: RunTimes) -> bool:
    """Whether a run is short, and one of twice the rows would take hardly more."""
    run_s = times.run_s(rows)
    return 0 < run_s <= SHORT_RUN_S and times.run_s(2 * rows) <= HARDLY_MORE * run_s


def _due(group: Sequence[Asked], rows: int, limits: Limits, times: RunTimes) -> float:
    """When it is to begin, with or without further company."""
    run_s = times.run_s(limits.padded(rows))
    due = min(one.queued for one in group) + limits.timeout_s
    for one in group:
        if one.deadline is not None:
            due = min(due, one.queued + max(0.0, one.deadline - one.queued - run_s) / 2)
    return due
