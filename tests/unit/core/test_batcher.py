"""What runs next, whatever waits: properties of the decision, and what measured run times make of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.core.batcher import GATHER_S, MAX_GATHER_S, Lanes, Limits, Next, decide
from edge.core.run_times import ENOUGH_RUNS, FAR_RUNS, TRY_AGAIN_RUNS, Load, RunTimes

NOW = 100.0
BUSY = Lanes(2, 4)


@dataclass(frozen=True)
class Request:
    key: str | None = "a"
    rows: int = 1
    queued: float = NOW
    deadline: float | None = None
    bad: bool = False


requests = st.builds(
    Request,
    st.sampled_from(["a", "b", None]),
    st.integers(1, 9),
    st.floats(NOW - 1, NOW),
    st.one_of(st.none(), st.floats(NOW - 0.5, NOW + 0.5)),
)
queues = st.lists(requests, max_size=20).map(lambda found: sorted(found, key=lambda one: one.queued))
limits = st.builds(
    Limits,
    st.integers(1, 16),
    st.sampled_from([0.0, 0.01, 0.3, 5.0]),
    st.booleans(),
    st.sampled_from([(), (4, 8, 16)]),
)
Cost = Callable[[int], float]


@st.composite
def measured(draw: st.DrawFn) -> RunTimes:
    times = RunTimes(16)
    for rows, run_s in draw(st.lists(st.tuples(st.integers(1, 16), st.floats(1e-4, 0.5)), max_size=30)):
        times.observe(rows, run_s)
    return times


def learnt(cost: Cost, most: int = 32, runs: int = 200) -> RunTimes:
    times = RunTimes(most)
    for _ in range(runs):
        rows = times.worth(most)
        times.observe(rows, cost(rows))
    return times


@given(queues, limits, measured(), st.booleans())
def test_a_run_is_of_one_key_in_the_order_of_arrival_with_room_for_all(
    waiting: list[Request], limits: Limits, times: RunTimes, busy: bool
) -> None:
    take = decide(waiting, limits, times, now=NOW, lanes=BUSY if busy else Lanes(2)).take
    assert take == sorted(set(take))
    taken = [waiting[at] for at in take]
    assert len({one.key for one in taken}) <= 1
    assert len(taken) <= 1 or taken[0].key is not None
    assert len(taken) <= 1 or sum(one.rows for one in taken) <= limits.max_rows
    if taken:
        before = [one for one in waiting[: take[-1]] if one.key == taken[0].key and not _late(one)]
        assert taken[0].key is None or before == taken[:-1], "nobody is overtaken by one of the same key"


@given(queues, limits, measured(), st.booleans())
def test_who_is_late_is_told_and_never_run(waiting: list[Request], limits: Limits, times: RunTimes, busy: bool) -> None:
    found = decide(waiting, limits, times, now=NOW, lanes=BUSY if busy else Lanes(2))
    assert [waiting[at] for at in found.late] == [one for one in waiting if _late(one)]
    assert not set(found.late) & set(found.take)


@given(queues, limits, measured())
def test_with_no_run_under_way_and_no_load_the_oldest_runs_at_once(
    waiting: list[Request], limits: Limits, times: RunTimes
) -> None:
    found = decide(waiting, limits, times, now=NOW)
    alive = [at for at, one in enumerate(waiting) if not _late(one)]
    assert found.take[:1] == alive[:1]
    assert found.look_at == math.inf


@given(queues, limits, measured())
def test_what_is_held_has_room_and_is_run_in_time(waiting: list[Request], limits: Limits, times: RunTimes) -> None:
    found = decide(waiting, limits, times, now=NOW, lanes=BUSY)
    alive = [one for one in waiting if not _late(one)]
    if found.take or not alive or not limits.timeout_s:
        return
    assert all(one.key is not None for one in alive)
    assert NOW < found.look_at <= min(one.queued for one in alive) + limits.timeout_s
    deadlines = [one.deadline for one in alive if one.deadline is not None]
    assert all(found.look_at <= deadline for deadline in deadlines), "not past the earliest deadline"
    assert decide(waiting, limits, times, now=found.look_at, lanes=BUSY).take


@given(queues, limits, measured(), st.booleans())
def test_company_costs_nobody_a_deadline_that_a_shorter_run_would_keep(
    waiting: list[Request], limits: Limits, times: RunTimes, busy: bool
) -> None:
    taken = [waiting[at] for at in decide(waiting, limits, times, now=NOW, lanes=BUSY if busy else Lanes(2)).take]
    if len(taken) < 2:
        return
    alone = NOW + times.run_s(limits.padded(taken[0].rows))
    end = NOW + times.run_s(limits.padded(sum(one.rows for one in taken)))
    assert not [one for one in taken if one.deadline is not None and alone <= one.deadline < end]


@given(queues, limits, measured())
def test_whatever_waits_is_run_once_or_told_that_it_is_late(
    waiting: list[Request], limits: Limits, times: RunTimes
) -> None:
    left, runs = list(enumerate(waiting)), 0
    while left:
        found = decide([one for _, one in left], limits, times, now=NOW)
        gone = {*found.take, *found.late}
        assert gone
        left = [one for at, one in enumerate(left) if at not in gone]
        runs += bool(found.take)
    assert runs <= len(waiting)


def _late(one: Request) -> bool:
    return one.deadline is not None and one.deadline < NOW


def test_a_model_whose_runs_cost_the_same_whatever_their_size_gets_all_that_wait() -> None:
    assert learnt(lambda rows: 0.010).worth(32) == 32


def test_a_model_whose_rows_cost_the_same_each_gets_one_at_a_time() -> None:
    times = learnt(lambda rows: 0.001 * rows)
    sizes = []
    for _ in range(10 * TRY_AGAIN_RUNS):
        sizes.append(times.worth(32))
        times.observe(sizes[-1], 0.001 * sizes[-1])
    assert set(sizes) == {1, 2}, "the next size is tried now and then"
    assert sizes.count(2) <= 11


def test_a_batch_grows_to_where_it_pays_no_more() -> None:
    """Overhead of 4 ms, 1 ms a row up to 8 rows; beyond, memory is short."""

    def cost(rows: int) -> float:
        return 0.004 + 0.001 * rows * (3 if rows > 8 else 1)

    assert learnt(cost).worth(32) in (4, 8, 16), "and now and then the sizes beside it"
    times = known(cost)
    assert [times.worth(rows) for rows in (1, 2, 4, 8, 30)] == [1, 2, 4, 8, 8]
    assert [times.worth(rows) for rows in (5, 7)] == [4, 7], (
        "five run as four, for three more to fill it up cost too much"
    )


def test_sizes_that_cost_more_are_stepped_over_to_one_that_pays() -> None:
    times = RunTimes(32)
    for rows, run_s in ((1, 0.001), (2, 0.006), (4, 0.006), (8, 0.004), (16, 0.004), (32, 0.004)):
        for _ in range(ENOUGH_RUNS):
            times.observe(rows, run_s)
    assert [times.worth(rows) for rows in (1, 2, 3, 8, 30)] == [1, 1, 1, 8, 30]


def known(cost: Cost) -> RunTimes:
    """Every size up to 32 has run."""
    times = RunTimes(32)
    for _ in range(ENOUGH_RUNS):
        for rows in (1, 2, 4, 8, 16, 32):
            times.observe(rows, cost(rows))
    return times


def under_load(gap_s: float, peers: int) -> Load:
    load = Load()
    for n in range(200):
        load.arrived(NOW - 1 + n * gap_s, peers)
    return load


def test_where_requests_come_faster_than_lanes_do_them_a_run_waits_a_little_for_most_of_those_who_ask() -> None:
    flat, dear = known(lambda _: 3e-4), known(lambda rows: 3e-3 * rows)
    waiting = [Request() for _ in range(4)]

    def found(times: RunTimes, load: Load, now: float = NOW, count: int = 4) -> Next:
        return decide(waiting[:count], Limits(32), times, now=now, load=load)

    assert found(flat, under_load(1e-4, 16)) == Next([], [], NOW + GATHER_S, 12 - 4)
    assert found(flat, under_load(1e-4, 16), now=NOW + GATHER_S).take, "not for long"
    assert found(flat, under_load(4e-4, 32)).look_at == pytest.approx(NOW + (24 - 4) * 4e-4), "for as long as they need"
    assert found(flat, under_load(4e-4, 64)).look_at == NOW + MAX_GATHER_S
    assert found(flat, under_load(1e-4, 5)).take, "most are there"
    assert found(flat, under_load(1e-3, 16)).take, "one lane keeps up"
    assert found(dear, under_load(1e-4, 16), count=1).take, "nothing is gained"
    assert decide(waiting, Limits(32), flat, now=NOW).take, "nobody is waited for"
    assert under_load(1.0, 3).gap_s == math.inf, "whoever asks once in a while is no load"


def test_a_free_lane_waits_only_for_those_who_are_in_no_run_and_while_all_lanes_could_not_keep_up() -> None:
    long, waiting = known(lambda rows: 0.004 + 0.001 * rows), [Request()]

    def found(load: Load, lanes: Lanes) -> Next:
        return decide(waiting, Limits(32), long, now=NOW, lanes=lanes, load=load)

    assert found(under_load(1e-3, 32), Lanes(2, 16)).room == 8 - 1
    assert found(under_load(1e-3, 32), Lanes(2, 30)).take, "the others run already"
    assert found(under_load(5e-3, 32), Lanes(1)).room
    assert found(under_load(5e-3, 32), Lanes(2)).take, "two lanes keep up"


def test_a_second_run_is_not_begun_beside_a_short_one_that_could_take_more_rows_for_the_same() -> None:
    flat, dear, long = (known(cost) for cost in (lambda _: 3e-4, lambda rows: 3e-4 * rows, lambda _: 0.02))
    waiting = [Request(), Request()]
    found = decide(waiting, Limits(32), flat, now=NOW, lanes=BUSY)
    assert (found.take, found.room) == ([], 30)
    assert decide(waiting, Limits(32), flat, now=NOW).take == [0, 1]
    assert decide([Request() for _ in range(32)], Limits(32), flat, now=NOW, lanes=BUSY).take == list(range(32))
    hurried = [*waiting, Request(deadline=NOW + 0.1)]
    assert decide(hurried, Limits(32), flat, now=NOW, lanes=BUSY).take == [0, 1, 2]
    for times in (dear, long):
        assert decide(waiting, Limits(32), times, now=NOW, lanes=BUSY).take


def test_a_first_run_that_compiled_something_does_not_count_for_long() -> None:
    seen: set[int] = set()

    def cost(rows: int) -> float:
        first = rows not in seen
        seen.add(rows)
        return 5.0 if first else 0.010

    assert learnt(cost).worth(32) == 32


def test_a_size_that_did_not_pay_is_tried_again_when_times_have_changed() -> None:
    times = learnt(lambda rows: 0.001 * rows)
    for _ in range(10 * TRY_AGAIN_RUNS):
        times.observe(times.worth(32), 0.001)
    assert times.worth(32) == 32


def p99(limits: Limits, cost: Cost, failing: float) -> float:
    """Of the good requests of 32 clients who each ask again when they are answered, on one lane, in simulated seconds."""
    random, times, now = Random(3), RunTimes(limits.max_rows), 0.0
    waiting, took = [Request(queued=0.0, bad=random.random() < failing) for _ in range(32)], []
    while now < 8:
        take = decide(waiting, limits, times, now=now).take
        run, waiting = [waiting[at] for at in take], [one for at, one in enumerate(waiting) if at not in take]
        now += cost(len(run))
        fails = any(one.bad for one in run)
        if fails and len(run) > 1:
            waiting = [*(replace(one, key=None) for one in run), *waiting]
            continue
        times.judged(len(run), failed=fails)
        if not fails and run[0].key is not None:
            times.observe(len(run), cost(len(run)))
        took += [now - one.queued for one in run if not one.bad]
        waiting += [Request(queued=now, bad=random.random() < failing) for _ in run]
    return sorted(took)[int(0.99 * len(took))]


@pytest.mark.parametrize("row_s", [0.0, 0.0002, 0.002], ids=["free rows", "cheap rows", "dear rows"])
@pytest.mark.parametrize("failing", [0.0, 0.02, 0.1])
def test_whatever_share_of_requests_fails_the_others_wait_no_longer_than_without_batches(
    row_s: float, failing: float
) -> None:
    def cost(rows: int) -> float:
        return 0.004 + row_s * rows

    assert p99(Limits(64), cost, failing) <= 1.15 * p99(Limits(1), cost, failing)


def runs_of(clients: int, pause_s: float = 0.0, *, waits: bool = True) -> tuple[float, float]:
    """Mean rows of a run, and mean seconds of a request, of clients who each ask again `pause_s` after they are answered. One
    lane, runs of 0.3 ms whatever their rows; 0.1 ms of an event loop, one by one, for each answer and the next request."""
    times, load, waiting = known(lambda _: 3e-4), Load(), list[Request]()
    lane, loop, now, sizes, took = math.inf, 0.0, 0.0, list[int](), list[float]()
    running: list[Request] = []
    due = [(0.0, 0.0)] * clients  # when somebody asks next, and since when
    while now < 0.5:
        if due and (asks := max(due[0][0], loop + 1e-4)) <= lane:
            now = loop = asks
            due.pop(0)
            waiting.append(Request(queued=now))
            load.arrived(now, len(waiting) + len(running))
        elif lane < math.inf:
            now, lane = lane, math.inf
            took += [now - one.queued for one in running]
            due, running = sorted([*due, *((now + pause_s, now) for _ in running)]), []
        found = Next([], []) if running else decide(waiting, Limits(32), times, now=now, load=load if waits else None)
        if not found.take and waiting and not running and (not due or found.look_at < max(due[0][0], loop + 1e-4)):
            now = found.look_at
            found = decide(waiting, Limits(32), times, now=now, load=load if waits else None)
        if found.take:
            running, waiting = waiting[: len(found.take)], waiting[len(found.take) :]
            sizes.append(len(running))
            lane = now + 3e-4
    return sum(sizes) / len(sizes), sum(took) / len(took)


def test_of_many_who_ask_again_at_once_more_share_a_run_and_of_few_nobody_waits() -> None:
    rows, took_s = runs_of(32)
    alone_rows, alone_took_s = runs_of(32, waits=False)
    assert rows > 1.5 * alone_rows
    assert took_s < alone_took_s + GATHER_S
    rows, took_s = runs_of(1)
    assert rows == 1
    assert took_s == pytest.approx(3e-4)
    _, took_s = runs_of(8, pause_s=0.02)
    assert took_s < 1e-3, "one lane keeps up"


def test_a_run_time_that_is_not_known_is_told_from_the_next_size() -> None:
    times = RunTimes(32)
    assert times.run_s(4) == 0.0
    times.observe(8, 0.8)
    assert times.run_s(8) == pytest.approx(0.8)
    assert times.run_s(16) == pytest.approx(1.6)
    assert times.run_s(1) == pytest.approx(0.8), "a shorter run may take as long"


def test_runs_are_padded_to_the_next_size_that_is_allowed() -> None:
    limits = Limits(8, allowed=(2, 4, 8))
    assert [limits.padded(rows) for rows in (1, 2, 3, 8, 9)] == [2, 2, 4, 8, 9]
    assert Limits(8).padded(3) == 3


def test_what_larger_runs_took_in_worse_times_does_not_keep_runs_small() -> None:
    times = RunTimes(32)
    for rows in (1, 2, 4, 8, 16, 32):
        for _ in range(ENOUGH_RUNS):
            times.observe(rows, 0.1 if rows > 2 else 0.001)
    assert times.worth(32) <= 4
    for _ in range(FAR_RUNS + TRY_AGAIN_RUNS):
        rows = times.worth(32)
        times.observe(rows, 0.1 if rows == 4 else 0.001)
    assert times.worth(32) == 32
