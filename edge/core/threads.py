"""Blocking work that may never come back."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

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
    done: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if done.done():
            threading.Thread(target=too_late, args=(result,), name=name, daemon=True).start()
        elif error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]  # T may be Optional itself

    def body() -> None:
        result, error = None, None
        try:
            result = work()
        except BaseException as raised:  # handed to whoever waits
            error = raised
        try:
            loop.call_soon_threadsafe(settle, result, error)
        except RuntimeError:
            return  # the loop has gone, and with it whoever waited

    threading.Thread(target=body, name=name, daemon=True).start()
    # Not asyncio.timeout, which wants a task around it: a request may come here before it has one.
    try:
        await asyncio.wait((done,), timeout=timeout_s)
        if not done.done():
            raise TimeoutError
        return done.result()
    finally:
        done.cancel()  # nobody waits any more for what is late
