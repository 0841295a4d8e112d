"""Devices that met one failure at one moment do not come back at one moment."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from sync.agent.backoff import Backoff
from sync.agent.outbox import Outbox
from sync.agent.reporter import Reporter
from sync.domain.errors import Deferred, Refused, Unreachable
from tests.fakes.sync.files import FaultyFiles
from tests.unit.sync.agent.test_polls import Fixed
from tests.unit.sync.agent.world import World

DEVICES = 1000


@pytest.mark.parametrize(("share", "of_it"), [(0.0, 0.5), (0.5, 0.75), (1.0, 1.0)])
def test_each_pause_is_in_the_second_half_of_twice_the_one_before_up_to_a_bound(share: float, of_it: float) -> None:
    backoff = Backoff(15, 100, Fixed(share))
    assert [backoff.failed_s() for _ in range(5)] == [longest * of_it for longest in (15, 30, 60, 100, 100)]
    backoff.over()
    assert backoff.failed_s() == 15 * of_it


@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
def test_who_says_when_is_not_asked_before_nor_by_all_at_once(share: float) -> None:
    assert Backoff(15, 3600, Fixed(share)).failed_s(60) == 60 * (1 + share / 2)


def spread(waits: list[float]) -> int:
    """The most that come within a tenth of the time that all take."""
    begin, end = min(waits), max(waits)
    tenths = [int(min((wait - begin) / (end - begin), 0.999) * 10) for wait in waits]
    return max(tenths.count(tenth) for tenth in range(10))


async def world(error: Exception, number: int) -> World:
    w = World()
    w.chance = random.Random(number)
    w.restart()
    w.want(17)
    w.stage.errors = [error] * 9  # type: ignore[list-item]
    await w.updater.advance("m")
    return w


async def test_downloads_that_broke_off_at_one_moment_go_on_at_many() -> None:
    for tries, longest in ((1, 15), (5, 240)):
        waits = []
        for number in range(DEVICES):
            w = await world(Unreachable("connection reset"), number)
            waits.append([await w.updater.advance("m") for _ in range(tries)][-1])
        assert max(waits) - min(waits) > 0.45 * longest
        assert spread(waits) < DEVICES * 0.15


async def test_downloads_that_wait_for_one_hour_begin_one_after_the_other() -> None:
    waits = [
        await (await world(Deferred("at 22:00", 1000.0), number)).updater.advance("m") for number in range(DEVICES)
    ]
    assert min(waits) >= 1000
    assert 250 < max(waits) - min(waits) <= World().limits.stagger_s
    assert spread(waits) < DEVICES * 0.15


async def test_a_store_that_bids_a_download_wait_is_obeyed() -> None:
    w = await world(Refused("503", retry_after_s=600), 1)
    assert 600 <= await w.updater.advance("m") <= 900


class Down:
    """Refuses every report; `after`: when to come back."""

    def __init__(self, after: float = 0.0) -> None:
        self._after = after

    async def deliver(self, report: bytes) -> None:
        raise Refused("want 2xx, got 503", retry_after_s=self._after)


async def pauses(number: int, after: float = 0.0) -> list[float]:
    """Of a reporter whose collector is down."""
    slept: list[float] = []
    enough = asyncio.Event()

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) >= 5:
            enough.set()
            await asyncio.Event().wait()

    outbox = Outbox(FaultyFiles(), Path("/outbox"))
    outbox.put(1, b"{}")
    running = asyncio.ensure_future(Reporter(outbox, Down(after), sleep=sleep, chance=random.Random(number)).run())
    await enough.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return slept


async def test_reports_that_a_collector_sent_away_at_one_moment_come_again_at_many() -> None:
    waits = [await pauses(number) for number in range(100)]
    for step, longest in enumerate((15, 30, 60, 120, 240)):
        mine = [each[step] for each in waits]
        assert longest / 2 <= min(mine) <= max(mine) <= longest
        assert max(mine) - min(mine) > 0.45 * longest
        assert len(set(mine)) == 100


async def test_reports_come_no_sooner_than_the_collector_asks() -> None:
    assert min(await pauses(1, after=300)) >= 300
