"""Clocks that are behind, ahead, and set while somebody looks."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from sync.domain.errors import Reason, TrustError
from sync.trust.timekeeping import ABANDONED_S, SLACK_S, Timekeeper, uptime
from tests.unit.sync.trust.world import ROLLOUT, World, reads, refused

DAY_S = 86400.0


class Clock:
    def __init__(self, now: float) -> None:
        self.now, self.up = now, 1000.0

    def keeper(self) -> Timekeeper:
        return Timekeeper(lambda: self.now, lambda: self.up)

    def passes(self, seconds: float) -> None:
        self.now += seconds
        self.up += seconds


def is_ok(keeper: Timekeeper) -> bool:
    return keeper.ok


def judged(keeper: Timekeeper, *ends: float, reason: Reason = Reason.STALE_METADATA) -> Reason:
    return keeper.judged(TrustError("timestamp.json is expired", reason), ends).reason


def test_metadata_is_judged_by_whichever_is_later() -> None:
    clock = Clock(500.0)
    assert clock.keeper().reference(0.0) == 500.0
    assert clock.keeper().reference(800.0) == 800.0


def test_a_clock_behind_the_floor_is_not_believed_and_a_little_is_nothing() -> None:
    clock = Clock(10_000.0)
    keeper = clock.keeper()
    keeper.reference(10_000.0 + SLACK_S - 1)
    assert is_ok(keeper)
    keeper.reference(10_000.0 + SLACK_S)
    assert not is_ok(keeper)
    keeper.reference(10_000.0)
    assert is_ok(keeper)


def test_expiry_is_the_store_s_fault_until_the_clock_is_the_likelier_reason() -> None:
    clock = Clock(100 * DAY_S)
    keeper = clock.keeper()
    keeper.reference(0.0)
    assert judged(keeper, 99 * DAY_S) is Reason.STALE_METADATA
    assert judged(keeper, 99 * DAY_S, reason=Reason.TRUST_EXPIRED) is Reason.TRUST_EXPIRED
    assert is_ok(keeper)
    clock.now = 99 * DAY_S + ABANDONED_S + 1
    keeper.reference(0.0)
    assert judged(keeper, 98 * DAY_S, 99 * DAY_S) is Reason.CLOCK_SUSPECT
    assert not is_ok(keeper)
    assert judged(keeper, 98 * DAY_S, 100 * DAY_S) is Reason.STALE_METADATA, "one of them was signed not long ago"
    assert judged(keeper) is Reason.STALE_METADATA, "nothing is known of when it ended"


def test_a_clock_that_went_on_faster_than_time_did_is_suspect() -> None:
    clock = Clock(100 * DAY_S)
    keeper = clock.keeper()
    keeper.reference(0.0)
    keeper.right()
    clock.passes(2 * DAY_S)
    keeper.reference(100 * DAY_S)
    assert judged(keeper, 101 * DAY_S) is Reason.STALE_METADATA
    clock.now += 2 * SLACK_S
    keeper.reference(100 * DAY_S)
    assert judged(keeper, 101 * DAY_S) is Reason.CLOCK_SUSPECT


def test_what_is_no_expiry_is_never_the_clock_s_fault() -> None:
    clock = Clock(1e9)
    keeper = clock.keeper()
    keeper.reference(0.0)
    for reason in (Reason.TRUST_ROLLBACK, Reason.TRUST_SIGNATURE):
        assert judged(keeper, 1.0, reason=reason) is reason


def test_where_the_floor_s_time_judges_the_clock_is_not_to_blame() -> None:
    clock = Clock(100.0)
    keeper = clock.keeper()
    keeper.reference(1e9)
    assert judged(keeper, 1.0) is Reason.STALE_METADATA


def test_uptime_goes_on() -> None:
    assert 0 < uptime() <= uptime()


async def test_a_clock_at_1970_is_noted_and_the_floor_s_time_judges(world: World) -> None:
    client, _ = world.device()
    await reads(client)
    assert client.clock_ok
    world.now = datetime(1970, 1, 1, tzinfo=UTC)
    client, _ = world.device()
    assert await reads(client) == b"rollout 1"
    assert not client.clock_ok


@pytest.mark.parametrize("year", [2036, 9999])
async def test_a_clock_years_ahead_blocks_is_told_and_harms_nothing(world: World, year: int) -> None:
    await reads(world.device()[0])
    right = world.now
    world.now = right.replace(year=year)
    client, _ = world.device()
    assert await refused(client) is Reason.CLOCK_SUSPECT
    assert not client.clock_ok
    assert await refused(world.device("new")[0]) is Reason.CLOCK_SUSPECT
    world.now = right
    assert await reads(client) == b"rollout 1", "the floor is no later than what was valid"
    assert client.clock_ok


async def test_a_clock_that_jumps_between_polls_is_told_from_a_store_that_is_frozen(world: World) -> None:
    client, _ = world.device()
    await reads(client)
    world.later(days=2)
    assert await refused(client) is Reason.STALE_METADATA
    assert client.clock_ok
    await (await world.opened()).refresh()
    assert await reads(client) == b"rollout 1"
    world.up -= 2 * DAY_S
    world.later(days=2)
    assert await refused(client) is Reason.CLOCK_SUSPECT


async def test_a_clock_that_is_ahead_by_less_than_the_timestamp_holds_locks_out_for_no_longer(world: World) -> None:
    right = world.now
    world.later(hours=23)
    client, _ = world.device()
    assert await reads(client) == b"rollout 1"
    world.now = right
    assert await reads(client) == b"rollout 1"
    world.later(hours=12)
    await (await world.opened()).refresh()
    await world.publish("rollouts", ROLLOUT, b"rollout 2")
    assert await reads(client) == b"rollout 2"
