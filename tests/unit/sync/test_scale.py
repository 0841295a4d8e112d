"""A rollout over 10,000 devices, which a plant switched on at one moment: who takes it, when, and what the store sees of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from sync.domain.journal import ModelState, Phase
from sync.domain.rollout import want
from tests.fakes.sync.jumping import JumpingClock, JumpingLoop
from tests.unit.sync.plant import (
    ALL,
    DEVICES,
    DOCUMENTS,
    HALF,
    HUNDREDTH,
    LIMITS,
    LONG,
    LONG_PAUSED,
    LONG_RESUMED,
    LONGEST_S,
    OTHER,
    PAUSED,
    POLLS_PER_S,
    RECALLED,
    TENTH,
    by_chance,
    first_since,
    peak,
)
from tests.unit.sync.simulation import (
    MODEL,
    NEW,
    OLD,
    AtOnce,
    Fleet,
    Signed,
    Store,
    agent_of,
    signed,
    updater,
)

HALF_AT, ALL_AT, PAUSED_AT, RECALLED_AT, END = 1700.0, 4000.0, 4400.0, 5500.0, 6600.0


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Signed:
    return signed(tmp_path_factory.mktemp("store"), DOCUMENTS)


@dataclass(slots=True)
class Story:
    """`had`: who ran the candidate when each document was followed by the next."""

    fleet: Fleet
    had: dict[int, set[str]]


@pytest.fixture(scope="module")
def story(documents: Signed) -> Story:
    """10 %, 50 %, and all, paused before all have begun, and taken back."""
    fleet = Fleet(documents, DEVICES)
    had: dict[int, set[str]] = {}

    def then(last: int, number: int) -> None:
        had[last] = fleet.have(NEW)
        fleet.publish(number)

    fleet.run(
        END,
        {
            HALF_AT: lambda: then(TENTH, HALF),
            ALL_AT: lambda: then(HALF, ALL),
            PAUSED_AT: lambda: then(ALL, PAUSED),
            RECALLED_AT: lambda: then(PAUSED, RECALLED),
        },
    )
    had[RECALLED] = fleet.have(NEW)
    return Story(fleet, had)


# -- who


@pytest.mark.parametrize(("number", "percent"), [(HUNDREDTH, 1), (TENTH, 10), (HALF, 50), (ALL, 100)])
def test_the_share_that_takes_a_candidate_is_the_documents(documents: Signed, number: int, percent: float) -> None:
    expected = DEVICES * percent / 100
    assert abs(len(cohort(documents, number)) - expected) < by_chance(expected, share=percent / 100) - expected


def test_the_share_that_runs_it_is_the_documents_when_the_spread_is_over(story: Story, documents: Signed) -> None:
    assert story.had[TENTH] == cohort(documents, TENTH)
    assert story.had[HALF] == cohort(documents, HALF)


def test_whoever_has_it_at_a_small_share_has_it_at_every_larger_one(story: Story, documents: Signed) -> None:
    assert cohort(documents, HUNDREDTH) < story.had[TENTH] < story.had[HALF] < story.had[ALL]


def test_another_rollout_begins_with_other_devices(documents: Signed) -> None:
    both = len(cohort(documents, TENTH) & cohort(documents, OTHER))
    assert DEVICES * 0.01 / 2 < both < by_chance(DEVICES * 0.01)


def cohort(documents: Signed, number: int) -> set[str]:
    """Who wants the candidate."""
    rollout = documents.rollouts[number]
    names = [f"camera-{each:05}" for each in range(DEVICES)]
    return {name for name in names if want(name, frozenset(), rollout, MODEL, active=OLD)[0].version == NEW}


# -- when


def test_devices_that_start_at_one_moment_never_poll_at_one_moment(story: Story) -> None:
    asked = story.fleet.store.asked
    assert len(asked) == pytest.approx(END * POLLS_PER_S, rel=0.02)
    for window_s in (1.0, 10.0, 60.0):
        assert peak(asked, window_s) < 1.1 * by_chance(POLLS_PER_S * window_s), f"within {window_s} s"


def test_every_device_hears_of_a_change_within_one_interval(story: Story) -> None:
    for polls in story.fleet.store.polls.values():
        assert polls[0] <= LONGEST_S
        assert first_since(polls, HALF_AT) - HALF_AT <= LONGEST_S


def test_a_device_begins_within_the_spread_after_it_heard_of_it(story: Story, documents: Signed) -> None:
    began = story.fleet.began(NEW)
    for name in story.had[HALF] - story.had[TENTH]:
        heard = first_since(story.fleet.store.polls[name], HALF_AT)
        wish = want(name, frozenset(), documents.rollouts[HALF], MODEL, active=OLD)[0]
        assert began[name] == pytest.approx(heard + wish.wait_s, abs=1e-3)
        assert began[name] - heard <= documents.rollouts[HALF].spread_s


def test_downloads_begin_evenly_over_the_spread_and_not_with_the_polls(story: Story, documents: Signed) -> None:
    began = story.fleet.began(NEW)
    newcomers = story.had[HALF] - story.had[TENTH]
    times = sorted(began[name] for name in newcomers)
    per_s = len(newcomers) / documents.rollouts[HALF].spread_s
    assert peak(times, 10.0) < by_chance(per_s * 10)
    assert peak(times, 60.0) < by_chance(per_s * 60)


# -- pause and rollback


def test_a_pause_reaches_everybody_at_the_first_poll_and_keeps_those_that_have_it(story: Story) -> None:
    began = story.fleet.began(NEW)
    late = {name for name, when in began.items() if when > PAUSED_AT}
    assert late, "some begin who have not heard of the pause yet"
    for name in late:
        assert began[name] <= first_since(story.fleet.store.polls[name], PAUSED_AT)
    assert story.had[HALF] < story.had[PAUSED] == story.had[ALL] | late
    assert len(story.had[PAUSED]) < DEVICES, "the pause came in time for some"


def test_who_had_not_begun_before_a_long_pause_begins_spread_as_at_first_when_it_is_over(documents: Signed) -> None:
    fleet, paused_at, resumed_at = Fleet(documents, 2000), 2000.0, 12_000.0
    fleet.publish(LONG)
    waiting: set[str] = set()

    def resume() -> None:
        waiting.update(member.name for member in fleet.members if member.version == OLD)
        fleet.publish(LONG_RESUMED)

    fleet.run(18_000.0, {paused_at: lambda: fleet.publish(LONG_PAUSED), resumed_at: resume})
    began, spread_s = fleet.began(NEW), documents.rollouts[LONG].spread_s
    assert 500 < len(waiting) < 1500, "some had begun, and some had not"
    for name in waiting:
        wish = want(name, frozenset(), documents.rollouts[LONG_RESUMED], MODEL, active=OLD)[0]
        heard = first_since(fleet.store.polls[name], resumed_at)
        assert began[name] == pytest.approx(heard + wish.wait_s, abs=1e-3)
    times = sorted(began[name] for name in waiting)
    per_s = len(began) / spread_s
    assert peak(times, 60.0) < by_chance(per_s * 60), "no faster than it would have been without a pause"
    assert fleet.have(NEW) == set(began), "all have it in the end"


def test_a_rollback_reaches_everybody_at_the_first_poll(story: Story) -> None:
    back = story.fleet.began(OLD)
    assert set(back) == story.had[PAUSED]
    for name, when in back.items():
        assert when == pytest.approx(first_since(story.fleet.store.polls[name], RECALLED_AT), abs=1e-3)
    assert max(back.values()) - RECALLED_AT <= LONGEST_S
    assert story.had[RECALLED] == set()


# -- reports


def test_reports_of_devices_that_start_at_one_moment_never_come_at_one_moment(documents: Signed) -> None:
    fleet = Fleet(documents, 200)
    fleet.publish(PAUSED)
    fleet.run(LIMITS.heartbeat_s * 1.1 + LONGEST_S, {})
    reports = fleet.store.reports.values()
    assert {len(each) for each in reports} <= {1, 2}
    first = sorted(each[0] for each in reports)
    assert peak(first, 60.0) < by_chance(200 * 60 / LIMITS.poll_s)
    second = sorted(each[1] for each in reports if len(each) > 1)
    assert second[-1] - second[0] > LIMITS.heartbeat_s * LIMITS.jitter


# -- the simulation itself


@pytest.mark.parametrize("number", range(5))
def test_an_agent_with_its_updater_begins_when_a_simulated_one_does(documents: Signed, number: int) -> None:
    fleet = Fleet(documents, 5)
    fleet.publish(ALL)
    fleet.run(2000.0, {})
    name = f"camera-{number:05}"

    async def work() -> list[float]:
        asyncio.get_running_loop().set_default_executor(AtOnce())
        store = Store(documents, documents.rollouts[ALL])
        clock, begun = JumpingClock(), []

        def changed(model: str, state: ModelState) -> None:
            if state.phase is Phase.STAGING:
                begun.append(clock.monotonic())

        agent = agent_of(name, store, clock, updater(documents, clock, changed))
        running = asyncio.ensure_future(agent.run())
        await asyncio.sleep(2000.0)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return begun

    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        assert runner.run(work()) == pytest.approx([fleet.began(NEW)[name]], abs=1e-3)
