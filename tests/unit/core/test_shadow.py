"""Copies of requests are run beside, compared and dropped, and no request is the worse for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from edge.core.routes import Routed
from edge.core.shadow import ShadowLimits, Shadows
from edge.domain.errors import InferenceFailed
from edge.domain.lifecycle import State
from edge.domain.models import ModelId, ModelOptions, ModelSpec
from edge.domain.requests import PredictRequest, Target
from edge.domain.routing import Routing
from edge.domain.tensors import Tensors
from tests.fakes.route_meter import FakeRouteMeter
from tests.fakes.tflite import FakeBackend
from tests.unit.core.test_manager import Ones, World, world
from tests.waiting import until


@dataclass
class Shadowed:
    """Version 2 answers and version 1 is its shadow."""

    world: World
    meter: FakeRouteMeter
    shadows: Shadows

    def route(self, **more: Any) -> None:
        self.world.registry.route({"m": Routed(Routing(**{"weights": {"2": 1}, "shadow": "1"} | more), self.meter)})

    async def result(self, name: str, count: int = 1, version: int = 1) -> None:
        """Return once so many copies have come to that and no copy is left, and assert that none came to anything else."""
        await until(lambda: self.meter.results[version, name] >= count)
        await until(lambda: not self.shadows._waiting and self.shadows._running is None)
        assert self.meter.results == {(version, name): count}


def as_twin(_: ModelId, _signature: str, inputs: Tensors) -> Tensors:
    """The same from every version."""
    return {"y": inputs["x"] * 5}


@asynccontextmanager
async def shadowed(
    backend: FakeBackend,
    *,
    options: ModelOptions | None = None,
    limits: ShadowLimits | None = None,
    draw: Callable[[], float] = lambda: 0.0,
    loaded: bool = True,
    **routing: Any,
) -> AsyncIterator[Shadowed]:
    async with world(backend) as w:
        if options is not None:
            w.options = options
        shadows = w.registry.shadows = Shadows(w.registry, w.loader.spare, limits=limits, draw=draw)
        made = Shadowed(w, FakeRouteMeter(), shadows)
        made.route(**routing)
        w.aspire(1, 2)
        await w.reach(v1=State.READY, v2=State.READY)
        if loaded:
            await until(lambda: all(line.ready for line in shadows._lines.values()) and shadows._lines)
        try:
            yield made
        finally:
            shadows.close()


async def test_an_answer_that_differs_is_counted_and_the_client_never_sees_it() -> None:
    async with shadowed(FakeBackend()) as s:
        assert await s.world.ask() == 2.0
        await s.result("different")
        assert s.meter.difference == "y: 1 of 1 elements differ, first 2.0 and 1.0"


async def test_an_answer_that_is_the_same_is_counted_as_such() -> None:
    async with shadowed(FakeBackend(run=as_twin)) as s:
        assert await s.world.ask() == 5.0
        await s.result("same")


async def test_the_tolerances_are_those_that_are_configured() -> None:
    async with shadowed(FakeBackend(), shadow_atol=1.0) as s:
        await s.world.ask()
        await s.result("same")


async def test_only_the_share_that_is_wanted_is_copied() -> None:
    draws = iter([0.1, 0.3, 0.2, 0.9])
    async with shadowed(FakeBackend(), draw=lambda: next(draws), shadow_share=0.25) as s:
        for _ in range(4):
            await s.world.ask()
        await s.result("different", 2)


async def test_a_request_that_names_a_version_is_not_copied_nor_one_that_the_shadow_answers() -> None:
    async with shadowed(FakeBackend()) as s:
        await s.world.ask(2)
        s.route(weights={"1": 1})
        await s.world.ask()
        s.route()
        await s.world.ask()
        await s.result("different")


async def test_a_shadow_that_crashes_is_counted_and_every_request_is_answered() -> None:
    backend = FakeBackend()
    async with shadowed(backend) as s:
        for error in (InferenceFailed("no such operator"), ZeroDivisionError("a bug")):
            backend.errors[1] = error
            assert await s.world.ask() == 2.0
            await until(lambda: not s.shadows._waiting and s.shadows._running is None)
        await s.result("failed", 2)
        del backend.errors[1]
        assert await s.world.ask() == 2.0
        await until(lambda: s.meter.results[1, "different"] == 1)
        assert s.world.states() == {1: State.READY, 2: State.READY}


async def test_a_shadow_that_hangs_keeps_nobody_waiting_and_is_used_again_when_it_comes_back() -> None:
    backend, options = FakeBackend(), ModelOptions(lane="thread", instances=1, max_run_s=0.1)
    async with shadowed(backend, options=options, limits=ShadowLimits(grace_s=0.0)) as s:
        gate = backend.hang[1] = threading.Event()
        assert await s.world.ask() == 2.0
        await s.result("failed")
        del backend.hang[1]
        assert await s.world.ask(1) == 1.0, "the version itself has an instance of its own"
        assert await s.world.ask() == 2.0
        await until(lambda: s.meter.results[1, "not_ready"] == 1)
        assert s.meter.difference == "a run hangs"
        gate.set()
        line = s.shadows._lines["m"]
        await until(lambda: not line.hung)
        assert await s.world.ask() == 2.0
        await until(lambda: s.meter.results[1, "different"] == 1)


async def test_copies_that_wait_behind_a_slow_one_are_bounded_and_too_old_ones_dropped() -> None:
    backend = FakeBackend()
    async with shadowed(backend, limits=ShadowLimits(max_copies=2, max_wait_s=0.05)) as s:
        gate = backend.hang[1] = threading.Event()
        runs = len(backend.runs)
        await s.world.ask()
        await until(lambda: len([run for run in backend.runs[runs:] if run[0].version == 1]) == 1)
        for _ in range(3):
            assert await s.world.ask() == 2.0
        assert s.meter.results == {(1, "full"): 1}
        await until(lambda: s.meter.results[1, "busy"] == 2)
        gate.set()
        await until(lambda: s.meter.results[1, "different"] == 1)
        assert s.shadows._bytes == 0


async def test_what_is_held_is_bounded_in_bytes() -> None:
    async with shadowed(FakeBackend(), limits=ShadowLimits(max_bytes=8)) as s:
        await s.world.ask()
        await s.result("different")
    async with shadowed(FakeBackend(), limits=ShadowLimits(max_bytes=7)) as s:
        await s.world.ask()
        await s.result("too_large")
    async with shadowed(FakeBackend(), limits=ShadowLimits(max_bytes=20)) as s:
        answering = next(slot for slot in s.world.registry.slots if slot.id.version == 2)
        with answering:
            for _ in range(3):
                await s.world.ask()
            assert s.meter.results == {(1, "full"): 1}, "two of 8 bytes wait"


async def test_no_copy_is_run_while_a_request_is() -> None:
    async with shadowed(FakeBackend()) as s:
        answering = next(slot for slot in s.world.registry.slots if slot.id.version == 2)
        with answering:
            await s.world.ask()
            await looks(s, 5)
            assert not s.meter.results
        await s.result("different")


async def test_no_copy_is_run_while_requests_come_one_after_the_other() -> None:
    """On the event loop, where none is ever under way when somebody looks."""
    limits = ShadowLimits(quiet_s=0.05, max_copies=1, max_wait_s=0.3)
    async with shadowed(FakeBackend(), options=ModelOptions(lane="inline"), limits=limits) as s:
        while not s.meter.results[1, "busy"]:
            await s.world.ask()
            await asyncio.sleep(0.001)
        assert s.meter.results.keys() == {(1, "busy"), (1, "full")}


async def looks(s: Shadowed, count: int) -> None:
    """Return when it has looked so often for a quiet moment."""
    seen: set[float] = set()

    def looked() -> bool:
        seen.add(s.shadows._due)
        return len(seen) > count

    await until(looked)


async def test_no_request_waits_for_the_instance_that_a_copy_runs_on() -> None:
    backend = FakeBackend()
    async with shadowed(backend) as s:
        gate = backend.hang[1] = threading.Event()
        runs = len(backend.runs)
        await s.world.ask()
        await until(lambda: len(backend.runs) > runs + 1)
        del backend.hang[1]
        assert await s.world.ask(1) == 1.0
        assert not s.meter.results, "the copy still runs"
        gate.set()
        await s.result("different")


async def test_a_shadow_that_is_not_ready_is_counted_and_comes_in_when_it_is() -> None:
    async with shadowed(FakeBackend(), loaded=False, shadow="next") as s:
        assert await s.world.ask() == 2.0
        assert s.meter.results == {(0, "not_ready"): 1}
        s.world.aspire(1, 2, 3, labels={"next": 3})
        await s.world.reach(v3=State.READY)
        await until(lambda: s.shadows._lines["m"].ready)
        assert await s.world.ask() == 2.0
        await until(lambda: s.meter.results[3, "different"] == 1)


async def test_a_version_that_goes_takes_the_copies_instance_with_it() -> None:
    backend = FakeBackend()
    async with shadowed(backend) as s:
        assert backend.alive.count(ModelId("m", 1)) == 2
        s.world.aspire(2)
        await s.world.reach(v1=State.UNLOADED)
        await until(lambda: ModelId("m", 1) not in backend.alive)
        await s.world.ask()
        await s.result("not_ready", version=0)


async def test_without_a_shadow_in_the_configuration_its_instance_goes() -> None:
    backend = FakeBackend()
    async with shadowed(backend) as s:
        s.world.registry.route({})
        await until(lambda: backend.alive.count(ModelId("m", 1)) == 1)
        await s.world.ask()
        assert not s.meter.results


async def test_an_instance_that_cannot_be_had_is_said_and_tried_again_at_a_reload() -> None:
    backend = FakeBackend()
    async with shadowed(backend, loaded=False, shadow="") as s:
        backend.memory = 2**60
        s.route()
        await until(lambda: s.shadows._lines["m"].trouble)
        assert await s.world.ask() == 2.0
        await s.result("not_ready")
        assert s.meter.difference.startswith("not enough memory: want about")
        backend.memory = 1_000
        s.route()
        await until(lambda: s.shadows._lines["m"].ready)


@dataclass
class Picture(Ones):
    """It is bound anew where versions want other inputs."""

    slow: bool = True
    binds: int = 0

    def bind(self, target: Target) -> Tensors:
        self.binds += 1
        return super().bind(target)


@pytest.mark.parametrize("same", [True, False])
async def test_a_picture_is_read_again_only_for_a_version_that_wants_it_otherwise(
    same: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shadowed(FakeBackend()) as s:
        if not same:
            slot = s.shadows._lines["m"].slot
            slot.options = ModelOptions(image=type(slot.options.image)(resize="pad"))
        picture = Picture()
        await s.world.predict.predict(PredictRequest(ModelSpec("m"), picture))
        await s.result("different")
        assert picture.binds == (1 if same else 2)


async def test_a_version_that_takes_other_inputs_or_signatures_cannot_be_compared() -> None:
    def other(id: ModelId, _signature: str, inputs: Tensors) -> Tensors:
        return {"y": inputs["x"].astype(np.float64 if id.version == 1 else np.float32)}

    async with shadowed(FakeBackend(run=other)) as s:
        await s.world.ask()
        await s.result("incomparable")
        assert s.meter.difference == "y: want float32, got float64"
