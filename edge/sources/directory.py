"""A model's directory of versions as a source: `aspired.json` decides where there is one, else the version policy.

Rule 1: a missing directory changes nothing; an empty one is the empty wish. Rule 2: an `aspired.json` that is
invalid or gone changes nothing: the last one holds, over a restart too, and the problem is said. Rule 3: all disk
work is in threads.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from edge.domain.layout import AspiredFile, parse_aspired
from edge.domain.models import Aspired, ModelOptions, Platform, Swap
from edge.domain.policy import Latest, VersionPolicy
from edge.domain.ports import Keepsakes
from edge.sources.scan import Found, Scanner
from edge.sources.stillness import SETTLE_S
from edge.sources.watch import Changes

log = logging.getLogger(__name__)

MAX_FURTHER = 8
"""Older versions that are tried, one after the other, when those that should be served and the one before them all fail."""


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


class DirectorySource:
    """`changes` wakes it; `settle_s` is how long a version's files must stand still."""

    def __init__(
        self, wish: Wish, changes: Changes, *, settle_s: float = SETTLE_S, keepsakes: Keepsakes | None = None
    ) -> None:
        self._wish = wish
        self._changes = changes
        self._settle_s = settle_s
        self._scanner = Scanner(wish.name, wish.path, settle_s=settle_s, prefer=wish.prefer)
        self._held: AspiredFile | None = None
        self._keepsakes = keepsakes
        # One for each place: another directory under the same name is another model's.
        self._key = f"aspired {wish.name} {wish.path.absolute()}"
        self._kept: bytes | None = None
        self._recalled = keepsakes is None
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
        found = await asyncio.to_thread(self._scanner.look)
        if not found.missing:
            await asyncio.to_thread(self._recall_or_keep, found)
        self._unsettled = found.unsettled
        aspired = self._aspired(found)
        if aspired == self._last:
            return None
        if aspired.problem and (self._last is None or aspired.problem != self._last.problem):
            log.warning("%s: %s", self._wish.name, aspired.problem)
        self._last = aspired
        return aspired

    def _recall_or_keep(self, found: Found) -> None:
        """The last valid aspired.json: from before the restart at the first looks, for the next one at every change."""
        if self._keepsakes is None:
            return
        if not self._recalled:
            self._kept = self._keepsakes.recall(self._key)
            kept = _valid(self._kept)
            # Of what it names something must be there, or the directory has become another's: to be judged when
            # everything in it has settled.
            there = kept is not None and bool({*kept.versions, kept.fallback} & set(found.artifacts))
            self._held = kept if there or found.unsettled else None
            self._recalled = there or not found.unsettled
        if found.aspired is not None and found.aspired != self._kept and _valid(found.aspired) is not None:
            self._keepsakes.keep(self._key, found.aspired)
            self._kept = found.aspired

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
        if found.unreadable:
            return self._held, f"aspired.json: {found.unreadable}" + ("; the last good one holds" if self._held else "")
        if found.aspired is None:
            return self._held, "aspired.json is gone; the last one holds" if self._held else ""
        try:
            self._held = parse_aspired(found.aspired)
        except ValueError as error:
            return self._held, f"aspired.json: {error}" + ("; the last good one holds" if self._held else "")
        absent = [version for version in self._held.versions if version not in found.artifacts]
        return self._held, f"aspired.json: version {absent[0]} is not there" if absent else ""

    def _by_policy(self, found: Found, problem: str) -> Aspired:
        wish = self._wish
        versions = wish.policy.choose(found.artifacts)
        older = sorted((each for each in found.artifacts if versions and each < min(versions)), reverse=True)
        return Aspired(
            name=wish.name,
            versions=versions,
            available=found.artifacts,
            fallback=older[0] if older else None,
            further=tuple(older[1 : 1 + MAX_FURTHER]),
            labels=wish.labels,
            swap=wish.swap,
            problem=problem,
            pending=found.unsettled,
            options=wish.options,
        )


def _valid(data: bytes | None) -> AspiredFile | None:
    try:
        return None if data is None else parse_aspired(data)
    except ValueError:
        return None
