"""A store copied into another, which clients may read all the while.

Rule 1: the source's metadata is verified before anything is copied, everything else while it is: what is wrong is a fault,
and with a fault the mirror stays at what it was. Rule 2: files first, then what names them, the timestamp last and by
compare-and-swap. Rule 3: what is there already is not copied again, and a file that was cut short is gone on with.
Rule 4: what is named by its digest and is not that is replaced; nothing else that is in force ever is.
"""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from sync.domain.digests import hex_of
from sync.domain.errors import Conflict, DiskError, HashMismatch, Missing, Refused, SyncError
from sync.domain.layout import TIMESTAMP, blob_path
from sync.domain.ports import ReadStore, WriteStore
from sync.fleet.claim import claimed
from sync.fleet.contents import Blob, Contents, read_contents
from sync.fleet.faults import Faults
from sync.fleet.parallel import each
from sync.fleet.progress import Progress, Quiet
from sync.fleet.sign.destination import Held, bridge, held_by, in_force
from sync.fleet.sign.survey import SignedFile, Survey, expired, survey
from sync.fleet.transfer import transfer

IN_MEMORY_BYTES = 1 << 20
"""A file up to this is not put aside on the way."""
BLOBS = "blobs/sha256/"


@dataclass(slots=True)
class Mirrored:
    """What was copied, and what was there. `current`: nobody had changed anything. `smooth`: no client saw a state that it
    could not verify."""

    faults: Faults = field(default_factory=Faults)
    version: int = 0
    metadata: int = 0
    documents: int = 0
    blobs: int = 0
    size: int = 0
    blobs_there: int = 0
    current: bool = False
    smooth: bool = True

    @property
    def ok(self) -> bool:
        return not self.faults


async def mirror(
    source: ReadStore,
    target: WriteStore,
    *,
    now: Callable[[], datetime],
    spool: Path,
    root: bytes | None = None,
    check: bool = False,
    progress: Progress | None = None,
) -> Mirrored:
    """spool: a directory for what is on its way. root: what devices are provisioned with, None to believe the source.

    check: read and hash also what the target has already. Raises Missing where the source has no repository, Conflict,
    TrustError (TRUST_ROLLBACK), StoreError, DiskError; what is wrong with the source is in the answer's faults.
    """
    there = await survey(source, first_root=None, now=now())
    done = Mirrored(faults=there.faults)
    if root is not None and root not in [each_root.data for each_root in there.roots]:
        raise Conflict(f"{source.name}: is not the store of that root")
    if not done.ok:
        return done
    held = await held_by(target, there)
    with claimed(spool, "mirror", mode=0o700, do="`--work` names another place"):
        copy = _Copy(source, target, there, held, done, spool, progress or Quiet())
        contents = await copy.documents()
        await copy.blobs(contents, check=check)
        if done.ok:
            await copy.metadata(now)
    return done


class _Copy:
    def __init__(
        self,
        source: ReadStore,
        target: WriteStore,
        there: Survey,
        held: Held,
        done: Mirrored,
        spool: Path,
        progress: Progress,
    ) -> None:
        self._source, self._target, self._there, self._held = source, target, there, held
        self._done, self._spool, self._progress = done, spool, progress

    async def documents(self) -> Contents:
        """They are copied as they are read: what nothing names yet harms nobody."""

        async def keep(path: str, data: bytes) -> None:
            fresh = await self._place(path, data)
            self._done.documents += fresh

        return await read_contents(self._source, self._there.documents, self._done.faults, self._progress, keep=keep)

    async def blobs(self, contents: Contents, *, check: bool) -> None:
        blobs = contents.blobs.values()
        there = {path: size async for path, size, _ in self._target.walk(BLOBS)}
        self._progress.begin("files", sum(blob.size for blob in blobs), in_bytes=True)

        async def copy(blob: Blob) -> None:
            size = there.get(blob_path(blob.digest))
            if size == blob.size and (not check or await self._is_right(blob)):
                self._done.blobs_there += 1
                self._progress.step(blob.size)
            else:
                await self._copy_blob(blob, replace=size is not None)

        await each(blobs, copy)
        self._progress.end()

    async def metadata(self, now: Callable[[], datetime]) -> None:
        there, held, done = self._there, self._held, self._done
        assert there.timestamp is not None
        assert there.snapshot is not None
        before, done.smooth = bridge(there, held)
        files = [*reversed(there.roles), there.snapshot, *there.roots[:before]]
        self._progress.begin("metadata", len(files))
        for file in files:
            await self._place_metadata(file)
            self._progress.step()
        for file in there.files:
            if file.expires <= now():
                raise expired(file)
        if not held.current:
            await self._target.swap(TIMESTAMP, there.timestamp.data, was=held.tag)
            done.metadata += 1
        for file in there.roots[before:]:
            await self._place_metadata(file)
        self._progress.end()
        done.version, done.current = there.timestamp.version, held.current

    async def _place_metadata(self, file: SignedFile) -> None:
        kept = file.verifies if in_force(file, self._held) else lambda data: False
        fresh = await self._place(file.path, file.data, kept=kept)
        self._done.metadata += fresh

    async def _place(self, path: str, data: bytes, *, kept: Callable[[bytes], bool] = lambda data: False) -> bool:
        """Whether it was written. kept: says of other bytes in its place whether they are to stay. Raises Conflict."""
        if await self._target.create(path, data):
            return True
        try:
            there = await self._target.get(path, max_bytes=len(data))
        except Refused:
            there = b""
        if there == data:
            return False
        if kept(there):
            raise Conflict(f"{self._target.name}: has another {path}: somebody else signs there")
        await self._target.delete(path)
        return await self._target.create(path, data)

    async def _is_right(self, blob: Blob) -> bool:
        try:
            await transfer(self._target, blob, Quiet())
        except (HashMismatch, Missing):
            return False
        return True

    async def _copy_blob(self, blob: Blob, *, replace: bool) -> None:
        part = self._spool / f"{hex_of(blob.digest)}.part"
        small = blob.size <= IN_MEMORY_BYTES
        into = io.BytesIO() if small else await asyncio.to_thread(_opened, part)
        try:
            await transfer(self._source, blob, self._progress, into)
            data = into.getvalue() if isinstance(into, io.BytesIO) else part
        except DiskError:
            raise
        except SyncError as error:
            self._done.faults.add(f"{blob.what} ({blob_path(blob.digest)})", error)
            return
        finally:
            await asyncio.to_thread(into.close)
        self._done.faults.heard()
        if replace:
            await self._target.delete(blob_path(blob.digest))
        await self._target.create(blob_path(blob.digest), data)
        if not small:
            await asyncio.to_thread(part.unlink, missing_ok=True)
        self._done.blobs += 1
        self._done.size += blob.size


def _opened(part: Path) -> io.BufferedRandom:
    """Raises DiskError."""
    try:
        return os.fdopen(os.open(part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600), "r+b")
    except OSError as error:
        raise DiskError(f"{part}: {error.strerror}") from None
