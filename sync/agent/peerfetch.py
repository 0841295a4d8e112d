"""Blobs from neighbours, where any of them does.

Rule 1: all of a blob comes from one neighbour, and what it leaves unfinished is dropped: whose bytes were wrong is always known,
and no neighbour can spoil what came from the store. Rule 2: what the store has begun, the store ends. Rule 3: nothing that a
neighbour does is an error: the store is asked next.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from sync.agent.download import Downloader
from sync.agent.places import Places
from sync.domain.digests import Digest, hex_of
from sync.domain.errors import DiskError, HashMismatch, Missing, StoreError, Unreachable
from sync.domain.ports import Files, ReadStore

log = logging.getLogger(__name__)

MIN_RATE_BPS = 100_000
"""Bytes per second, under which a neighbour is left."""
MAX_FAULTS = 3
"""Neighbours that may waste this device's time over one blob."""


class Neighbourhood(Protocol):
    """Who may be asked for a blob, and is told how that went."""

    def having(self, digest: Digest) -> Sequence[ReadStore]: ...
    def ban(self, store: ReadStore, why: str) -> None: ...
    def failed(self, store: ReadStore, digest: Digest, *, gone: bool) -> None: ...


class PeerFetch:
    """downloader: one of its own, whose limits are the neighbours', and whose parts are no other's."""

    def __init__(self, files: Files, places: Places, downloader: Downloader, neighbours: Neighbourhood) -> None:
        self._files, self._places = files, places
        self._downloader, self._neighbours = downloader, neighbours

    async def blob(self, digest: Digest, size: int, *, urgent: bool = False) -> bool:
        """Whether it is whole, verified and durable in its place. Raises Deferred, DiskFull, DiskError."""
        if await asyncio.to_thread(self._is_begun, self._places.tmp / f"{hex_of(digest)}.part"):
            return False
        faults = 0
        for store in self._neighbours.having(digest):
            try:
                await self._downloader.alone(store, digest, size, min_rate_Bps=MIN_RATE_BPS, urgent=urgent)
            except HashMismatch as error:
                self._neighbours.ban(store, error.message)
                faults += 1
            except StoreError as error:
                log.info("%s", error.message)
                self._neighbours.failed(store, digest, gone=isinstance(error, Unreachable))
                faults += not isinstance(error, Missing)
            else:
                return True
            if faults >= MAX_FAULTS:
                break
        return False

    def _is_begun(self, part: Path) -> bool:
        try:
            return bool(self._files.size(part))
        except OSError as error:
            raise DiskError(f"{part}: {error.strerror}") from None
