"""Run a coroutine at once as far as it goes, and in a task only if it has to wait.

A request for a model that runs on the event loop never waits: it is spared the task and a turn of the loop.
(Python 3.12 has eager tasks; this is the part of them that is needed here, for 3.11.)
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from types import coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def start(
    coro: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop, later: Callable[[T], None]
) -> T | asyncio.Task[None]:
    """Its result, or a task for the rest of it. What it raises before it first waits is raised here.

    `later` gets the result of a task, as the last thing that it does: a done callback would come a turn of the loop
    after. It is not called for a task that was cancelled, or failed.

    Before its first wait `asyncio.current_task()` is not its own: it may not use `asyncio.timeout`
    there, nor `asyncio.wait_for`; `asyncio.wait` does as well.
    """
    try:
        first = coro.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    return loop.create_task(_rest(coro, first, later))


async def _rest(coro: Coroutine[Any, Any, T], first: object, later: Callable[[T], None]) -> None:
    going = _resume(coro, first)
    del first  # see _resume
    later(await going)


@coroutine
def _resume(coro: Coroutine[Any, Any, T], awaited: object) -> Generator[Any, Any, T]:
    """What was awaited is let go of before the coroutine goes on: an error in it knows these frames, and in a circle
    with it, all that came with the request would wait for the garbage collector."""
    try:
        while True:
            try:
                sent = yield awaited
            except BaseException as error:  # a cancellation too: it belongs to the coroutine
                awaited = None
                awaited = coro.throw(error)
            else:
                awaited = None
                awaited = coro.send(sent)
    except StopIteration as stop:
        result: T = stop.value
        return result
