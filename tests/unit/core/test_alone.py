"""A client that is alone is answered on the event loop's thread, and nobody else is."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from time import monotonic

import numpy as np
import pytest

from edge.core.blackbox import Mark
from edge.core.check import Rows
from edge.core.instance import Instance
from edge.core.lanes import LanePlan, Lanes
from edge.core.rows import Work
from edge.domain.errors import DeadlineExceeded, InferenceFailed
from edge.domain.models import Artifact, ModelId, ModelOptions, Platform
from edge.domain.tensors import Tensors
from tests.fakes.tflite import FakeBackend
from tests.waiting import until


def where(_id: ModelId, _signature: str, _inputs: Tensors) -> Tensors:
    return {"y": np.array([threading.get_ident()], np.uint64)}


def work(elements: int = 1) -> Work:
    return Work("serving_default", {"x": np.ones(elements, np.float32)}, Rows(1, False), elements)


@asynccontextmanager
async def lanes(backend: FakeBackend, plan: LanePlan) -> AsyncIterator[Lanes]:
    artifact = Artifact(ModelId("m", 1), Platform.TFLITE, Path("/nowhere/m.tflite"), "f")
    instances = [Instance(backend.load(artifact, ModelOptions()), Mark) for _ in range(plan.threads)]
    made = Lanes("m@1", instances, plan, max_queue=10, max_run_s=10.0)
    await until(lambda: made.queue.idle == plan.threads)
    try:
        yield made
    finally:
        made.close()
        await asyncio.to_thread(made.join, 10.0)
        assert not backend.alive


async def test_one_that_is_alone_is_answered_here_and_one_that_is_not_in_a_thread() -> None:
    async with lanes(FakeBackend(run=where), LanePlan(2, alone_elements=5)) as made:
        ran = made.run_now(work(), alone=True)
        assert ran is not None
        assert ran.outputs["y"][0] == threading.get_ident()
        assert made.run_now(work(), alone=False) is None
        elsewhere = await made.run(work(), None)
        assert elsewhere.outputs["y"][0] != threading.get_ident()
        assert made.run_now(work(6), alone=True) is None, "too large to be quick"


async def test_the_threads_work_on_after_their_instance_was_lent_and_failed() -> None:
    backend = FakeBackend(run=where)
    async with lanes(backend, LanePlan(1, alone_elements=5)) as made:
        backend.errors[1] = InferenceFailed("told to")
        for _ in range(3):
            try:
                made.run_now(work(), alone=True)
            except InferenceFailed:
                continue
            raise AssertionError("it should have failed")
        backend.errors.clear()
        assert (await made.run(work(), None)).outputs["y"][0] != threading.get_ident()


async def test_an_answer_that_comes_too_late_is_none_here_either_and_what_is_late_already_does_not_run() -> None:
    backend = FakeBackend(run=where, delay_s=0.01)
    async with lanes(backend, LanePlan(1, alone_elements=5)) as made:
        with pytest.raises(DeadlineExceeded, match="while the model ran"):
            made.run_now(work(), monotonic() + 0.005, alone=True)
        with pytest.raises(DeadlineExceeded, match="in the queue"):
            made.run_now(work(), monotonic() - 0.001, alone=True)
        assert len(backend.runs) == 1
        assert made.run_now(work(), monotonic() + 60, alone=True) is not None, "the thread was given back"


async def test_a_thread_that_is_busy_lends_nothing() -> None:
    free = threading.Event()
    backend = FakeBackend(run=where, hang={1: free})
    async with lanes(backend, LanePlan(1, alone_elements=5)) as made:
        running = asyncio.create_task(made.run(work(), None))
        await until(lambda: len(backend.runs) == 1)
        assert made.run_now(work(), alone=True) is None
        free.set()
        await running


async def test_runs_here_and_in_threads_in_turns_lose_nothing_and_never_share_an_instance() -> None:
    turns = count()
    async with lanes(FakeBackend(run=where), LanePlan(2, alone_elements=5)) as made:

        async def ask() -> None:
            if made.run_now(work(), alone=next(turns) % 3 == 0) is None:
                await made.run(work(), None)

        for _ in range(200):
            await asyncio.gather(*(ask() for _ in range(5)))
        assert made.depth == 0
