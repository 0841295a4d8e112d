from __future__ import annotations

import asyncio

import pytest

from edge.frontends.http import eager


async def test_what_never_waits_has_its_result_at_once_and_tells_nobody_else() -> None:
    told: list[int] = []

    async def seven() -> int:
        return 7

    assert eager.start(seven(), asyncio.get_running_loop(), told.append) == 7
    assert told == []


async def test_what_waits_tells_its_result_within_the_turn_that_ends_it() -> None:
    loop, told = asyncio.get_running_loop(), list[int]()
    gate: asyncio.Future[int] = loop.create_future()

    async def waits() -> int:
        return await gate + 1

    task = eager.start(waits(), loop, told.append)
    assert isinstance(task, asyncio.Task)
    await asyncio.sleep(0)
    gate.set_result(6)
    await asyncio.sleep(0)
    assert told == [7]
    await task


async def test_a_cancelled_one_may_clean_up_and_tells_nothing() -> None:
    loop, told, cleaned = asyncio.get_running_loop(), list[int](), list[str]()

    async def waits() -> int:
        try:
            await loop.create_future()
        finally:
            cleaned.append("yes")
        return 7

    task = eager.start(waits(), loop, told.append)
    assert isinstance(task, asyncio.Task)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (told, cleaned) == ([], ["yes"])


async def test_an_error_before_the_first_wait_is_raised_at_once() -> None:
    async def fails() -> int:
        raise KeyError("x")

    with pytest.raises(KeyError):
        eager.start(fails(), asyncio.get_running_loop(), lambda _: None)
