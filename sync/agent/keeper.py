"""Whether what is installed is still what was verified: disks rot, and a version may serve for years.

Rule: looked at once after each start and every `every_s`, while nothing else is to be done; what cannot be mended now is
said, and changes nothing.
"""

from __future__ import annotations

import logging
import math
from typing import Protocol

from sync.domain.errors import SyncError
from sync.domain.journal import Installed, ModelState
from sync.domain.ports import Clock
from sync.domain.update import UNKNOWN

log = logging.getLogger(__name__)


class Shelf(Protocol):
    """Holds releases' files."""

    async def keep(self, model: str, release: Installed) -> None:
        """What has rotted of a release that is here is brought again. Raises StoreError, HashMismatch, DiskFull, DiskError."""
        ...


class Keeper:
    """every_s: seconds between two looks at one model."""

    def __init__(self, shelf: Shelf, clock: Clock, every_s: float) -> None:
        self._shelf, self._clock, self._every_s = shelf, clock, every_s
        self._looked: dict[str, float] = {}

    async def look(self, model: str, state: ModelState) -> bool:
        """False where something is wrong that could not be mended now."""
        now = self._clock.monotonic()
        if now - self._looked.get(model, -math.inf) < self._every_s:
            return True
        for release in (state.active, state.previous):
            if release is None or release.release == UNKNOWN:  # whose digests were made of what lay there
                continue
            try:
                await self._shelf.keep(model, release)
            except SyncError as error:
                what = f"{model}@{release.version}"
                log.error("%s: %s: what is installed cannot be made whole: %s", what, error.reason.value, error.message)
                return False
        self._looked[model] = now
        return True
