"""One blob, from wherever it may be had, into its place: resumed, paced, verified.

Rule 1: what is in the part file counts only when the digest of the whole is right; a part that turns out wrong is begun anew
once, and is no failure. Rule 2: a source that is slow, lies or breaks off too often is left for the next one.
Rule 3: a part survives a crash by luck alone; it is synced when it is whole. Rule 4: outside of the hours for downloads no
byte is fetched but for what is urgent; what is here waits for the hour to come. Rule 5: a source is not blamed for our own pace.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec

from sync.agent.blobs import install_blob
from sync.agent.pace import Hours, RateFloor, RateLimit
from sync.agent.places import Places
from sync.domain.digests import Digest, hex_of
from sync.domain.durable import disk_fault
from sync.domain.errors import (
    HashMismatch,
    Missing,
    Refused,
    StoreError,
    SyncError,
    TooSlow,
    Unreachable,
)
from sync.domain.layout import blob_path
from sync.domain.ports import Clock, Files, Part, ReadStore

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DownloadLimits:
    """source_s: seconds for all that is asked of one source for a blob. stall_s: for its next bytes, whatever it promised.
    max_breaks: in a row without a byte between them. max_requests: of one source for a blob, however much each brings.

    break_pause_s: the first pause after a break, doubled up to max_pause_s; up to half of each is added by chance. limit_Bps:
    bytes per second, 0 for no limit.
    """

    source_s: float = 6 * 3600.0
    stall_s: float = 120.0
    max_breaks: int = 5
    max_requests: int = 10_000
    break_pause_s: float = 1.0
    max_pause_s: float = 60.0
    limit_Bps: float = 0.0


class _Note(msgspec.Struct, frozen=True):
    """Beside a part: whose bytes these are."""

    source: str = ""
    etag: str = ""


class _Wanted(NamedTuple):
    digest: Digest
    size: int
    min_rate_Bps: int
    urgent: bool


class Downloader:
    """Methods raise StoreError, HashMismatch, Deferred, DiskFull, DiskError. hours: when bytes may be fetched.

    suffix: of its part files, which no other downloader may share.
    """

    def __init__(
        self,
        files: Files,
        places: Places,
        clock: Clock,
        limits: DownloadLimits | None = None,
        *,
        hours: Hours | None = None,
        suffix: str = "part",
        chance: random.Random | None = None,
    ) -> None:
        self._files, self._places, self._clock, self._suffix = files, places, clock, suffix
        self._limits, self._hours = limits or DownloadLimits(), hours or Hours()
        self._chance = chance or random.Random()
        self._pace = RateLimit(self._limits.limit_Bps, clock.monotonic())

    async def blob(
        self, digest: Digest, size: int, sources: Sequence[ReadStore], *, min_rate_Bps: int, urgent: bool = False
    ) -> ReadStore | None:
        """The source that the last bytes came from; None where all of them were here."""
        wanted = _Wanted(digest, size, min_rate_Bps, urgent)
        problem: StoreError | HashMismatch = Missing(f"{digest}: there is nobody to ask")
        for source in sources:
            for _ in range(2):  # once more from zero: what is in the part may be another's, or a crash's
                try:
                    return await self._from(source, wanted)
                except HashMismatch as error:
                    log.warning("%s: %s", source.name, error.message)
                    problem = error
                    await self._drop(digest)
                except StoreError as error:
                    log.warning("%s: %s", source.name, error.message)
                    problem = problem if isinstance(problem, HashMismatch) else error
                    break
        raise problem

    async def alone(
        self, source: ReadStore, digest: Digest, size: int, *, min_rate_Bps: int, urgent: bool = False
    ) -> None:
        """All of a blob from one source, from its first byte on; where that fails nothing is left of it."""
        await self._drop(digest)
        try:
            await self._from(source, _Wanted(digest, size, min_rate_Bps, urgent))
        except SyncError:
            await self._drop(digest)
            raise

    async def _from(self, source: ReadStore, wanted: _Wanted) -> ReadStore | None:
        digest, size = wanted.digest, wanted.size
        part = self._part(digest)
        floor = RateFloor(wanted.min_rate_Bps, deadline_s=self._limits.source_s, now=self._clock.monotonic())
        used: ReadStore | None = None
        breaks = requests = 0
        while (have := await self._have(part, size)) < size:
            used = source
            if (requests := requests + 1) > self._limits.max_requests:
                raise TooSlow(f"{source.name}: want it within {self._limits.max_requests} requests")
            try:
                await self._append(source, wanted, part, have, floor)
            except (Unreachable, Refused) as error:
                grown = (await self._have(part, size)) > have
                breaks = 0 if grown else breaks + 1
                if breaks > self._limits.max_breaks:
                    raise
                pause_s = max(error.retry_after_s, self._limits.break_pause_s * 2**breaks * (not grown))
                if late := floor.came(0, self._clock.monotonic()):
                    raise TooSlow(f"{source.name}: {late}") from None
                # An origin that restarts breaks off everybody's downloads at one moment.
                await self._clock.sleep(min(pause_s, self._limits.max_pause_s) * (1 + self._chance.random() / 2))
        await asyncio.to_thread(install_blob, self._files, part, self._places.blob(digest), digest, size)
        await asyncio.to_thread(self._remove, self._note(digest))
        return used

    async def _append(self, source: ReadStore, wanted: _Wanted, part: Path, have: int, floor: RateFloor) -> None:
        """One request: from where the part ends, or from zero where the source has another object. To its end, or an error."""
        self._hours.check(wanted.urgent)
        digest, size = wanted.digest, wanted.size
        note = await asyncio.to_thread(self._read_note, digest)
        etag = note.etag if note.source == source.name else ""
        # What is here may be another source's: a name that is a digest says that the bytes are the same, and the digest
        # of the whole decides.
        with self._timely(source):
            async with asyncio.timeout(self._limits.stall_s):
                answer = await source.get_part(blob_path(digest), start=have, etag=etag)
        try:
            if answer.total is not None and answer.total != size:
                raise Refused(f"{source.name}: {digest}: want {size} bytes, the source has {answer.total}")
            if answer.start != have:
                await asyncio.to_thread(self._cut, part, answer.start)
            await asyncio.to_thread(self._write_note, digest, _Note(source.name, answer.etag))
            await self._copy(source, answer, part, wanted, floor)
        finally:
            await answer.close()

    async def _copy(self, source: ReadStore, answer: Part, part: Path, wanted: _Wanted, floor: RateFloor) -> None:
        at, size = answer.start, wanted.size
        async for chunk in self._chunks(source, answer):
            if at + len(chunk) > size:
                raise HashMismatch(f"{part.name}: want {size} bytes, got more")
            await asyncio.to_thread(self._write, part, at, chunk)
            at += len(chunk)
            now = self._clock.monotonic()
            if late := floor.came(len(chunk), now):
                raise TooSlow(f"{source.name}: {late}")
            if wait_s := self._pace.wait_s(len(chunk), now):
                await self._clock.sleep(wait_s)
                floor.paused(wait_s)
            if at < size:
                self._hours.check(wanted.urgent)
        if at < size:
            raise Unreachable(f"{source.name}: broke off at byte {at} of {size}")

    async def _chunks(self, source: ReadStore, answer: Part) -> AsyncIterator[bytes]:
        while True:
            try:
                with self._timely(source):
                    async with asyncio.timeout(self._limits.stall_s):
                        chunk = await anext(answer.chunks)
            except StopAsyncIteration:
                return
            yield chunk

    @contextmanager
    def _timely(self, source: ReadStore) -> Iterator[None]:
        try:
            yield
        except TimeoutError:
            raise TooSlow(f"{source.name}: nothing came for {self._limits.stall_s:g} s") from None

    # -- the disk

    def _part(self, digest: Digest) -> Path:
        return self._places.tmp / f"{hex_of(digest)}.{self._suffix}"

    def _note(self, digest: Digest) -> Path:
        return self._places.tmp / f"{hex_of(digest)}.{self._suffix}.json"

    async def _have(self, part: Path, size: int) -> int:
        """Bytes of the part; one that is too long is none."""
        have = await asyncio.to_thread(self._size, part)
        if have > size:
            await asyncio.to_thread(self._remove, part)
            return 0
        return have

    def _size(self, path: Path) -> int:
        try:
            self._files.make(path.parent)
            self._files.make(self._places.blobs)
            return self._files.size(path) or 0
        except OSError as error:
            raise disk_fault(path, error) from None

    def _write(self, part: Path, at: int, data: bytes) -> None:
        try:
            self._files.write_at(part, at, data)
        except OSError as error:
            raise disk_fault(part, error, len(data)) from None

    def _cut(self, part: Path, size: int) -> None:
        try:
            if size == 0:
                self._files.remove(part)
            else:
                self._files.truncate(part, size)
        except OSError as error:
            raise disk_fault(part, error) from None

    def _read_note(self, digest: Digest) -> _Note:
        try:
            return msgspec.json.decode(self._files.read(self._note(digest)), type=_Note)
        except (OSError, ValueError, RecursionError):
            return _Note()

    def _write_note(self, digest: Digest, note: _Note) -> None:
        path, data = self._note(digest), msgspec.json.encode(note)
        try:
            self._files.remove(path)
            self._files.write_at(path, 0, data)
        except OSError as error:
            raise disk_fault(path, error, len(data)) from None

    async def _drop(self, digest: Digest) -> None:
        for path in (self._part(digest), self._note(digest)):
            await asyncio.to_thread(self._remove, path)

    def _remove(self, path: Path) -> None:
        try:
            self._files.remove(path)
        except OSError as error:
            raise disk_fault(path, error) from None
