"""What a server cannot recover from by itself: nothing of a version runs any more, and nothing takes over."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic

import pytest

from edge.core.lanes import STAND_IN_WITHIN_S
from edge.core.registry import Registry
from edge.domain.errors import InferenceFailed
from edge.domain.lifecycle import State
from edge.domain.models import ModelOptions
from tests.fakes.tflite import FakeBackend
from tests.unit.core.test_manager import World, world
from tests.waiting import until

MAX_RUN_S = 0.2
WHY = "m@1: {device}: a run has taken longer than 0.2 s (max_run_s)"


@asynccontextmanager
async def serving(backend: FakeBackend, *, device: str = "cpu", instances: int = 1) -> AsyncIterator[World]:
    """Version 1 on so many threads."""
    async with world(backend) as w:
        w.options = ModelOptions(device=device, instances=instances, lane="thread", max_run_s=MAX_RUN_S)
        w.manager.started()
        w.aspire(1)
        await w.reach(v1=State.READY)
        gate = threading.Event()
        try:
            backend.hang[1] = gate
            yield w
        finally:
            gate.set()


def hung(w: World, in_s: float = 0.0) -> str:
    registry: Registry = w.manager._registry
    return registry.hung(monotonic() + in_s)


async def hang(w: World, *, runs: int = 1) -> None:
    before = len(w.backend.runs)
    asked = [asyncio.create_task(w.ask()) for _ in range(runs)]
    await until(lambda: len(w.backend.runs) == before + runs)
    for each in asked:
        with pytest.raises(InferenceFailed):
            await each


async def test_a_version_whose_only_thread_runs_for_too_long_is_hung_and_one_that_is_idle_is_not() -> None:
    async with serving(FakeBackend()) as w:
        assert hung(w, 1000.0) == ""
        await hang(w)
        assert hung(w) == WHY.format(device="cpu")


async def test_a_long_run_within_its_bound_is_no_hang() -> None:
    async with serving(FakeBackend()) as w:
        asked = asyncio.create_task(w.ask())
        await until(lambda: w.backend.runs)
        start = monotonic()
        said = hung(w)
        assert said == "" or monotonic() - start > MAX_RUN_S
        w.backend.hang[1].set()
        assert await asked == 1.0


async def test_a_version_that_has_another_thread_is_not_hung() -> None:
    async with serving(FakeBackend(), instances=2) as w:
        await hang(w)
        assert hung(w, 1000.0) == ""
        await hang(w)
        assert hung(w) == WHY.format(device="cpu")


async def test_a_run_that_comes_back_ends_the_hang() -> None:
    async with serving(FakeBackend()) as w:
        await hang(w)
        assert hung(w)
        w.backend.hang[1].set()
        await until(lambda: hung(w) == "")


async def test_where_another_instance_takes_over_there_is_no_hang() -> None:
    async with serving(FakeBackend(), device="usb:0") as w:
        await hang(w)
        assert hung(w) == "", "it is on its way"
        await until(lambda: w.catalog.ready)
        assert hung(w, 2 * STAND_IN_WITHIN_S) == ""


async def test_where_no_other_instance_can_be_had_it_is_one_and_says_why() -> None:
    async with serving(FakeBackend(lost={"cpu"}), device="usb:0") as w:
        await hang(w)
        await until(lambda: hung(w))
        assert hung(w).startswith(WHY.format(device="usb:0") + "; ")
        assert "no device cpu" in hung(w)


async def test_where_the_other_instance_does_not_come_it_is_one_in_the_end() -> None:
    backend = FakeBackend()
    async with serving(backend, device="usb:0") as w:
        gate = backend.load_hang[1] = threading.Event()
        try:
            await hang(w)
            await until(lambda: len(backend.loads) > 1)
            assert hung(w) == ""
            assert hung(w, STAND_IN_WITHIN_S + 1) == WHY.format(device="usb:0")
        finally:
            gate.set()
            await until(lambda: w.catalog.ready)


async def test_what_hangs_in_a_version_that_was_replaced_matters_to_nobody() -> None:
    async with serving(FakeBackend()) as w:
        await hang(w)
        del w.backend.hang[1]
        w.aspire(2)
        await w.reach(v2=State.READY)
        assert await w.ask() == 2.0
        assert hung(w, 1000.0) == ""


async def test_the_first_try_is_over_when_every_version_serves_or_has_failed() -> None:
    backend = FakeBackend(failing={2})
    async with world(backend) as w:
        gate = backend.load_hang[1] = threading.Event()
        waiting = asyncio.create_task(w.manager.first_tried())
        w.aspire(1, 2)
        w.manager.started()
        await until(lambda: len(backend.loads) == 2)
        assert not waiting.done()
        gate.set()
        await asyncio.wait_for(waiting, 10.0)
        assert w.catalog.ready
        await asyncio.wait_for(w.manager.first_tried(), 10.0)
