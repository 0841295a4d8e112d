"""Signatures are renewed before they end, whatever fails on the way, until somebody says stop."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta

import pytest

from sync.domain.errors import Conflict, Missing, OperatorError, Reason, SyncError, TrustError, Unreachable
from sync.domain.ports import Clock
from sync.fleet.keys import ROLES, KeyRing
from sync.fleet.renewal import MAX_RETRY_S, MOST_S, RETRY_S, SLICE_S, Renewed, keep_renewed, renew
from tests.fakes.sync.clock import FakeClock
from tests.unit.sync.fleet.shop import Shop

HOUR = 3600.0


class Loop:
    """Renewals that end as `outcomes` say; stopped after the last. `at`: seconds since the start, of each."""

    def __init__(self, *outcomes: SyncError | None) -> None:
        self._outcomes = list(outcomes)
        self.clock = FakeClock()
        self._began = self.clock.now()
        self.stop, self.heard = asyncio.Event(), asyncio.Event()
        self.at: list[float] = []
        self.told: list[object] = []

    async def work(self) -> Renewed:
        self.at.append(self.clock.now() - self._began)
        outcome = self._outcomes.pop(0)
        if not self._outcomes:
            self.stop.set()
        if outcome is not None:
            raise outcome
        return Renewed(("timestamp",))

    def renewed(self, what: Renewed) -> None:
        self.told.append(what)
        self.heard.set()

    def failed(self, error: SyncError, again_s: float) -> None:
        self.told.append((error, again_s))

    async def run(self, every_s: float = 12 * HOUR, clock: Clock | None = None) -> None:
        await keep_renewed(
            self.work,
            every_s=every_s,
            clock=clock or self.clock,
            stop=self.stop,
            listener=self,
            chance=random.Random(1),
        )

    @property
    def pauses(self) -> list[float]:
        return [later - sooner for sooner, later in zip(self.at, self.at[1:], strict=False)]


async def test_it_renews_at_once_and_then_every_so_often() -> None:
    loop = Loop(None, None, None)
    await loop.run()
    assert loop.at == pytest.approx([0, 12 * HOUR, 24 * HOUR])
    assert loop.told == [Renewed(("timestamp",))] * 3


async def test_after_a_failure_it_tries_sooner_and_then_less_and_less_often() -> None:
    loop = Loop(None, *[Unreachable("nobody answers")] * 10, None, None)
    await loop.run()
    pauses = loop.pauses
    assert pauses[0] == pytest.approx(12 * HOUR)
    wanted = [min(RETRY_S * 2**number, MAX_RETRY_S) for number in range(10)]
    assert [abs(pause / want - 1) <= 0.21 for pause, want in zip(pauses[1:11], wanted, strict=True)] == [True] * 10
    assert pauses[11] == pytest.approx(12 * HOUR), "and then as before"


async def test_every_failure_that_time_may_heal_is_survived_even_the_first() -> None:
    failures = [
        Unreachable("x"),
        Conflict("x"),
        TrustError("x", Reason.TRUST_ROLLBACK),
        OperatorError("x"),
        Missing("x"),
    ]
    loop = Loop(*failures, None)
    await loop.run()
    assert len(loop.at) == 6


@pytest.mark.parametrize("error", [OperatorError("no key"), Missing("no store")])
async def test_what_can_never_succeed_is_said_at_once(error: SyncError) -> None:
    with pytest.raises(type(error)):
        await Loop(error, None).run()


async def test_no_pause_is_longer_than_what_was_asked_for() -> None:
    loop = Loop(*[Unreachable("x")] * 12, None)
    await loop.run(every_s=60)
    assert max(loop.pauses) <= 60


async def test_time_that_the_machine_slept_counts() -> None:
    loop = Loop(None, None)
    loop.clock.asleep = 6 * HOUR
    await loop.run()
    assert len(loop.clock.slept) == 2
    assert max(loop.clock.slept) <= SLICE_S


async def test_a_stop_ends_the_wait() -> None:
    class Long(FakeClock):
        async def sleep(self, seconds: float) -> None:
            await asyncio.Event().wait()

    loop = Loop(None, None)
    running = asyncio.ensure_future(loop.run(clock=Long()))
    await loop.heard.wait()
    loop.stop.set()
    await asyncio.wait_for(running, 5)
    assert len(loop.at) == 1


async def test_a_stop_does_not_tear_what_was_begun(shop: Shop) -> None:
    loop = Loop()

    async def work() -> Renewed:
        loop.stop.set()
        return await renew(shop.repository())

    await keep_renewed(work, every_s=HOUR, clock=loop.clock, stop=loop.stop, listener=loop)
    assert loop.told == [Renewed(["timestamp"])]


async def test_a_store_that_is_kept_renewed_never_expires(shop: Shop) -> None:
    for _ in range(20):
        await renew(shop.repository())
        shop.later(seconds=MOST_S)
        repository = shop.repository()
        await repository.open()
        online = {name for name, role in ROLES.items() if role.place == "online"}
        assert not repository.due(timedelta()).keys() & online


async def test_what_only_a_person_can_sign_is_told_in_time_and_signed_where_that_is_asked_for(shop: Shop) -> None:
    assert (await renew(shop.repository())).ending == {}
    shop.later(days=70)
    done = await renew(shop.repository())
    assert done.ending.keys() == {"releases"}
    assert "releases" not in done.signed
    done = await renew(shop.repository(), ["releases"])
    assert done.ending == {}
    assert {"releases", "timestamp"} <= set(done.signed)


async def test_without_a_key_that_is_needed_nothing_is_signed(shop: Shop) -> None:
    shop.keys = KeyRing(shop.path / "none")
    before = (shop.directory / "metadata/timestamp.json").read_bytes()
    with pytest.raises(OperatorError):
        await renew(shop.repository())
    assert (shop.directory / "metadata/timestamp.json").read_bytes() == before
