"""What is opened in a thread is given to whoever waits, or closed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from edge.mqtt.connecting import in_thread


class Socket:
    def __init__(self) -> None:
        self.closed = threading.Event()

    def close(self) -> None:
        self.closed.set()


async def test_what_comes_in_the_moment_in_which_nobody_waits_any_more_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened, may_come = Socket(), threading.Event()

    def work() -> Any:
        may_come.wait(10)
        return object(), opened

    waiting = asyncio.ensure_future(in_thread(work))
    loop = asyncio.get_running_loop()
    hand_over = loop.call_soon_threadsafe

    def handed_over_and_called_off(settle: Callable[..., Any], *args: Any) -> None:
        def both() -> None:
            settle(*args)
            waiting.cancel()

        hand_over(both)

    monkeypatch.setattr(loop, "call_soon_threadsafe", handed_over_and_called_off)
    await asyncio.sleep(0)  # the thread begins
    may_come.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert opened.closed.is_set()


async def test_what_comes_later_than_that_is_closed_too() -> None:
    opened, may_come = Socket(), threading.Event()

    def work() -> Any:
        may_come.wait(10)
        return object(), opened

    waiting = asyncio.ensure_future(in_thread(work))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    may_come.set()
    assert await asyncio.to_thread(opened.closed.wait, 10)
