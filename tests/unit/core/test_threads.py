"""Blocking work in a thread of its own."""

from __future__ import annotations

import asyncio
import threading

import pytest

from edge.core.threads import in_thread
from edge.frontends.http import eager


async def test_it_may_begin_before_there_is_a_task() -> None:
    loop, done = asyncio.get_running_loop(), asyncio.Event()
    started: list[int | asyncio.Task[int]] = []

    def outside_of_any_task() -> None:
        started.append(eager.start(in_thread("test", 10, lambda: 7), loop))
        done.set()

    loop.call_soon(outside_of_any_task)
    await done.wait()
    (task,) = started
    assert isinstance(task, asyncio.Task)
    assert await task == 7


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
