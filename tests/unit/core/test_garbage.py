"""What came with a request that fails is gone with its answer, before the garbage collector comes."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import pytest

from edge.core.threads import in_thread
from edge.domain.errors import EdgeError, InferenceFailed, InvalidInput, LoadError
from edge.domain.lifecycle import State
from edge.domain.models import ModelId, ModelSpec
from edge.domain.requests import PredictRequest, Target
from edge.domain.tensors import Array, Tensors
from edge.frontends.http import eager
from edge.frontends.http.admission import Admission
from tests.fakes.tflite import FakeBackend
from tests.unit.core.test_manager import World, world
from tests.waiting import until


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@dataclass
class Payload:
    inputs: Array
    slow: bool = False
    size: int = 4

    def bind(self, target: Target) -> Tensors:
        if self.slow:
            raise InvalidInput("no such thing")
        return {"x": self.inputs}


def fail(_model: ModelId, _signature: str, _inputs: Tensors) -> NoReturn:
    raise InferenceFailed("told to fail")


@pytest.mark.parametrize("slow", [True, False], ids=["its body is refused in a thread", "its run fails"])
async def test_a_request_that_fails_leaves_nothing_behind(slow: bool) -> None:
    backend = FakeBackend()
    async with world(backend) as w:
        w.aspire(1)
        await w.reach(v1=State.READY)
        backend.run = fail
        inputs = np.ones(1, np.float32)
        gone = weakref.ref(inputs)
        await _answered(w, Payload(inputs, slow))
        del inputs
        await until(lambda: gone() is None)


async def _answered(w: World, payload: Payload) -> None:
    async def answer() -> str:
        try:
            await w.predict.predict(PredictRequest(ModelSpec("m"), payload))
        except EdgeError as error:
            return error.message
        return ""

    assert await _eagerly(answer())


async def test_a_body_that_cannot_be_read_leaves_nothing_behind() -> None:
    with ThreadPoolExecutor(1) as offload:
        admission = Admission(
            max_inflight=1, max_body_bytes=1, max_inflated_bytes=1, request_timeout_s=1, offload=offload
        )
        body = np.ones(1)
        gone = weakref.ref(body)

        def read(body: Array) -> NoReturn:
            time.sleep(0.01)
            raise InvalidInput(f"no such thing as {body}")

        async def answer(body: Array) -> str:
            try:
                await admission.aside(asyncio.get_running_loop().time() + 5, read, body)
            except EdgeError as error:
                return error.message

        assert await _eagerly(answer(body))
        del body
        await until(lambda: gone() is None)


async def _eagerly(answer: Coroutine[Any, Any, str]) -> str:
    loop = asyncio.get_running_loop()
    later: asyncio.Future[str] = loop.create_future()
    outcome = eager.start(answer, loop, later.set_result)
    return await later if isinstance(outcome, asyncio.Task) else outcome


async def test_work_in_a_thread_that_fails_leaves_nothing_behind() -> None:
    held = np.ones(1)
    gone = weakref.ref(held)

    def load(held: Array) -> NoReturn:
        raise LoadError(f"no such thing as {held}")

    async def answer(held: Array) -> str:
        try:
            await in_thread("load", 5, load, held)
        except LoadError as error:
            return str(error)

    assert await answer(held)
    del held
    await until(lambda: gone() is None)
