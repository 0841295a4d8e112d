"""A release's files on the device: blobs by digest, and version directories made of links to them.

Rule 1: a blob is below `blobs/` only when it is whole, verified and durable. Rule 2: a version directory appears whole, by
rename, and its files are the blobs themselves. Rule 3: what no journal names is garbage, and `collect` removes it.
Rule 4: room is made sure of before the first byte is fetched.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sync.domain.deltas import Patch
from sync.domain.digests import Digest, hex_of
from sync.domain.errors import DeltaError, DiskError, DiskFull, HashMismatch, StoreError
from sync.domain.journal import FileRef, Installed
from sync.domain.ports import Files

log = logging.getLogger(__name__)

MIN_FREE_BYTES = 64 << 20
MIN_FREE_SHARE = 0.03


@dataclass(frozen=True, slots=True)
class Places:
    """All on one file system: links are made between them."""

    state_dir: Path
    models_dir: Path

    @property
    def blobs(self) -> Path:
        return self.state_dir / "blobs"

    @property
    def tmp(self) -> Path:
        return self.state_dir / "tmp"

    @property
    def journal(self) -> Path:
        return self.state_dir / "state.json"

    @property
    def situation(self) -> Path:
        return self.state_dir / "situation.json"

    def blob(self, digest: Digest) -> Path:
        return self.blobs / hex_of(digest)

    def version(self, model: str, version: int) -> Path:
        return self.models_dir / model / str(version)


class Fetch(Protocol):
    """Where blobs come from."""

    async def blob(self, digest: Digest, size: int, *, share: bool, min_rate_Bps: int, urgent: bool = False) -> None:
        """The blob is whole, verified and durable in its place; what is urgent waits for no hour.

        Raises StoreError, HashMismatch, Deferred, DiskFull, DiskError.
        """
        ...

    async def patched(
        self, patch: Patch, base: Path, file: FileRef, *, min_rate_Bps: int, urgent: bool = False
    ) -> None:
        """The same, made of `base` by a patch. Raises DeltaError besides."""
        ...


class Patches(Protocol):
    """Which patches there are for a release."""

    async def of(self, model: str, version: int) -> Sequence[Patch]:
        """Empty where none are offered, or nobody can be asked now."""
        ...


class Staging:
    """A `Stage`."""

    def __init__(self, files: Files, places: Places, fetch: Fetch, patches: Patches) -> None:
        self._files, self._places, self._fetch, self._patches = files, places, fetch, patches

    async def bring(
        self, model: str, release: Installed, bases: Sequence[Installed], *, min_rate_Bps: int, urgent: bool = False
    ) -> None:
        """Raises StoreError, HashMismatch, Deferred, DiskFull, DiskError."""
        missing = await asyncio.to_thread(self._missing, release.files)
        if missing:
            await asyncio.to_thread(self._need_room, missing)
            have = {file.digest: file for base in bases for file in base.files}
            patches = await self._patches.of(model, release.version) if have else ()
            for file in missing:
                await self._get(file, release, have.keys(), patches, min_rate_Bps, urgent)
        await asyncio.to_thread(self.assemble, model, release)

    async def _get(
        self,
        file: FileRef,
        release: Installed,
        have: Collection[Digest],
        patches: Sequence[Patch],
        min_rate_Bps: int,
        urgent: bool,
    ) -> None:
        """By the smallest patch that can be applied here, or else whole."""
        fitting = [
            patch
            for patch in patches
            if (patch.variant, patch.path, patch.target) == (release.variant, file.path, file.digest)
            and patch.source in have
            and patch.size < file.size
        ]
        for patch in sorted(fitting, key=lambda patch: patch.size)[:1]:
            try:
                base = self._places.blob(patch.source)
                await self._fetch.patched(patch, base, file, min_rate_Bps=min_rate_Bps, urgent=urgent)
            except (DeltaError, HashMismatch, StoreError) as error:
                log.warning("%s: the patch does not do (%s); fetching all of it", file.path, error.message)
            else:
                return
        await self._fetch.blob(file.digest, file.size, share=release.share, min_rate_Bps=min_rate_Bps, urgent=urgent)

    def _missing(self, files: Iterable[FileRef]) -> list[FileRef]:
        """Each digest once. Raises DiskError."""
        found = {file.digest: file for file in files}
        try:
            return [file for file in found.values() if self._files.size(self._places.blob(file.digest)) != file.size]
        except OSError as error:
            raise DiskError(f"{self._places.blobs}: {error.strerror}") from None

    def _need_room(self, missing: Sequence[FileRef]) -> None:
        """Raises DiskFull, DiskError."""
        try:
            for directory in (self._places.blobs, self._places.tmp):
                self._files.make(directory)
            free, total = self._files.free(self._places.blobs), self._files.total(self._places.blobs)
            begun = sum(self._files.size(self._places.tmp / f"{hex_of(file.digest)}.part") or 0 for file in missing)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise DiskFull(sum(file.size for file in missing), 0) from None
            raise DiskError(f"{self._places.state_dir}: {error.strerror}") from None
        need = sum(file.size for file in missing) - begun + max(MIN_FREE_BYTES, int(total * MIN_FREE_SHARE))
        if free < need:
            raise DiskFull(need, free)

    def assemble(self, model: str, release: Installed) -> None:
        """The version's directory, of links to its blobs; nothing happens where it is whole. Blocks. Raises DiskError."""
        files, target = self._files, self._places.version(model, release.version)
        try:
            if self.is_whole(model, release):
                return
            fresh = self._places.models_dir / model / f".{release.version}.new"
            files.remove(fresh)
            files.remove(target)
            for file in release.files:
                path = fresh / file.path
                files.make(path.parent)
                files.link(self._places.blob(file.digest), path)
            for directory in {(fresh / file.path).parent for file in release.files} | {fresh}:
                files.sync_directory(directory)
            files.rename(fresh, target)
            files.sync_directory(target.parent)
        except OSError as error:
            raise DiskError(f"{target}: cannot be made: {error.strerror}") from None

    def is_whole(self, model: str, release: Installed) -> bool:
        """Whether every file is there in its length. Raises OSError."""
        target = self._places.version(model, release.version)
        return all(self._files.size(target / file.path) == file.size for file in release.files)

    def collect(self, kept: Mapping[str, Sequence[Installed]]) -> None:
        """Remove what none of the releases of any model names. Blocks. Raises DiskError."""
        files, places = self._files, self._places
        blobs = {hex_of(file.digest) for releases in kept.values() for each in releases for file in each.files}
        try:
            for name in files.names(places.blobs):
                if name not in blobs:
                    files.remove(places.blobs / name)
            for name in files.names(places.tmp):
                if name.split(".", 1)[0] not in blobs:
                    files.remove(places.tmp / name)
            for model, releases in kept.items():
                versions = {str(each.version) for each in releases}
                for name in files.names(places.models_dir / model):
                    if (name.isdigit() and name not in versions) or (name.startswith(".") and name.endswith(".new")):
                        files.remove(places.models_dir / model / name)
        except OSError as error:
            raise DiskError(f"{places.state_dir}: cannot be cleaned up: {error.strerror}") from None
