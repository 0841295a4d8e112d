"""Notice that something under some directories has changed: by the kernel's word where it can be had, and by
looking again every `poll_s` in any case.

Rule: a notification only ever causes a look; a lost one costs `poll_s`.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
from collections.abc import Sequence
from pathlib import Path

log = logging.getLogger(__name__)

POLL_S = 1.0


class Changes:
    """Wakes every subscriber at a change below one of `paths`, and every `poll_s`."""

    def __init__(self, paths: Sequence[Path], *, poll_s: float = POLL_S) -> None:
        self._paths, self._poll_s = tuple(paths), poll_s
        self._event = asyncio.Event()
        self._stop = asyncio.Event()

    def subscribe(self) -> asyncio.Event:
        """Ask before looking, so that a change during the look is not lost."""
        return self._event

    async def wait(self, event: asyncio.Event, at_most_s: float | None = None) -> None:
        limit = self._poll_s if at_most_s is None else min(at_most_s, self._poll_s)
        try:
            async with asyncio.timeout(limit):
                await event.wait()
        except TimeoutError:
            pass

    def notify(self) -> None:
        """Everybody looks again."""
        self._event.set()
        self._event = asyncio.Event()

    def follow(self, paths: Sequence[Path]) -> None:
        """Watch these from now on."""
        self._paths = tuple(paths)
        self._stop.set()
        self.notify()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            present = [path for path in self._paths if await asyncio.to_thread(path.exists)]
            self._stop = asyncio.Event()
            if present:
                await self._follow(present)
            await asyncio.sleep(self._poll_s)

    async def _follow(self, paths: Sequence[Path]) -> None:
        # Only a server that watches needs it, and to import takes longer than a request may wait.
        awatch = (await asyncio.to_thread(importlib.import_module, "watchfiles")).awatch
        # It would log each change, and a log that lies below what is watched changes by that.
        logging.getLogger("watchfiles").setLevel(logging.WARNING)
        try:
            async for _ in awatch(
                *paths, recursive=True, step=20, debounce=100, rust_timeout=1000, stop_event=self._stop
            ):
                self.notify()
        except (OSError, RuntimeError) as error:
            log.warning("no notification for %s (%s); looking every %g s", paths[0], error, self._poll_s)
