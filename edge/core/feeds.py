"""Carries what the sources say to the manager, and lets the set of sources change while the server runs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping

from edge.core.manager import Manager
from edge.domain.ports import Source

log = logging.getLogger(__name__)

SPEAK_WITHIN_S = 30.0


class Feeds:
    """A source that fails is a bug: it is logged, and what it said last holds.

    speak_within_s: how long, when sources are replaced, the models of lost ones are kept for a new one to claim.
    """

    def __init__(self, manager: Manager, *, speak_within_s: float = SPEAK_WITHIN_S) -> None:
        self._manager = manager
        self._speak_within_s = speak_within_s
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._names: dict[str, set[str]] = {}

    async def start(self, sources: Mapping[str, Source]) -> None:
        """Return when each has spoken once."""
        spoken = [self._add(key, source) for key, source in sources.items()]
        for event in spoken:
            await event.wait()
        self._manager.started()

    async def replace(self, sources: Mapping[str, Source], unchanged: set[str]) -> None:
        """The sources from now on; those in `unchanged` go on as they are. One call at a time.

        Models of lost ones are unloaded when the new ones have spoken and none of them has claimed them.
        """
        before: set[str] = set()
        for key in [key for key in self._tasks if key not in unchanged]:
            self._tasks.pop(key).cancel()
            before |= self._names.pop(key, set())
        spoken = [self._add(key, source) for key, source in sources.items() if key not in unchanged]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._speak_within_s):
                for event in spoken:
                    await event.wait()
        for name in before - sources.keys() - set().union(*self._names.values()):
            self._manager.remove(name)

    def _add(self, key: str, source: Source) -> asyncio.Event:
        spoken = asyncio.Event()
        self._names[key] = set()
        self._tasks[key] = asyncio.create_task(self._follow(key, source, spoken), name=f"source {key}")
        return spoken

    async def _follow(self, key: str, source: Source, spoken: asyncio.Event) -> None:
        try:
            async for wishes in source.watch():
                for aspired in wishes:
                    self._names[key].add(aspired.name)
                    self._manager.aspire(aspired)
                spoken.set()
        except Exception:
            log.exception("source %s ended; what it said last holds", key)
        finally:
            spoken.set()

    async def stop(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
