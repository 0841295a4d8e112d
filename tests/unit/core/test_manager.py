"""The manager with a backend that does what a test tells it: loads, swaps, drains, falls back."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from edge.core.catalog import Catalog
from edge.core.deaths import Deaths
from edge.core.loader import Loader, LoaderLimits
from edge.core.manager import Manager, ManagerLimits
from edge.core.predict import Predict
from edge.core.registry import Registry
from edge.domain.errors import ControlFailed, DeadlineExceeded, NotFound, Overloaded
from edge.domain.lifecycle import State
from edge.domain.models import Artifact, Aspired, ModelId, ModelOptions, ModelSpec, Platform, Swap
from edge.domain.requests import PredictRequest, PredictResponse, Target
from edge.domain.tensors import Tensors
from tests.fakes.meter import FakeMeter
from tests.fakes.tflite import FakeBackend
from tests.waiting import until


@dataclass
class Ones:
    """A payload of one row of 1.0: the fake answers with its version."""

    size: int = 4
    slow: bool = False

    def bind(self, target: Target) -> Tensors:
        return {"x": np.ones(1, np.float32)}


@dataclass
class World:
    manager: Manager
    catalog: Catalog
    predict: Predict
    backend: FakeBackend
    registry: Registry
    loader: Loader
    trials: list[int] = field(default_factory=list)
    options: ModelOptions = field(default_factory=lambda: ModelOptions(lane="thread", instances=1))

    def aspire(self, *versions: int, available: tuple[int, ...] = (1, 2, 3), **more: object) -> None:
        there = {v: Artifact(ModelId("m", v), Platform.TFLITE, Path("/nowhere/m.tflite"), f"f{v}") for v in available}
        self.manager.aspire(Aspired("m", versions, there, options=self.options, **more))  # type: ignore[arg-type]

    async def ask(self, version: int | None = None, timeout_s: float = 5.0) -> float:
        deadline = asyncio.get_running_loop().time() + timeout_s
        response: PredictResponse = await self.predict.predict(
            PredictRequest(ModelSpec("m", version), Ones(), deadline=deadline)
        )
        return float(response.outputs["y"][0])

    def states(self) -> dict[int, State]:
        status = self.catalog.status("m")
        return {each.id.version: each.state for each in status.versions} if status else {}

    async def reach(self, **want: State) -> None:
        """`v2=State.READY`: return once version 2 is ready."""
        await until(lambda: want.items() <= {f"v{v}": state for v, state in self.states().items()}.items())


@asynccontextmanager
async def world(
    backend: FakeBackend, state_dir: Path | None = None, load_timeout_s: float = 10.0, **limits: float
) -> AsyncIterator[World]:
    registry = Registry()
    trials: list[int] = []

    async def trial(artifact: Artifact, _: ModelOptions) -> str:
        trials.append(artifact.id.version)
        return "the child crashed" if artifact.id.version in backend.failing else ""

    deaths = Deaths(state_dir)
    loader = Loader(
        backend_for=lambda _: backend,
        trial=trial,
        deaths=deaths,
        limits=LoaderLimits(load_timeout_s=load_timeout_s),
    )
    manager = Manager(
        registry=registry,
        loader=loader,
        meters=lambda _: FakeMeter(),
        limits=ManagerLimits(**limits),  # type: ignore[arg-type]
    )
    with ThreadPoolExecutor(1) as offload:
        catalog, predict = Catalog(manager, registry), Predict(registry, offload=offload)
        made = World(manager, catalog, predict, backend, registry, loader, trials)
        running = asyncio.create_task(manager.run())
        try:
            yield made
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await manager.close()
            deaths.close()


async def test_a_new_version_takes_over_only_after_its_trial() -> None:
    async with world(FakeBackend()) as w:
        w.aspire(1)
        w.manager.started()
        await w.reach(v1=State.READY)
        assert not w.trials, "with nothing to lose a version loads at once"
        await until(lambda: not w.manager.starting)
        w.aspire(2)
        await w.reach(v2=State.READY, v1=State.UNLOADED)
        assert w.trials == [2]
        assert await w.ask() == 2.0
        with pytest.raises(NotFound):
            await w.ask(1)


async def test_every_bad_release_leaves_the_old_one_serving() -> None:
    async with world(FakeBackend(failing={2})) as w:
        w.aspire(1)
        w.manager.started()
        await w.reach(v1=State.READY)
        w.aspire(2, fallback=1)
        await w.reach(v2=State.FAILED)
        assert await w.ask() == 1.0
        assert w.catalog.ready
        status = w.catalog.status("m")
        assert status is not None
        assert status.versions[0].reason


async def test_a_failed_version_is_tried_again_a_bounded_number_of_times() -> None:
    async with world(FakeBackend(failing={1}), max_load_retries=2, load_retry_s=0.01) as w:
        w.aspire(1)
        await until(lambda: len(w.backend.loads) == 3)
        await until(lambda: w.states() == {1: State.FAILED})
        with pytest.raises(ControlFailed, match="told to fail"):
            await w.manager.load("m")
        w.backend.failing = set()
        await w.manager.load("m")
        assert await w.ask() == 1.0


async def test_a_request_that_runs_keeps_its_version_until_it_is_answered() -> None:
    backend = FakeBackend()
    async with world(backend) as w:
        w.aspire(1)
        await w.reach(v1=State.READY)
        tested = len(backend.runs)
        gate = backend.hang[1] = threading.Event()
        asked = asyncio.create_task(w.ask())
        await until(lambda: len(backend.runs) > tested)
        w.aspire(2)
        await w.reach(v2=State.READY, v1=State.DRAINING)
        assert await w.ask() == 2.0
        assert not backend.closes
        gate.set()
        assert await asked == 1.0
        await w.reach(v1=State.UNLOADED)


async def test_replace_unloads_before_it_loads() -> None:
    backend = FakeBackend()
    async with world(backend) as w:
        w.aspire(1)
        await w.reach(v1=State.READY)
        gate = backend.load_hang[2] = threading.Event()
        w.aspire(2, swap=Swap.REPLACE)
        await until(lambda: ModelId("m", 2) in backend.loads)
        assert not backend.alive, "its memory is free before the next one takes any"
        gate.set()
        await w.reach(v2=State.READY)


async def test_a_deadline_passes_while_the_model_hangs_and_a_full_queue_refuses() -> None:
    backend = FakeBackend()
    async with world(backend) as w:
        w.options = ModelOptions(lane="thread", instances=1, max_queue=1)
        w.aspire(1)
        await w.reach(v1=State.READY)
        gate = backend.hang[1] = threading.Event()
        tested = len(backend.runs)
        first = asyncio.create_task(w.ask(timeout_s=0.5))
        await until(lambda: len(backend.runs) > tested)
        second = asyncio.create_task(w.ask(timeout_s=0.5))
        await until(lambda: w.catalog.models()[0].versions[0].queue_depth == 1)
        with pytest.raises(Overloaded, match="max_queue"):
            await w.ask()
        for each in (first, second):
            with pytest.raises(DeadlineExceeded):
                await each
        gate.set()
        await until(lambda: w.catalog.models()[0].versions[0].queue_depth == 0)
        assert await w.ask() == 1.0


async def test_a_version_that_was_loading_when_the_process_died_is_tried_in_a_child_first(tmp_path: Path) -> None:
    artifact = Artifact(ModelId("m", 1), Platform.TFLITE, Path("/nowhere/m.tflite"), "f1")
    Deaths(tmp_path).loading(artifact)
    async with world(FakeBackend(), tmp_path) as w:
        w.aspire(1)
        await w.reach(v1=State.READY)
        assert w.trials == [1]


async def test_a_version_that_killed_the_process_twice_is_blamed_and_the_fallback_serves(tmp_path: Path) -> None:
    bad = Artifact(ModelId("m", 2), Platform.TFLITE, Path("/nowhere/m.tflite"), "f2")
    for _ in range(2):
        deaths = Deaths(tmp_path)
        deaths.loading(bad)
        deaths.loaded(bad, serving=True)
        deaths.mark(bad).set()  # the process dies here
    async with world(FakeBackend(), tmp_path) as w:
        w.aspire(2, fallback=1)
        await w.reach(v2=State.FAILED, v1=State.READY)
        status = w.catalog.status("m")
        assert status is not None
        assert "died 2 times" in status.versions[0].reason
        assert await w.ask() == 1.0


async def test_a_version_that_was_running_at_every_kill_serves_on_where_its_model_has_no_other(tmp_path: Path) -> None:
    artifacts = [Artifact(ModelId("m", n), Platform.TFLITE, Path("/nowhere/m.tflite"), f"f{n}") for n in (1, 2)]
    for _ in range(2):
        deaths = Deaths(tmp_path)
        for each in artifacts:
            deaths.loading(each)
            deaths.loaded(each, serving=True)
            deaths.mark(each).set()  # the process is killed here
    async with world(FakeBackend(), tmp_path) as w:
        w.aspire(2, fallback=1)
        await w.reach(v2=State.FAILED, v1=State.READY)
        assert w.trials == [1], "and a child tries it first"
        assert await w.ask() == 1.0


async def test_requests_that_were_given_up_take_no_place_in_the_queue_behind_a_long_run() -> None:
    backend = FakeBackend()
    async with world(backend) as w:
        w.options = ModelOptions(lane="thread", instances=1, max_queue=3)
        w.aspire(1)
        await w.reach(v1=State.READY)
        gate = backend.hang[1] = threading.Event()
        tested = len(backend.runs)
        running = asyncio.create_task(w.ask())
        await until(lambda: len(backend.runs) > tested)
        for _ in range(5):
            gone = [asyncio.create_task(w.ask()) for _ in range(3)]
            await until(lambda: w.catalog.models()[0].versions[0].queue_depth == 3)
            for each in gone:
                each.cancel()
            await asyncio.gather(*gone, return_exceptions=True)
        waiting = asyncio.create_task(w.ask())
        await until(lambda: w.catalog.models()[0].versions[0].queue_depth == 1)
        gate.set()
        assert [await running, await waiting] == [1.0, 1.0]
        assert len(backend.runs) == tested + 2


async def test_whoever_waits_for_a_load_costs_nothing_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = FakeBackend()
    async with world(backend) as w:
        w.aspire(1)
        await w.reach(v1=State.READY)
        await w.manager.unload("m")
        gate = backend.load_hang[1] = threading.Event()
        loading = asyncio.create_task(w.manager.load("m"))
        await until(lambda: len(backend.loads) > 1)
        turns: list[object] = []
        monkeypatch.setattr(w.manager, "_advance", turns.append)
        for _ in range(100):
            await asyncio.sleep(0)
        assert len(turns) < 3
        monkeypatch.undo()
        gate.set()
        await loading
        assert await w.ask() == 1.0


async def test_a_model_is_loaded_again_while_it_still_drains() -> None:
    backend = FakeBackend()
    async with world(backend) as w:
        w.aspire(1)
        await w.reach(v1=State.READY)
        tested = len(backend.runs)
        gate = backend.hang[1] = threading.Event()
        asked = asyncio.create_task(w.ask())
        await until(lambda: len(backend.runs) > tested)
        await w.manager.unload("m")
        loading = asyncio.create_task(w.manager.load("m"))
        await asyncio.sleep(0.1)
        assert not loading.done()
        gate.set()
        await loading
        assert [await asked, await w.ask()] == [1.0, 1.0]


async def test_failed_versions_that_lie_nowhere_any_more_are_forgotten_without_a_swap() -> None:
    async with world(FakeBackend(failing=set(range(2, 12))), max_ended=3) as w:
        w.aspire(1)
        w.manager.started()
        await w.reach(v1=State.READY)
        for version in range(2, 12):
            w.aspire(version, available=(1, version), fallback=1)
            await w.reach(**{f"v{version}": State.FAILED})
        assert sorted(w.states()) == [1, 9, 10, 11]


async def test_versions_that_were_swapped_out_are_forgotten_though_their_files_are_kept() -> None:
    async with world(FakeBackend(failing={2}), max_ended=3) as w:
        for version in range(1, 12):
            w.aspire(version, available=tuple(range(1, version + 1)))
            w.manager.started()
            await w.reach(**{f"v{version}": State.FAILED if version == 2 else State.READY})
        await until(lambda: State.DRAINING not in w.states().values())
        assert sorted(w.states()) == [2, 8, 9, 10, 11], "of what failed, it is remembered which files did"
