"""A directory of models as a source: every `<name>/<version>/` below it, models that come later included."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from edge.domain.layout import is_model_name
from edge.domain.models import Aspired
from edge.sources.directory import DirectorySource
from edge.sources.watch import Changes

log = logging.getLogger(__name__)

MAX_MODELS = 1_000


class RepositorySource:
    """`source_for(name, path)` makes the source of one model. At most `max_models` are served."""

    def __init__(
        self,
        path: Path,
        changes: Changes,
        source_for: Callable[[str, Path], DirectorySource],
        *,
        skip: frozenset[str] = frozenset(),
        max_models: int = MAX_MODELS,
    ) -> None:
        """`skip`: models that somebody else speaks for."""
        self._skip = skip
        self._path, self._changes, self._source_for, self._max = path, changes, source_for, max_models
        self._sources: dict[str, DirectorySource] = {}
        self._complained = ""

    async def watch(self) -> AsyncIterator[Sequence[Aspired]]:
        first = True
        while True:
            changed = self._changes.subscribe()
            for name in await asyncio.to_thread(self._names):
                if name not in self._sources and len(self._sources) < self._max:
                    self._sources[name] = self._source_for(name, self._path / name)
            wishes = [aspired for source in self._sources.values() if (aspired := await source.look()) is not None]
            if wishes or first:
                yield wishes
            first = False
            again = [source.again_s for source in self._sources.values() if source.again_s is not None]
            await self._changes.wait(changed, min(again, default=None))

    def _names(self) -> list[str]:
        try:
            names = sorted(entry.name for entry in self._path.iterdir() if entry.is_dir())
        except OSError as error:
            self._complain(f"{self._path}: {error.strerror}; what was found before is served on")
            return []
        bad = [name for name in names if not is_model_name(name) and not name.startswith(".")]
        if bad:
            self._complain(f"{self._path}: {bad[0]!r} is no model name (letters, digits, _ . -); it is not served")
        return [name for name in names if is_model_name(name) and name not in self._skip]

    def _complain(self, what: str) -> None:
        if what != self._complained:
            self._complained = what
            log.warning("%s", what)
