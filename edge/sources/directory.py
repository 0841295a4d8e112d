"""A model's directory of versions as a source: `aspired.json` decides where there is one, else the version policy.

Rule 1: a missing directory changes nothing; an empty one is the empty wish. Rule 2: an `aspired.json` that is
invalid or gone changes nothing: the last one holds, over restarts too, and the problem is said.
Rule 3: all disk work is in threads.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from edge.domain.layout import AspiredFile, parse_aspired
from edge.domain.models import Aspired, ModelOptions, Platform, Swap
from edge.domain.policy import Latest, VersionPolicy
from edge.sources.scan import Found, Scanner
from edge.sources.watch import Changes

log = logging.getLogger(__name__)

SETTLE_S = 1.0


@dataclass(frozen=True, slots=True)
class Wish:
    """What the configuration says of one model."""

    name: str
    path: Path
    policy: VersionPolicy = field(default_factory=lambda: Latest(1))
    labels: dict[str, int] = field(default_factory=dict)
    swap: Swap = Swap.BESIDE
    options: ModelOptions = field(default_factory=ModelOptions)
    prefer: tuple[Platform, ...] = (Platform.TFLITE, Platform.SAVEDMODEL)


class Memory(Protocol):
    """Where the last good `aspired.json` of a model's directory outlives the process. Both methods block."""

    def recall(self, name: str, directory: Path) -> bytes | None: ...
    def keep(self, name: str, directory: Path, aspired: bytes) -> None: ...


class NoMemory:
    """Keeps nothing."""

    def recall(self, name: str, directory: Path) -> bytes | None:
        return None

    def keep(self, name: str, directory: Path, aspired: bytes) -> None: ...


class DirectorySource:
    """`changes` wakes it; `settle_s` is how long a version's files must stand still."""

    def __init__(
        self, wish: Wish, changes: Changes, *, memory: Memory | None = None, settle_s: float = SETTLE_S
    ) -> None:
        self._wish = wish
        self._changes = changes
        self._memory = memory or NoMemory()
        self._settle_s = settle_s
        self._scanner = Scanner(wish.name, wish.path, settle_s=settle_s, prefer=wish.prefer)
        self._held: AspiredFile | None = None
        self._good: bytes | None = None
        self._kept: bytes | None = None
        self._recalled = False
        self._last: Aspired | None = None
        self._unsettled = False

    async def watch(self) -> AsyncIterator[Sequence[Aspired]]:
        while True:
            changed = self._changes.subscribe()
            aspired = await self.look()
            if aspired is not None:
                yield [aspired]
            await self._changes.wait(changed, self.again_s)

    @property
    def again_s(self) -> float | None:
        """When another look is due although nothing was notified, in seconds."""
        return self._settle_s / 2 if self._unsettled else None

    async def look(self) -> Aspired | None:
        """The wish, or None where it is the same as at the last look."""
        if not self._recalled:
            await asyncio.to_thread(self._recall)
        found = await asyncio.to_thread(self._scanner.look)
        self._unsettled = found.unsettled
        aspired = self._aspired(found)
        if self._kept != self._good:
            # Before it is acted upon: what was served must hold when this process dies of it.
            await asyncio.to_thread(self._keep)
        if aspired == self._last:
            return None
        if aspired.problem and (self._last is None or aspired.problem != self._last.problem):
            log.warning("%s: %s", self._wish.name, aspired.problem)
        self._last = aspired
        return aspired

    def _aspired(self, found: Found) -> Aspired:
        wish = self._wish
        if found.missing:
            last = self._last or Aspired(wish.name, (), options=wish.options)
            return replace(last, problem=found.problem)
        file, problem = self._read(found)
        problem = "; ".join(each for each in (problem, found.problem) if each)
        if file is None:
            return self._by_policy(found, problem)
        return Aspired(
            name=wish.name,
            versions=tuple(sorted(set(file.versions))),
            available=found.artifacts,
            fallback=file.fallback,
            keep_fallback=file.swap is Swap.BESIDE,
            labels={**wish.labels, **file.labels},
            swap=file.swap,
            generation=file.generation,
            problem=problem,
            pending=found.unsettled,
            options=wish.options,
        )

    def _read(self, found: Found) -> tuple[AspiredFile | None, str]:
        if found.aspired is None:
            return self._held, "aspired.json is gone; the last one holds" if self._held else ""
        try:
            self._held = parse_aspired(found.aspired)
        except ValueError as error:
            holds = "; the last good one holds" if self._held else ""
            return self._held, f"aspired.json: {error}{holds}"
        self._good = found.aspired
        absent = [version for version in self._held.versions if version not in found.artifacts]
        return self._held, f"aspired.json: version {absent[0]} is not there" if absent else ""

    def _by_policy(self, found: Found, problem: str) -> Aspired:
        wish = self._wish
        versions = wish.policy.choose(found.artifacts)
        older = [version for version in found.artifacts if versions and version < min(versions)]
        return Aspired(
            name=wish.name,
            versions=versions,
            available=found.artifacts,
            fallback=max(older, default=None),
            labels=wish.labels,
            swap=wish.swap,
            problem=problem,
            pending=found.unsettled,
            options=wish.options,
        )

    def _recall(self) -> None:
        self._recalled = True
        kept = self._memory.recall(self._wish.name, self._wish.path)
        if kept is None:
            return
        try:
            self._held = parse_aspired(kept)
        except ValueError as error:
            log.warning("%s: the aspired.json that was kept is not used: %s", self._wish.name, error)

    def _keep(self) -> None:
        assert self._good is not None
        self._memory.keep(self._wish.name, self._wish.path, self._good)
        self._kept = self._good
