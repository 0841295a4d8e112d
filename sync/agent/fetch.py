"""Blobs from wherever they may be had: neighbours, stores, or a patch of what is here. `sync.agent.staging.Fetch`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from sync.agent.blobs import install_blob
from sync.agent.download import Downloader
from sync.agent.peerfetch import PeerFetch
from sync.agent.places import Places
from sync.delta.decode import apply_patch
from sync.domain.deltas import Patch
from sync.domain.digests import Digest, hex_of
from sync.domain.durable import disk_fault
from sync.domain.errors import DeltaError
from sync.domain.journal import FileRef
from sync.domain.ports import Files, ReadStore

Sources = Callable[[Digest, bool], Sequence[ReadStore]]
"""A digest, and whether its manifest lets it be shared → which stores to ask, in that order."""


class BlobFetch:
    """`bytes_full`, `bytes_delta`, `bytes_peer`: what was fetched, for the report. peers: None where no neighbour is asked."""

    def __init__(
        self, files: Files, places: Places, downloader: Downloader, sources: Sources, peers: PeerFetch | None = None
    ) -> None:
        self._files, self._places = files, places
        self._downloader, self._sources, self._peers = downloader, sources, peers
        self.bytes_full = self.bytes_delta = self.bytes_peer = 0

    async def blob(self, digest: Digest, size: int, *, share: bool, min_rate_Bps: int, urgent: bool = False) -> None:
        """Raises StoreError, HashMismatch, Deferred, DiskFull, DiskError."""
        if share and self._peers is not None and await self._peers.blob(digest, size, urgent=urgent):
            self.bytes_peer += size
            return
        used = await self._downloader.blob(
            digest, size, self._sources(digest, share), min_rate_Bps=min_rate_Bps, urgent=urgent
        )
        self.bytes_full += size if used is not None else 0

    async def patched(
        self, patch: Patch, base: Path, file: FileRef, *, min_rate_Bps: int, urgent: bool = False
    ) -> None:
        """Raises DeltaError besides."""
        sources = self._sources(patch.digest, False)
        await self._downloader.blob(patch.digest, patch.size, sources, min_rate_Bps=min_rate_Bps, urgent=urgent)
        self.bytes_delta += patch.size
        await asyncio.to_thread(self._apply, patch, base, file)

    def _apply(self, patch: Patch, base: Path, file: FileRef) -> None:
        files, packed = self._files, self._places.blob(patch.digest)
        part = self._places.tmp / f"{hex_of(file.digest)}.patched"
        at = 0

        def write(data: bytes) -> None:
            nonlocal at
            files.write_at(part, at, data)
            at += len(data)

        try:
            files.remove(part)
            base_size = files.size(base)
            if base_size is None:
                raise DeltaError(f"{base.name[:12]}: the base is not here")
            apply_patch(
                lambda offset, count: files.read_at(packed, offset, count),
                patch.size,
                lambda offset, count: files.read_at(base, offset, count),
                base_size,
                write,
                digest=file.digest,
                size=file.size,
            )
            install_blob(files, part, self._places.blob(file.digest), file.digest, file.size)
        except OSError as error:
            raise disk_fault(part, error, file.size) from None
        finally:
            self._tidy(part, packed)

    def _tidy(self, *paths: Path) -> None:
        for path in paths:
            try:
                self._files.remove(path)
            except OSError:
                continue  # garbage, which the next collection takes
