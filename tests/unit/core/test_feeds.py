"""What sources say comes to the manager, also when the set of sources changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from edge.core.feeds import Feeds
from edge.domain.lifecycle import State
from edge.domain.models import Artifact, Aspired, ModelId, ModelOptions, Platform
from tests.fakes.tflite import FakeBackend
from tests.unit.core.test_manager import world
from tests.waiting import until

M1 = Artifact(ModelId("m", 1), Platform.TFLITE, Path("/nowhere/m.tflite"), "f1")
WISH = Aspired("m", (1,), {1: M1}, options=ModelOptions(lane="thread", instances=1))


class Says:
    """A source that speaks once, when it may."""

    def __init__(self, *wishes: Aspired) -> None:
        self._wishes = wishes
        self.may_speak = asyncio.Event()
        self.may_speak.set()

    async def watch(self) -> AsyncIterator[Sequence[Aspired]]:
        await self.may_speak.wait()
        yield self._wishes
        await asyncio.Event().wait()


async def test_a_model_that_another_source_speaks_for_from_now_on_is_served_without_a_gap() -> None:
    async with world(FakeBackend()) as w:
        feeds = Feeds(w.manager)
        await feeds.start({"/": Says(WISH)})
        await w.reach(v1=State.READY)
        later = Says(WISH)
        later.may_speak.clear()
        replacing = asyncio.create_task(feeds.replace({"/": later}, unchanged=set()))
        for _ in range(10):
            assert await w.ask() == 1.0
        later.may_speak.set()
        await replacing
        assert await w.ask() == 1.0
        assert w.states() == {1: State.READY}
        await feeds.stop()


async def test_a_model_that_no_source_speaks_for_any_more_is_unloaded() -> None:
    async with world(FakeBackend()) as w:
        feeds = Feeds(w.manager)
        await feeds.start({"/": Says(WISH)})
        await w.reach(v1=State.READY)
        await feeds.replace({"/": Says()}, unchanged=set())
        await until(lambda: w.catalog.status("m") is None)
        await feeds.stop()


async def test_a_source_that_stays_the_same_is_not_asked_again() -> None:
    async with world(FakeBackend()) as w:
        feeds = Feeds(w.manager)
        await feeds.start({"m": Says(WISH)})
        await w.reach(v1=State.READY)
        await feeds.replace({"m": Says()}, unchanged={"m"})
        assert await w.ask() == 1.0
        await feeds.stop()


async def test_a_source_that_says_nothing_keeps_nobody_waiting_for_ever() -> None:
    async with world(FakeBackend()) as w:
        feeds = Feeds(w.manager, speak_within_s=0.01)
        await feeds.start({"/": Says(WISH)})
        await w.reach(v1=State.READY)
        silent = Says()
        silent.may_speak.clear()
        await feeds.replace({"other": silent}, unchanged=set())
        await until(lambda: w.catalog.status("m") is None)
        await feeds.stop()
