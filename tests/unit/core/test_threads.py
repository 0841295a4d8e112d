"""Blocking work in a thread of its own."""

from __future__ import annotations

import asyncio
import threading

import pytest

from edge.core.threads import in_thread
from edge.frontends.http import eager


async def test_it_may_begin_before_there_is_a_task() -> None:
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[int] = loop.create_future()
    # The loop calls this outside of any task.
    loop.call_soon(lambda: eager.start(in_thread("test", 10, lambda: 7), loop, answer.set_result))
    assert await answer == 7


async def test_what_takes_too_long_is_left_behind_and_its_late_error_harms_nobody() -> None:
    gate = threading.Event()

    def late() -> None:
        gate.wait(10)
        raise RuntimeError("late")

    with pytest.raises(TimeoutError):
        await in_thread("test", 0.01, late)
    gate.set()


async def test_what_it_raises_is_raised_here() -> None:
    with pytest.raises(ZeroDivisionError):
        await in_thread("test", 10, lambda: 1 // 0)
