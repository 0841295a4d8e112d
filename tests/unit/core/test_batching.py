"""Requests that share runs: everybody gets what is theirs, whoever they shared it with."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import cast

import numpy as np
import pytest

from edge.core import batcher
from edge.core.arrival import Arrival
from edge.core.batch import Batching
from edge.core.batch_queue import BatchQueue
from edge.core.batcher import OVERDUE_S, Limits
from edge.core.check import ONE_RUN
from edge.core.handoff import Worker
from edge.core.job import Job, Task
from edge.core.rows import work_of
from edge.core.run_times import RunTimes
from edge.domain.errors import DeadlineExceeded, InferenceFailed, InvalidInput, Overloaded
from edge.domain.lifecycle import State
from edge.domain.models import ModelId, ModelOptions, ModelSpec
from edge.domain.requests import PredictRequest, Target
from edge.domain.tensors import Array, DType, Signature, Tensors, TensorSpec
from tests.fakes.tflite import FakeBackend, scaling_signature
from tests.unit.core.test_manager import World, world
from tests.waiting import until

BAD = -1.0
RUN_S = 0.004
OPTIONS = ModelOptions(lane="thread", instances=1, max_batch_size=32)


@dataclass
class Body:
    x: Array
    size: int = 4
    slow: bool = False

    def bind(self, target: Target) -> Tensors:
        return {"x": self.x}


@dataclass
class Clients:
    """Ask with their own numbers, and check that the answers are theirs."""

    w: World
    took: list[float] = field(default_factory=list)
    versions: set[int] = field(default_factory=set)

    async def ask(self, *values: float, name: str = "", timeout_s: float = 10.0) -> Array:
        x = np.array(values, np.float32)
        return await self.ask_array(x, name=name, timeout_s=timeout_s)

    async def ask_array(self, x: Array, *, name: str = "", timeout_s: float = 10.0) -> Array:
        deadline = asyncio.get_running_loop().time() + timeout_s
        start = time.perf_counter()
        request = PredictRequest(ModelSpec("m"), Body(x), name, deadline=deadline)
        response = await self.w.predict.predict(request)
        self.took.append(time.perf_counter() - start)
        return response.outputs["y"]

    async def closed_loop(self, client: int, rounds: int, bad_every: int = 0) -> None:
        for n in range(rounds):
            value = 1.0 + client * 1000 + n
            if bad_every and (client * rounds + n) % bad_every == 0:
                with pytest.raises(InvalidInput, match="told to refuse"):
                    await self.ask(BAD)
                continue
            (answer,) = await self.ask(value)
            version, left = divmod(float(answer), value)
            assert left == 0.0, "this is somebody else's row"
            self.versions.add(int(version))


def picky(id: ModelId, _signature: str, inputs: Tensors) -> Tensors:
    """Times the version; refuses a run with a BAD one in it."""
    if (inputs["x"] == BAD).any():
        raise InvalidInput("told to refuse")
    return {"y": inputs["x"] * id.version}


@asynccontextmanager
async def serving(backend: FakeBackend, options: ModelOptions = OPTIONS) -> AsyncIterator[Clients]:
    async with world(backend) as w:
        w.options = options
        w.aspire(1)
        w.manager.started()
        await w.reach(v1=State.READY)
        backend.runs.clear()
        yield Clients(w)


@asynccontextmanager
async def holding(backend: FakeBackend, clients: Clients, x: Array | None = None) -> AsyncIterator[None]:
    """The only lane runs something, `x` if it is given, until the block ends."""
    before = len(backend.runs)
    gate = backend.hang[1] = threading.Event()
    running = asyncio.create_task(clients.ask_array(np.ones(1, np.float32) if x is None else x))
    try:
        await until(lambda: len(backend.runs) == before + 1)
        yield
    finally:
        del backend.hang[1]
        gate.set()
        await running


def sizes(backend: FakeBackend) -> list[int]:
    return [rows for _, rows in backend.runs]


async def waiting(clients: Clients, count: int) -> None:
    def depth() -> int:
        status = clients.w.catalog.status("m")
        assert status is not None
        return sum(version.queue_depth for version in status.versions)

    await until(lambda: depth() == count)


async def test_what_waits_while_a_run_is_under_way_runs_as_one_and_each_gets_its_own_rows() -> None:
    backend = FakeBackend(run=picky)
    async with serving(backend) as clients:
        async with holding(backend, clients):
            asked = [asyncio.create_task(clients.ask(*range(n, 2 * n))) for n in (1, 2, 3)]
            await waiting(clients, 3)
        assert [list(await each) for each in asked] == [[1], [2, 3], [3, 4, 5]]
        assert sizes(backend) == [1, 6]


async def test_a_server_that_is_idle_holds_nothing_back_even_where_batches_may_wait() -> None:
    backend = FakeBackend(run=picky)
    async with serving(backend, ModelOptions(lane="thread", instances=1, max_batch_size=8, batch_timeout_s=30.0)) as c:
        assert list(await asyncio.wait_for(c.ask(1.0, 2.0), 5.0)) == [1.0, 2.0]


async def test_a_batch_with_room_is_held_while_another_lane_runs_until_it_is_full_or_its_time_has_come() -> None:
    options = ModelOptions(lane="thread", instances=2, max_batch_size=3, batch_timeout_s=0.2)
    backend = FakeBackend(run=picky)
    async with serving(backend, options) as clients, holding(backend, clients):
        del backend.hang[1]  # the one that hangs has its event already
        full = [asyncio.create_task(clients.ask(float(n))) for n in range(3)]
        await asyncio.gather(*full)
        assert sizes(backend) == [1, 3]
        start = time.perf_counter()
        await clients.ask(7.0)
        assert time.perf_counter() - start >= 0.19
        assert sizes(backend) == [1, 3, 1]
        backend.hang[1] = threading.Event()
        backend.hang[1].set()


async def test_a_batch_is_not_held_past_the_earliest_deadline_in_it() -> None:
    options = ModelOptions(lane="thread", instances=2, max_batch_size=8, batch_timeout_s=60.0)
    backend = FakeBackend(run=picky)
    async with serving(backend, options) as clients, holding(backend, clients):
        del backend.hang[1]
        patient = asyncio.create_task(clients.ask(1.0))
        await waiting(clients, 1)
        assert list(await clients.ask(2.0, timeout_s=1.0)) == [2.0]
        assert list(await patient) == [1.0]
        assert sizes(backend) == [1, 2]
        backend.hang[1] = threading.Event()
        backend.hang[1].set()


async def test_who_is_given_up_or_late_has_no_rows_in_the_run() -> None:
    backend = FakeBackend(run=picky)
    async with serving(backend) as clients:
        async with holding(backend, clients):
            leaves = asyncio.create_task(clients.ask(1.0, 2.0))
            late = asyncio.create_task(clients.ask(3.0, 4.0, 5.0, timeout_s=0.05))
            stays = asyncio.create_task(clients.ask(6.0))
            await waiting(clients, 3)
            leaves.cancel()
            with pytest.raises(DeadlineExceeded, match="in the queue"):
                await late
            await waiting(clients, 1)
        assert list(await stays) == [6.0]
        assert sizes(backend) == [1, 1]


async def test_one_bad_request_fails_alone_and_nobody_is_run_more_than_twice() -> None:
    backend = FakeBackend(run=picky)
    async with serving(backend) as clients:
        async with holding(backend, clients):
            good = [asyncio.create_task(clients.ask(float(n))) for n in range(4)]
            bad = asyncio.create_task(clients.ask(BAD))
            await waiting(clients, 5)
        assert [float((await each)[0]) for each in good] == [0.0, 1.0, 2.0, 3.0]
        with pytest.raises(InvalidInput, match="told to refuse"):
            await bad
        assert sizes(backend) == [1, 5, 1, 1, 1, 1, 1]


async def test_with_one_bad_request_in_ten_32_clients_wait_no_longer_than_without_batches() -> None:
    p99: dict[int, float] = {}
    for most in (1, 0):
        backend = FakeBackend(run=picky, delay_s=RUN_S)
        async with serving(backend, ModelOptions(lane="thread", instances=1, max_batch_size=most)) as clients:
            await asyncio.gather(*(clients.closed_loop(n, 15, bad_every=10) for n in range(32)))
            p99[most] = float(np.quantile(clients.took, 0.99))
    assert max(sizes(backend)) > 1
    assert p99[0] <= 1.5 * p99[1], "tests/unit/core/test_batcher.py has it exactly, in simulated time"


async def test_32_clients_on_a_slow_model_share_its_runs_and_each_gets_its_own_answers() -> None:
    backend = FakeBackend(run=picky, delay_s=RUN_S)
    async with serving(backend, ModelOptions(lane="thread", instances=2)) as clients:
        await asyncio.gather(*(clients.closed_loop(n, 30) for n in range(32)))
        assert len(backend.runs) < 32 * 30 / 4
        assert sum(sizes(backend)) >= 32 * 30, "with rows that fill runs up"


async def test_a_swap_in_the_midst_of_batches_loses_nothing_and_mixes_no_versions() -> None:
    backend = FakeBackend(run=picky, delay_s=RUN_S / 2)
    async with serving(backend) as clients:
        asking = [asyncio.create_task(clients.closed_loop(n, 60)) for n in range(16)]
        await until(lambda: len(backend.runs) > 10)
        clients.w.aspire(2)
        await clients.w.reach(v2=State.READY, v1=State.UNLOADED)
        await asyncio.gather(*asking)
        assert clients.versions == {1, 2}
        assert max(sizes(backend)) > 1


async def test_signatures_and_shapes_are_never_mixed() -> None:
    wide = Signature(
        "wide",
        MappingProxyType({"x": TensorSpec("x", DType.FLOAT32, (-1, -1))}),
        MappingProxyType({"y": TensorSpec("y", DType.FLOAT32, (-1, -1))}),
    )
    asked: list[tuple[str, tuple[int, ...]]] = []

    def note(_id: ModelId, signature: str, inputs: Tensors) -> Tensors:
        asked.append((signature, inputs["x"].shape))
        return {"y": inputs["x"] * 2}

    signatures = MappingProxyType({"serving_default": scaling_signature(), "wide": wide})
    backend = FakeBackend(run=note, signatures=signatures)
    async with serving(backend) as clients:
        asked.clear()
        async with holding(backend, clients):
            each = [
                asyncio.create_task(clients.ask_array(np.ones(shape, np.float32), name=name))
                for name, shape in (
                    ("wide", (1, 2)),
                    ("serving_default", (1,)),
                    ("wide", (1, 3)),
                    ("wide", (2, 2)),
                    ("", (2,)),
                )
            ]
            await waiting(clients, 5)
        assert [(await one).shape for one in each] == [(1, 2), (1,), (1, 3), (2, 2), (2,)]
        assert asked[1:] == [("wide", (3, 2)), ("serving_default", (3,)), ("wide", (1, 3))]


@pytest.mark.parametrize("pad", [False, True])
def test_inputs_in_another_order_are_told_apart_by_their_names(pad: bool) -> None:
    batching = Batching(Limits(8, pad_lengths=pad), frozenset({"s"}), RunTimes(8))

    def key(**shapes: tuple[int, ...]) -> object:
        inputs = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
        return batching.key(work_of("s", inputs, ONE_RUN))[0]

    assert key(ids=(1, 4), mask=(1, 8, 1)) != key(mask=(1, 4), ids=(1, 8, 1))
    assert key(ids=(1, 4), mask=(1, 8, 1)) == key(ids=(2, 4), mask=(2, 8, 1))


async def test_runs_are_padded_to_a_size_that_is_allowed_and_nobody_sees_it() -> None:
    backend = FakeBackend(run=picky)
    options = ModelOptions(lane="thread", instances=1, allowed_batch_sizes=(2, 4, 8))
    async with serving(backend, options) as clients:
        assert list(await clients.ask(5.0)) == [5.0]
        async with holding(backend, clients):
            asked = [asyncio.create_task(clients.ask(float(n))) for n in range(5)]
            await waiting(clients, 5)
        assert [float((await each)[0]) for each in asked] == [0.0, 1.0, 2.0, 3.0, 4.0]
        assert sizes(backend) == [2, 2, 8]


async def test_a_request_that_is_larger_than_a_run_is_run_in_parts() -> None:
    backend = FakeBackend(run=picky)
    options = ModelOptions(lane="thread", instances=1, max_batch_size=4, max_queue=20)
    async with serving(backend, options) as clients:
        assert list(await clients.ask(*range(10))) == list(range(10))
        assert sorted(sizes(backend)) == [2, 4, 4]
        with pytest.raises(InvalidInput, match="told to refuse"):
            await clients.ask(*range(9), BAD)
        assert list(await clients.ask(3.0)) == [3.0]


async def test_a_request_of_more_runs_than_may_ever_wait_is_told_so_and_not_to_come_again() -> None:
    backend = FakeBackend(run=picky)
    options = ModelOptions(lane="thread", instances=1, max_batch_size=4, max_queue=20)
    async with serving(backend, options) as clients:
        assert list(await clients.ask(*range(80))) == list(range(80))
        with pytest.raises(InvalidInput, match=r"want at most 20 runs of 4 rows \(max_queue\).*got 81 rows"):
            await clients.ask(*range(81))
        async with holding(backend, clients):
            waits = asyncio.create_task(clients.ask(5.0))
            await waiting(clients, 1)
            with pytest.raises(Overloaded, match="no room for the 20 runs of a request"):
                await clients.ask(*range(80))
        assert list(await waits) == [5.0]


@pytest.mark.parametrize("pad", [True, False])
async def test_inputs_of_different_lengths_share_a_run_only_when_asked_to(pad: bool) -> None:
    signature = Signature(
        "serving_default",
        MappingProxyType({"x": TensorSpec("x", DType.FLOAT32, (-1, -1))}),
        MappingProxyType({"y": TensorSpec("y", DType.FLOAT32, (-1, -1))}),
    )
    backend = FakeBackend(run=picky, signature=signature)
    options = ModelOptions(lane="thread", instances=1, max_batch_size=8, pad_variable_length_inputs=pad)
    async with serving(backend, options) as clients:
        gate = backend.hang[1] = threading.Event()
        first = asyncio.create_task(clients.ask_array(np.ones((1, 1), np.float32)))
        await until(lambda: len(backend.runs) == 1)
        short = asyncio.create_task(clients.ask_array(np.array([[3.0, 4.0]], np.float32)))
        long = asyncio.create_task(clients.ask_array(np.array([[5.0, 6.0, 7.0]], np.float32)))
        await waiting(clients, 2)
        gate.set()
        assert (await long).tolist() == [[5.0, 6.0, 7.0]]
        assert (await short).tolist() == ([[3.0, 4.0, 3.0]] if pad else [[3.0, 4.0]])
        assert sizes(backend) == ([1, 2] if pad else [1, 1, 1])
        await first


async def test_a_model_that_gives_another_number_of_rows_than_it_was_asked_for_gives_nobody_anothers() -> None:
    def total(_id: ModelId, _signature: str, inputs: Tensors) -> Tensors:
        return {"y": inputs["x"].sum(keepdims=True)}

    backend = FakeBackend(run=total)
    async with serving(backend) as clients:
        async with holding(backend, clients):
            asked = [asyncio.create_task(clients.ask(float(n))) for n in range(3)]
            await waiting(clients, 3)
        assert [float((await each)[0]) for each in asked] == [0.0, 1.0, 2.0]


async def test_a_run_of_many_that_hangs_fails_them_all_once() -> None:
    backend = FakeBackend(run=picky)
    options = ModelOptions(lane="thread", instances=1, max_batch_size=8, max_run_s=0.2)
    async with serving(backend, options) as clients:
        gate = threading.Event()
        try:
            async with holding(backend, clients):
                asked: Sequence[asyncio.Task[Array]] = [asyncio.create_task(clients.ask(float(n))) for n in range(4)]
                await waiting(clients, 4)
                first, backend.hang[1] = backend.hang[1], gate
                first.set()
                await until(lambda: len(backend.runs) == 2)
            for each in asked:
                with pytest.raises(InferenceFailed, match="max_run_s"):
                    await each
        finally:
            gate.set()


async def test_nobody_waits_long_beside_a_free_lane_for_the_end_of_a_run_that_was_to_be_short() -> None:
    def short(id: ModelId, signature: str, inputs: Tensors) -> Tensors:
        time.sleep(0.001)
        return picky(id, signature, inputs)

    backend = FakeBackend(run=short)
    async with serving(backend, ModelOptions(lane="thread", instances=2)) as clients:
        for _ in range(8):
            await clients.ask(1.0, 2.0)
        async with holding(backend, clients):
            backend.hang[1] = threading.Event()  # the one that hangs has its own
            backend.hang[1].set()
            clients.took.clear()
            for value in (2.0, 3.0, 4.0):
                await clients.ask(value)
            assert min(clients.took) < 10 * OVERDUE_S


async def test_nobody_waits_for_a_run_that_is_known_to_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batcher, "OVERDUE_S", 4.0)
    times = RunTimes(8)
    for rows in (1, 2, 8) * 4:
        times.observe(rows, 0.001)
    queue = BatchQueue(Limits(8), times)
    hung, free = (cast("Worker[Task]", Worker()) for _ in range(2))

    def job() -> Job:
        return Job(work_of("s", {"x": np.ones(1)}, ONE_RUN), None, Arrival(asyncio.get_running_loop()), "key")

    queue.put(job())
    assert queue.take(hung) is not None
    queue.hangs(hung)
    queue.put(job())
    start = time.perf_counter()
    assert queue.take(free) is not None
    assert time.perf_counter() - start < 2.0


async def test_a_lane_whose_held_batch_went_to_another_sleeps_again() -> None:
    options = ModelOptions(lane="thread", instances=2, max_batch_size=8, batch_timeout_s=0.05)
    backend = FakeBackend(run=picky)
    async with serving(backend, options) as clients:
        async with holding(backend, clients):
            held = asyncio.create_task(clients.ask(2.0))
            await waiting(clients, 1)
            held.cancel()
            await waiting(clients, 0)
        await asyncio.sleep(0.1)  # past the alarm
        before = time.process_time()
        await asyncio.sleep(0.3)
        assert time.process_time() - before < 0.15, "it spins"
