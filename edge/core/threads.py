"""Blocking work that may never come back."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def in_thread(name: str, timeout_s: float, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run it in a thread of its own. Raises TimeoutError after `timeout_s`; the thread is then left behind.

    Unlike an executor's, the thread is a daemon: work that hangs does not keep the process from ending.
    """
    return await in_thread_or(lambda _: None, name, timeout_s, lambda: work(*args, **kwargs))


async def in_thread_or(too_late: Callable[[T | None], object], name: str, timeout_s: float, work: Callable[[], T]) -> T:
    """The same; `too_late` is given the result (None for an error) when it comes after all, in a thread."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    # Not in the future: an error there knows this frame, which knows the future, and what failed would wait for the
    # garbage collector.
    came: list[T] = []
    failed: list[BaseException] = []

    def settle(into: list[Any], what: Any) -> None:
        if done.done():
            late = None if into is failed else what
            threading.Thread(target=too_late, args=(late,), name=name, daemon=True).start()
        else:
            into.append(what)
            done.set_result(None)

    def body() -> None:
        try:
            result = work()
        except BaseException as error:  # handed to whoever waits
            tell(failed, error)
        else:
            tell(came, result)

    def tell(into: list[Any], what: Any) -> None:
        # After the loop has gone, nobody waits any more.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, into, what)

    threading.Thread(target=body, name=name, daemon=True).start()
    # Not asyncio.timeout, which wants a task around it: a request may come here before it has one.
    try:
        await asyncio.wait((done,), timeout=timeout_s)
        if not done.done():
            raise TimeoutError
        if failed:
            raise failed.pop()
        return came.pop()
    finally:
        done.cancel()  # nobody waits any more for what is late
