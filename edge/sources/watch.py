"""Notice that something at some paths has changed: by the kernel's word where it can be had, and by looking again
every `poll_s` in any case.

Rule 1: a notification only ever causes a look; a lost one costs `poll_s`. Rule 2: of the directory around a file
nothing else counts, however much goes on in it: a log beside a model must not make more log.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)

POLL_S = 1.0
STEP_MS, DEBOUNCE_MS, STOP_WITHIN_MS = 20, 100, 1000
"""A batch of changes ends when nothing came for a step, or after the debounce; a stop is seen within the last."""


@dataclass(frozen=True, slots=True)
class Watched:
    """Directories of which everything below counts, and single files."""

    trees: Collection[Path] = ()
    files: Collection[Path] = ()


class Changes:
    """Wakes every subscriber at a change in what is watched, and every `poll_s`."""

    def __init__(self, watched: Watched, *, poll_s: float = POLL_S) -> None:
        self._watched, self._poll_s = watched, poll_s
        self._event = asyncio.Event()

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

    def follow(self, watched: Watched) -> None:
        """Watch this from now on."""
        self._watched = watched
        self.notify()

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_watching(files=False))
            group.create_task(self._keep_watching(files=True))

    async def _keep_watching(self, *, files: bool) -> None:
        """A directory that appears, or is replaced by another of its name, is watched within two `poll_s`.

        The first look needs no notification, and is not kept waiting by the watcher's import.
        """
        while True:
            await asyncio.sleep(self._poll_s)
            watched = self._watched
            directories = {path.absolute().parent for path in watched.files} if files else set(watched.trees)
            present = await asyncio.to_thread(_present, directories)
            if not present:
                continue
            only = frozenset(str(path.absolute()) for path in watched.files) if files else None
            stop = asyncio.Event()
            async with asyncio.TaskGroup() as group:
                task = group.create_task(self._follow(list(present), only, stop))
                while self._watched is watched and not task.done():
                    await asyncio.wait([task], timeout=self._poll_s)
                    if present != await asyncio.to_thread(_present, directories):
                        break
                stop.set()

    async def _follow(self, directories: Collection[Path], only: frozenset[str] | None, stop: asyncio.Event) -> None:
        """`only`: the paths that count, in directories that are not watched any deeper."""
        from watchfiles import awatch  # only a server that watches needs it

        try:
            async for _ in awatch(
                *directories,
                watch_filter=None if only is None else lambda _, path: path in only,
                recursive=only is None,
                step=STEP_MS,
                debounce=DEBOUNCE_MS,
                rust_timeout=STOP_WITHIN_MS,
                stop_event=stop,
            ):
                self.notify()
        except (OSError, RuntimeError) as error:
            log.warning("no notification for %s (%s); looking every %g s", next(iter(directories)), error, self._poll_s)
            await stop.wait()


def _present(directories: Collection[Path]) -> dict[Path, tuple[int, int]]:
    """Those that are there, with what tells each from another of its name. Blocks."""
    found = {}
    for path in directories:
        try:
            stat = path.stat()
        except OSError:
            continue
        found[path] = stat.st_dev, stat.st_ino
    return found
