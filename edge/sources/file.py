"""One model file as a source: version 1, and the next version each time that the file has become another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from edge.domain.models import Artifact, Aspired, ModelId, ModelOptions, Platform, Swap
from edge.sources.stillness import SETTLE_S, Stillness
from edge.sources.watch import Changes


class FileSource:
    """A file that vanishes changes nothing."""

    def __init__(
        self,
        name: str,
        path: Path,
        changes: Changes,
        *,
        swap: Swap = Swap.BESIDE,
        options: ModelOptions | None = None,
        settle_s: float = SETTLE_S,
    ) -> None:
        self._name, self._path, self._changes, self._swap = name, path, changes, swap
        self._options = options or ModelOptions()
        self._settle_s = settle_s
        self._stillness = Stillness(settle_s)
        self._served = ""
        self._version = 0

    async def watch(self) -> AsyncIterator[Sequence[Aspired]]:
        while True:
            changed = self._changes.subscribe()
            fingerprint, newest = await asyncio.to_thread(self._stat)
            if not fingerprint and not self._version:
                yield [Aspired(self._name, (), problem=f"{self._path}: no such file", options=self._options)]
            elif fingerprint and fingerprint != self._served and self._stillness.holds(self._path, fingerprint, newest):
                self._served = fingerprint
                self._version += 1
                yield [self._aspired(fingerprint)]
            await self._changes.wait(changed, self._settle_s / 2 if fingerprint != self._served else None)

    def _aspired(self, fingerprint: str) -> Aspired:
        version = self._version
        artifact = Artifact(ModelId(self._name, version), Platform.TFLITE, self._path, fingerprint)
        return Aspired(self._name, (version,), available={version: artifact}, swap=self._swap, options=self._options)

    def _stat(self) -> tuple[str, float]:
        try:
            stat = self._path.stat()
        except OSError:
            return "", 0.0
        return f"{stat.st_ino}-{stat.st_size}-{stat.st_mtime_ns}", max(stat.st_mtime, stat.st_ctime)
