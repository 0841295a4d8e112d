"""A release's files on the device: blobs by digest, and version directories made of links to them.

Rule 1: a blob is below `blobs/` only when it is whole, verified and durable; disks rot, and it is verified again before
it is used. Rule 2: a version directory appears whole, by rename, and its files are the blobs themselves. Rule 3: what no journal
names is garbage, and `collect` removes it. Rule 4: room is made sure of before the first byte is fetched: for the files, and
for a patch beside what it makes; where there is too little for that, the whole file is fetched.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from sync.agent.blobs import digest_of_file
from sync.agent.places import Places, Reserve
from sync.domain.deltas import Patch
from sync.domain.digests import Digest, hex_of
from sync.domain.durable import disk_fault
from sync.domain.errors import DeltaError, DiskError, DiskFull, HashMismatch, StoreError
from sync.domain.journal import FileRef, Installed
from sync.domain.ports import Files

log = logging.getLogger(__name__)


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

    def __init__(
        self, files: Files, places: Places, fetch: Fetch, patches: Patches, reserve: Reserve | None = None
    ) -> None:
        self._files, self._places, self._fetch, self._patches = files, places, fetch, patches
        self._reserve = reserve or Reserve()
        self._applying: set[Digest] = set()
        self._naming = threading.Lock()  # what is being put together is no garbage

    async def bring(
        self, model: str, release: Installed, bases: Sequence[Installed], *, min_rate_Bps: int, urgent: bool = False
    ) -> None:
        """Raises StoreError, HashMismatch, Deferred, DiskFull, DiskError."""
        missing = await asyncio.to_thread(self._missing, release.files)
        if missing:
            await asyncio.to_thread(self._need_room, missing, {})
            have = {file.digest for base in bases for file in base.files}
            offered = await self._patches.of(model, release.version) if have else ()
            patches = _smallest(offered, release.variant, missing, have)
            try:
                await asyncio.to_thread(self._need_room, missing, patches)
            except DiskFull:
                patches = {}
            for file in missing:
                await self._get(file, release, patches.get(file.digest), min_rate_Bps, urgent)
        await asyncio.to_thread(self.assemble, model, release)

    async def keep(self, model: str, release: Installed) -> None:
        """What rotted of a release that was brought before is brought again. Raises as `bring`."""
        await self.bring(model, release, (), min_rate_Bps=0)

    async def _get(
        self, file: FileRef, release: Installed, patch: Patch | None, min_rate_Bps: int, urgent: bool
    ) -> None:
        """By the patch, or else, and on any doubt, whole."""
        if patch is not None:
            base = self._places.blob(patch.source)
            self._applying.add(patch.digest)
            try:
                await self._fetch.patched(patch, base, file, min_rate_Bps=min_rate_Bps, urgent=urgent)
            except (DeltaError, HashMismatch, StoreError, DiskError) as error:
                log.warning("%s: the patch does not do (%s); fetching all of it", file.path, error.message)
            else:
                return
            finally:
                self._applying.discard(patch.digest)
        await self._fetch.blob(file.digest, file.size, share=release.share, min_rate_Bps=min_rate_Bps, urgent=urgent)

    def _missing(self, files: Iterable[FileRef]) -> list[FileRef]:
        """Each digest once; a blob that is no longer what it was is none. Raises DiskFull, DiskError."""
        found = {file.digest: file for file in files}
        try:
            return [file for file in found.values() if not self._is_right(file)]
        except OSError as error:
            raise disk_fault(self._places.blobs, error) from None

    def _is_right(self, file: FileRef) -> bool:
        """Raises OSError where it can neither be read nor removed."""
        blob = self._places.blob(file.digest)
        size = self._files.size(blob)
        if size is None:
            return False
        with contextlib.suppress(OSError):  # what cannot be read is as good as gone
            if size == file.size and digest_of_file(self._files, blob) == file.digest:
                return True
        log.error("%s: what lies on the disk is no longer what was verified; it is fetched again", file.path)
        self._files.remove(blob)
        return False

    def _need_room(self, missing: Sequence[FileRef], patches: Mapping[Digest, Patch]) -> None:
        """For all files, those in `patches` made by one, each patch being gone before the next. Raises DiskFull, DiskError."""
        whole = [file for file in missing if file.digest not in patches]
        need = sum(file.size for file in missing)
        try:
            for directory in (self._places.blobs, self._places.tmp):
                self._files.make(directory)
            free, total = self._files.free(self._places.blobs), self._files.total(self._places.blobs)
            need -= sum(self._begun(file.digest, file.size) for file in whole)
            need += max((each.size - self._begun(each.digest, each.size) for each in patches.values()), default=0)
        except OSError as error:
            raise disk_fault(self._places.state_dir, error, need) from None
        need += self._reserve.of(total)
        if free < need:
            raise DiskFull(need, free)

    def _begun(self, digest: Digest, size: int) -> int:
        """Bytes that are here of a blob. Raises OSError."""
        return min(self._files.size(self._places.tmp / f"{hex_of(digest)}.part") or 0, size)

    def assemble(self, model: str, release: Installed) -> None:
        """The version's directory, of links to its blobs; nothing happens where it is. Blocks. Raises DiskFull, DiskError."""
        files, target = self._files, self._places.version(model, release.version)
        fresh = self._places.models_dir / model / f".{release.version}.new"
        try:
            with self._naming:
                if not self.is_whole(model, release):
                    self._link(fresh, release.files)
                    files.remove(target)
                    files.rename(fresh, target)
                    files.sync_directory(target.parent)
                elif other := [file for file in release.files if not self._is_blob(target, file)]:
                    self._link(fresh, other)
                    for file in other:  # one after the other: somebody may be serving it
                        files.rename(fresh / file.path, target / file.path)
                        files.sync_directory((target / file.path).parent)
                    files.remove(fresh)
        except OSError as error:
            raise disk_fault(f"{target}: cannot be made", error) from None

    def _link(self, directory: Path, wanted: Sequence[FileRef]) -> None:
        """A new directory of links. Raises OSError."""
        self._files.remove(directory)
        for file in wanted:
            path = directory / file.path
            self._files.make(path.parent)
            self._files.link(self._places.blob(file.digest), path)
        for each in {(directory / file.path).parent for file in wanted} | {directory}:
            self._files.sync_directory(each)

    def _is_blob(self, directory: Path, file: FileRef) -> bool:
        return self._files.same(directory / file.path, self._places.blob(file.digest))

    def is_whole(self, model: str, release: Installed) -> bool:
        """Whether every file is there in its length. Raises OSError."""
        target = self._places.version(model, release.version)
        return all(self._files.size(target / file.path) == file.size for file in release.files)

    def collect(self, kept: Callable[[], Mapping[str, Sequence[Installed]]]) -> None:
        """Remove what none of the releases of any model names. Blocks. Raises DiskError.

        kept: asked after it was seen what there is, so that what another model has begun meanwhile is spared.
        """
        files, places = self._files, self._places
        try:
            blobs, parts = files.names(places.blobs), files.names(places.tmp)
            applying = {hex_of(digest) for digest in tuple(self._applying)}
            named = {hex_of(file.digest) for each in kept().values() for one in each for file in one.files} | applying
            for name in blobs:
                if name not in named:
                    files.remove(places.blobs / name)
            for name in parts:
                of = name.split(".", 1)[0]
                done = of not in applying and files.size(places.blobs / of) is not None
                if of not in named or done:
                    files.remove(places.tmp / name)
            with self._naming:
                for model, each in kept().items():
                    self._collect_versions(places.models_dir / model, {str(one.version) for one in each})
        except OSError as error:
            raise DiskError(f"{places.state_dir}: cannot be cleaned up: {error.strerror}") from None

    def _collect_versions(self, directory: Path, versions: set[str]) -> None:
        """A version goes as it came, by a rename: nobody sees half of one."""
        for name in self._files.names(directory):
            if name.startswith(".") and name.endswith((".new", ".gone")):
                self._files.remove(directory / name)
        for name in self._files.names(directory):
            if name.isdigit() and name not in versions:
                gone = directory / f".{name}.gone"
                self._files.rename(directory / name, gone)
                self._files.remove(gone)


def _smallest(
    patches: Sequence[Patch], variant: str, missing: Sequence[FileRef], have: Collection[Digest]
) -> dict[Digest, Patch]:
    """By the digest of what it makes: the smallest that can be applied here, where it is smaller than the whole."""
    found: dict[Digest, Patch] = {}
    for file in missing:
        fitting = [
            patch
            for patch in patches
            if (patch.variant, patch.path, patch.target) == (variant, file.path, file.digest)
            and patch.source in have
            and patch.size < file.size
        ]
        if fitting:
            found[file.digest] = min(fitting, key=lambda patch: patch.size)
    return found
