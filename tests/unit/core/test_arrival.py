"""What a task waits for, beside a future: it comes a turn sooner, and all else is alike."""

from __future__ import annotations

import asyncio
import contextvars

import pytest

from edge.core.arrival import Arrival
from edge.frontends.http import eager


@pytest.fixture
async def arrival() -> Arrival[int]:
    return Arrival(asyncio.get_running_loop())


async def awaited(arrival: Arrival[int]) -> int:
    return await arrival


async def test_its_task_goes_on_before_set_result_returns(arrival: Arrival[int]) -> None:
    went_on: list[bool] = []

    async def wait() -> int:
        came = await arrival
        went_on.append(True)
        return came

    def set_it() -> None:
        arrival.set_result(7)
        assert went_on == [True]

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_soon(set_it)
    assert await task == 7


async def test_what_has_come_already_is_not_waited_for(arrival: Arrival[int]) -> None:
    arrival.set_result(7)
    assert await arrival == 7


async def test_what_comes_between_the_eager_part_and_the_task_is_not_lost(arrival: Arrival[int]) -> None:
    told: list[int] = []
    task = eager.start(awaited(arrival), asyncio.get_running_loop(), told.append)
    assert isinstance(task, asyncio.Task)
    arrival.set_result(7)  # before the task's first step
    await task
    assert told == [7]


@pytest.mark.parametrize("before_it_waits", [True, False])
async def test_an_error_is_raised_where_it_is_awaited(arrival: Arrival[int], before_it_waits: bool) -> None:
    task = asyncio.create_task(awaited(arrival))
    if not before_it_waits:
        await asyncio.sleep(0)
    arrival.set_exception(LookupError("no"))
    with pytest.raises(LookupError, match="no"):
        await task
    assert arrival.done()


async def test_a_task_that_is_cancelled_ends_at_once_and_nothing_comes_after(arrival: Arrival[int]) -> None:
    task = asyncio.create_task(awaited(arrival))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert arrival.done(), "so that whoever has the result keeps it"


async def test_a_cancellation_that_comes_with_the_result_is_not_lost(arrival: Arrival[int]) -> None:
    task = asyncio.create_task(awaited(arrival))
    await asyncio.sleep(0)
    arrival.set_exception(LookupError("no"))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_timeout_around_it_holds(arrival: Arrival[int]) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(awaited(arrival), 0.01)


async def test_it_goes_on_in_the_context_of_its_task(arrival: Arrival[int]) -> None:
    who: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")

    async def wait() -> str:
        who.set("the task")
        await arrival
        return who.get()

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_soon(arrival.set_result, 7)
    assert await task == "the task"
    assert who.get() == "nobody"
