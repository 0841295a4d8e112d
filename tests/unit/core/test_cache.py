"""Answers that are given again: the right ones, in bounded memory, and no longer than their version serves."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.core import cache as module
from edge.core.cache import ENTRY_BYTES, Cache, digest
from edge.core.check import ONE_RUN
from edge.core.predict import INLINE_BIND_BYTES
from edge.core.rows import Work, work_of
from edge.domain.errors import InferenceFailed
from edge.domain.lifecycle import State
from edge.domain.models import ModelOptions
from edge.domain.tensors import Array, DType, Signature, TensorSpec
from tests.fakes.meter import FakeMeter
from tests.fakes.tflite import FakeBackend
from tests.unit.core.test_batching import Clients, holding, serving, waiting
from tests.unit.core.test_manager import world

BYTES = 1 << 20


def key(signature: str = "serving_default", **inputs: Array) -> bytes:
    return digest(work_of(signature, inputs, ONE_RUN))


def f32(*values: float) -> Array:
    return np.array(values, np.float32)


@dataclass
class Counting(FakeMeter):
    hits: int = 0
    misses: int = 0
    kept: list[int] = field(default_factory=list)

    def looked_up(self, *, hit: bool) -> None:
        self.hits, self.misses = self.hits + hit, self.misses + (not hit)

    def keeps(self, nbytes: int) -> None:
        self.kept.append(nbytes)


def texts(*values: bytes) -> Array:
    return np.array(values, object)


def test_whatever_an_answer_depends_on_makes_another_key() -> None:
    ones = np.ones((2, 2), np.float32)
    different = [
        key(x=ones),
        key("other", x=ones),
        key(y=ones),
        key(x=ones.reshape(4)),
        key(x=ones.astype(np.float64)),
        key(x=ones.view(np.int32)),
        key(x=np.array([[1, 1], [1, 2]], np.float32)),
        key(x=ones, y=ones),
        key(x=texts(b"ab", b"c")),
        key(x=texts(b"a", b"bc")),
        key(x=np.float16(1).reshape(1)),
        key(x=np.array(True)),
    ]
    assert len(set(different)) == len(different)
    assert key(x=ones) == key(x=np.asfortranarray(ones).copy(order="F"))


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 600)), max_size=60))
def test_it_never_takes_more_than_its_bound_and_says_what_it_takes(steps: list[tuple[int, int]]) -> None:
    cache = Cache(5 * ENTRY_BYTES)
    for name, elements in steps:
        cache.put(b"%d" % name, {"y": np.zeros(elements, np.float32)})
        taken = sum(size for _, size in cache._answers.values())
        assert cache.bytes == taken <= 5 * ENTRY_BYTES


def test_who_was_asked_for_the_longest_time_ago_goes_first() -> None:
    cache = Cache(2 * (ENTRY_BYTES + 4))
    cache.put(b"a", {"y": f32(1)})
    cache.put(b"b", {"y": f32(2)})
    assert cache.get(b"a") is not None
    cache.put(b"c", {"y": f32(3)})
    assert cache.get(b"b") is None
    assert cache.get(b"a") is not None


def test_what_it_holds_is_its_own() -> None:
    cache, given_out = Cache(BYTES), f32(1, 2)
    cache.put(b"a", {"y": given_out})
    given_out[:] = 0
    known = cache.get(b"a")
    assert known is not None
    assert known["y"].tolist() == [1, 2]
    with pytest.raises(ValueError, match="read-only"):
        known["y"][0] = 5


async def test_the_same_inputs_are_run_once_and_a_new_version_answers_anew() -> None:
    backend = FakeBackend()
    async with world(backend) as w:
        meter = Counting()
        w.manager._meters = lambda _: meter
        w.options = ModelOptions(lane="thread", instances=1, cache_bytes=BYTES, max_batch_size=1)
        w.aspire(1)
        w.manager.started()
        await w.reach(v1=State.READY)
        clients = Clients(w)
        backend.runs.clear()
        answers = [float((await clients.ask(value))[0]) for value in (3.0, 3.0, 4.0, 3.0)]
        assert answers == [3.0, 3.0, 4.0, 3.0]
        assert (len(backend.runs), meter.hits, meter.misses) == (2, 2, 2)
        assert meter.kept[-1] == 2 * (ENTRY_BYTES + 4)
        w.aspire(2)
        await w.reach(v2=State.READY, v1=State.UNLOADED)
        assert (await clients.ask(3.0)).tolist() == [6.0]


async def test_an_error_is_not_remembered_and_many_at_once_get_the_same() -> None:
    backend = FakeBackend()
    async with world(backend) as w:
        w.options = ModelOptions(lane="thread", instances=1, cache_bytes=BYTES)
        w.aspire(1)
        w.manager.started()
        await w.reach(v1=State.READY)
        clients = Clients(w)
        backend.errors[1] = InferenceFailed("told to fail")
        with pytest.raises(InferenceFailed):
            await clients.ask(3.0)
        backend.errors.clear()
        answers = await asyncio.gather(*(clients.ask(3.0) for _ in range(10)))
        assert {float(each[0]) for each in answers} == {3.0}


async def test_an_answer_whose_length_is_that_of_another_request_is_not_given_again() -> None:
    signature = Signature(
        "serving_default",
        MappingProxyType({"x": TensorSpec("x", DType.FLOAT32, (-1, -1))}),
        MappingProxyType({"y": TensorSpec("y", DType.FLOAT32, (-1, -1))}),
    )
    backend = FakeBackend(signature=signature)
    options = ModelOptions(
        lane="thread", instances=1, max_batch_size=8, pad_variable_length_inputs=True, cache_bytes=BYTES
    )
    short, long = np.array([[3.0, 4.0]], np.float32), np.array([[5.0, 6.0, 7.0]], np.float32)
    async with serving(backend, options) as clients:
        async with holding(backend, clients, np.ones((1, 1), np.float32)):
            together = [asyncio.create_task(clients.ask_array(x)) for x in (short, long)]
            await waiting(clients, 2)
        assert (await together[0]).tolist() == [[3.0, 4.0, 3.0]]
        assert (await clients.ask_array(short)).tolist() == [[3.0, 4.0]]
        await together[1]


async def test_long_strings_are_not_looked_through_on_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[str] = []
    real = module.digest

    def noted(work: Work) -> bytes:
        threads.append(threading.current_thread().name)
        return real(work)

    monkeypatch.setattr(module, "digest", noted)
    signature = Signature(
        "serving_default",
        MappingProxyType({"x": TensorSpec("x", DType.STRING, (-1,))}),
        MappingProxyType({"y": TensorSpec("y", DType.STRING, (-1,))}),
    )
    backend = FakeBackend(signature=signature, run=lambda _id, _name, inputs: {"y": inputs["x"]})
    options = ModelOptions(lane="thread", instances=1, max_batch_size=1, cache_bytes=BYTES)
    async with serving(backend, options) as clients:
        await clients.ask_array(texts(b"short"))
        await clients.ask_array(texts(b"x" * (INLINE_BIND_BYTES + 1)))
    main = threading.main_thread().name
    assert [name == main for name in threads] == [True, False]
