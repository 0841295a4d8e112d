"""What one task waits for, and goes on with in the very turn of the event loop in which it comes.

A future wakes its task in the turn after: once more a look at every socket, in which the interpreter's lock is let go and fought
for. Rule 1: it is awaited once, by one task. Rule 2: `set_result` is called by the event loop itself and not within a task, as the
task that waits runs before it returns; errors come from anywhere, and take the turn after.
Source: asyncio tasks wait for whatever has `_asyncio_future_blocking` (Lib/asyncio/futures.py, isfuture).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextvars import Context
from typing import Any, Generic, TypeVar

T = TypeVar("T")
Wake = Callable[["Arrival[Any]"], object]


class Arrival(Generic[T]):
    __slots__ = ("_asyncio_future_blocking", "_came", "_context", "_error", "_loop", "_result", "_wake")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._asyncio_future_blocking = self._came = False
        self._error: BaseException | None = None
        self._wake: Wake | None = None

    def done(self) -> bool:
        return self._came

    def set_result(self, result: T) -> None:
        self._result, self._came = result, True
        wake, self._wake = self._wake, None  # it knows the task, which may come to know an error, which knows this
        if wake is not None:
            self._context.run(wake, self)

    def set_exception(self, error: BaseException) -> None:
        """Its task goes on in the next turn: the error would know the frames of whoever told it, and they know it."""
        self._error, self._came = error, True
        wake, self._wake = self._wake, None
        if wake is not None:
            self._loop.call_soon(wake, self, context=self._context)

    # What a task asks of what it waits for.

    def __await__(self) -> Generator[Any, None, T]:
        if not self._came:
            self._asyncio_future_blocking = True
            yield self
        return self.result()

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def add_done_callback(self, wake: Wake, *, context: Context) -> None:
        if self._came:
            self._loop.call_soon(wake, self, context=context)
        else:
            self._wake, self._context = wake, context

    def cancel(self, msg: object = None) -> bool:
        """Whether it had not come."""
        if self._came:
            return False
        self.set_exception(asyncio.CancelledError())
        return True

    def result(self) -> T:
        """Raises what it came to."""
        if self._error is not None:
            error, self._error = self._error, None
            try:
                raise error
            finally:
                del error  # it knows this frame: in a circle, what came with the request would stay for long
        return self._result
