"""Notice that something under some directories has changed: by the kernel's word where it can be had, and by
looking again every `poll_s` in any case.

Rule 1: a notification only ever causes a look; a lost one costs `poll_s`. Rule 2: what is watched is bounded: the watcher is set
up in the event loop's thread, and takes seconds for the files of a whole machine.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
from collections.abc import Collection, Sequence
from pathlib import Path

log = logging.getLogger(__name__)

POLL_S = 1.0
STEP_MS, DEBOUNCE_MS, STOP_WITHIN_MS = 20, 100, 1000
"""A batch of changes ends when nothing came for a step, or after the debounce; a stop is seen within the last."""

MAX_FILES = 20_000
"""Below all directories that are watched, directories among them: to begin takes 50 ms. Where there are more, it is looked."""
MAX_COUNTED = 10 * MAX_FILES
"""To find out how many there are."""


class Changes:
    """Wakes every subscriber at a change below one of `paths`, and every `poll_s`."""

    def __init__(self, paths: Sequence[Path], *, poll_s: float = POLL_S) -> None:
        self._paths, self._poll_s = tuple(paths), poll_s
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

    def follow(self, paths: Sequence[Path]) -> None:
        """Watch these from now on."""
        self._paths = tuple(paths)
        self.notify()

    async def run(self) -> None:
        """Until cancelled. A directory that appears, or is replaced by another of its name, is watched soon after.

        The first look needs no notification, and is not kept waiting by the watcher's import.
        """
        while True:
            await asyncio.sleep(self._poll_s)
            paths = self._paths
            present = await asyncio.to_thread(_present, paths)
            if not present:
                continue
            stop = asyncio.Event()
            async with asyncio.TaskGroup() as group:
                task = group.create_task(self._follow([*present], stop))
                while self._paths is paths and present == await asyncio.to_thread(_present, paths):
                    await asyncio.wait([task], timeout=self._poll_s)
                stop.set()

    async def _follow(self, directories: Sequence[Path], stop: asyncio.Event) -> None:
        directories = await asyncio.to_thread(_watchable, directories, self._poll_s)
        if not directories:
            await stop.wait()
            return
        # Only a server that watches needs it, and to import takes longer than a request may wait.
        awatch = (await asyncio.to_thread(importlib.import_module, "watchfiles")).awatch
        try:
            async for _ in awatch(
                *directories, step=STEP_MS, debounce=DEBOUNCE_MS, rust_timeout=STOP_WITHIN_MS, stop_event=stop
            ):
                self.notify()
        except Exception as error:  # groups of them too, and one for a file whose name is not UTF-8: none may end us
            while isinstance(error, ExceptionGroup):
                error = error.exceptions[0]
            log.warning("no notification for %s (%s); looking every %g s", directories[0], error, self._poll_s)
            await stop.wait()


def _present(directories: Collection[Path]) -> dict[Path, tuple[int, int]]:
    """Those that are there, with what tells each from another of its name. Blocks."""
    found = {}
    for path in directories:
        try:
            stat = path.stat()
        except OSError:
            continue
        found[path] = _place(stat)
    return found


def _watchable(directories: Sequence[Path], poll_s: float) -> list[Path]:
    """Those that have no more files than may be watched. Blocks."""
    watchable, left, counted = [], MAX_FILES, 0
    for directory in directories:
        files = _files_below(directory, min(left, MAX_COUNTED - counted))
        counted += files
        if files > left or counted > MAX_COUNTED:
            log.warning("no notification for %s (want at most %d files); looking every %g s", directory, left, poll_s)
        else:
            watchable.append(directory)
            left -= files
    return watchable


def _files_below(directory: Path, most: int) -> int:
    """Directories among them, and through symbolic links, as the watcher goes; `most` + 1 where there are more."""
    count, ahead = 0, [os.fspath(directory)]
    seen: set[tuple[int, int]] = set()
    while ahead:
        try:
            with os.scandir(ahead.pop()) as entries:
                for entry in entries:
                    count += 1
                    if count > most:
                        return count
                    if entry.is_dir() and (place := _place(entry.stat())) not in seen:
                        seen.add(place)
                        ahead.append(entry.path)
        except OSError:
            continue
    return count


def _place(stat: os.stat_result) -> tuple[int, int]:
    """What tells a directory from every other, by whatever path one comes there."""
    return stat.st_dev, stat.st_ino
