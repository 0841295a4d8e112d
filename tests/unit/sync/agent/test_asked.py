"""Polls that are asked for, in the agent's loop: sooner than the ordinary ones, and never at their cost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sync.agent.polls import PollLimits
from sync.domain.digests import digest_of
from sync.domain.errors import Refused, SyncError
from sync.domain.nudge import Nudge
from tests.unit.sync.agent.test_clocks import Clocked, Rtc
from tests.waiting import until

POLL_S = PollLimits().poll_s


class ByHand(Rtc):
    """Time goes on when the test says so."""

    async def sleep(self, seconds: float) -> None:
        end = self.seconds + seconds
        while self.seconds < end:  # noqa: ASYNC110 - it has no event of its own
            await asyncio.sleep(0.001)


class Device:
    """`problem`: what each poll meets, None for a good one. `polls`: when they were."""

    def __init__(self, made: Clocked, time: ByHand) -> None:
        self.agent, self.time = made.agent, time
        self.problem: SyncError | None = None
        self.polls: list[float] = []
        self._documents = made.agent._documents
        made.agent._documents = self  # type: ignore[assignment]
        self._waits, wait = 0, made.agent._until

        async def noted(ordinary_at: float) -> bool:
            self._waits += 1
            return await wait(ordinary_at)

        setattr(made.agent, "_until", noted)  # noqa: B010 - of this one agent

    async def refresh(self) -> None:
        self.polls.append(self.time.seconds)
        if self.problem is not None:
            raise self.problem
        await self._documents.refresh()

    def __getattr__(self, name: str) -> object:
        return getattr(self._documents, name)

    async def after(self, seconds: float, polls: int) -> None:
        """So long later there were so many polls, and the agent waits for the next one."""
        self.time.seconds += seconds
        await until(lambda: len(self.polls) >= polls and self._waits == len(self.polls) + 1)
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert len(self.polls) == polls

    def nudge(self, generation: int) -> bool:
        return self.agent._asked.nudged(Nudge(generation, digest_of(b"%d" % generation)), fleet=False)


@pytest.fixture
async def device(tmp_path: Path) -> AsyncIterator[Device]:
    made = Clocked(tmp_path)
    await made.world.create()
    await made.release(16)
    await made.roll_out(16)
    time = made.time = ByHand()
    made.start()
    device = Device(made, time)
    running = asyncio.ensure_future(made.agent.run())
    await device.after(0, 1)
    yield device
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_who_is_nudged_polls_now_and_then_at_the_ordinary_time(device: Device) -> None:
    await device.after(10, 1)
    assert device.nudge(5)
    await device.after(0, 2)
    assert not device.nudge(5), "it asks for nothing that was asked for"
    await device.after(60, 3)  # the store does not show it: it is asked twice more
    await device.after(120, 4)
    await device.after(0.5 * POLL_S, 4)
    await device.after(POLL_S, 5)


async def test_a_poll_that_was_asked_for_and_fails_makes_the_ordinary_ones_no_rarer(device: Device) -> None:
    device.problem = Refused("503")
    assert device.nudge(5)
    await device.after(0, 2)
    await device.after(60, 3)
    await device.after(120, 4)
    await device.after(1.2 * POLL_S - 180, 5)


async def test_a_store_that_wished_to_be_left_alone_is_not_asked_by_a_nudge(device: Device) -> None:
    device.problem = Refused("429", retry_after_s=4000.0)
    await device.after(2 * POLL_S, 2)
    device.problem = None
    assert device.nudge(5)
    await device.after(3000, 2)
    await device.after(1100, 3)
