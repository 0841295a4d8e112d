"""Waiting for something to become true: the one place where a test polls, bounded in time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

STEP_S = 0.005


async def until(condition: Callable[[], object], *, within_s: float = 120.0) -> None:
    """Return once it holds. Raises TimeoutError."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event of its own
            await asyncio.sleep(STEP_S)


def until_blocking(
    condition: Callable[[], object], about: Callable[[], object] = lambda: "", *, within_s: float = 120.0
) -> None:
    """The same where there is no event loop; the TimeoutError has what `about` says then."""
    end = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(about())
        time.sleep(STEP_S)
