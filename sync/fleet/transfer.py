"""One blob out of a store: streamed, hashed, in bounded memory, and gone on with where a connection broke.

Rule 1: what was taken is what was named: digest and length, or HashMismatch. Rule 2: never more is read than was named, and
never for longer than MIN_RATE_BPS allows. Rule 3: what another bit pattern was resumed from is begun again, once.
"""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import AsyncExitStack
from typing import BinaryIO

from sync.domain.digests import hex_of
from sync.domain.errors import DiskError, HashMismatch, Refused, TooSlow, Unreachable
from sync.domain.layout import blob_path
from sync.domain.ports import ReadStore
from sync.fleet.contents import Blob
from sync.fleet.progress import Progress

TRIES = 4
"""Connections for one blob that may break before it is given up."""
PAUSE_S = 0.5
"""After the first that broke; doubled after each."""
MIN_RATE_BPS = 20_000
BASE_S = 60.0
"""A blob may take so long, and its bytes at MIN_RATE_BPS beside."""
STEP_BYTES = 1 << 18


async def transfer(
    store: ReadStore, blob: Blob, progress: Progress, into: BinaryIO | None = None, *, pause_s: float = PAUSE_S
) -> None:
    """Read a blob, and write it `into` a file, the beginning of which may be there already.

    Raises Missing, Unreachable, Refused, TooSlow, HashMismatch, DiskError.
    """
    limit_s = BASE_S + blob.size / MIN_RATE_BPS
    try:
        async with asyncio.timeout(limit_s):
            await _Transfer(store, blob, progress, into, pause_s).run()
    except TimeoutError:
        raise TooSlow(f"{store.name}/{blob_path(blob.digest)}: want it within {limit_s:.0f} s") from None
    except OSError as error:
        raise DiskError(f"{blob.what}: cannot be written: {error.strerror}") from None


class _Transfer:
    def __init__(self, store: ReadStore, blob: Blob, progress: Progress, into: BinaryIO | None, pause_s: float) -> None:
        self._store, self._blob, self._progress, self._into = store, blob, progress, into
        self._pause_s = pause_s
        self._hash, self._have, self._told, self._etag = hashlib.sha256(), 0, 0, ""

    async def run(self) -> None:
        if self._into is not None:
            await asyncio.to_thread(self._take_in, self._into)
        resumed = self._have > 0
        await self._complete()
        if resumed and not self._right:
            await self._restart()
            await self._complete()
        if not self._right:
            name = blob_path(self._blob.digest)
            raise HashMismatch(
                f"{name}: want {self._blob.size} bytes of that digest, got {self._have} of sha256:{self._hash.hexdigest()}"
            )

    @property
    def _right(self) -> bool:
        return self._have == self._blob.size and self._hash.hexdigest() == hex_of(self._blob.digest)

    def _take_in(self, file: BinaryIO) -> None:
        """What an earlier attempt has left."""
        file.seek(0)
        while data := file.read(STEP_BYTES):
            self._count(data)
        if self._have > self._blob.size:
            file.seek(0)
            file.truncate()
            self._hash, self._have = hashlib.sha256(), 0

    async def _complete(self) -> None:
        """Ends with all bytes, or with more or others than were named."""
        pause_s = self._pause_s
        for left in reversed(range(TRIES)):
            if self._have >= self._blob.size > 0:
                return
            try:
                await self._read_on()
                return
            except Unreachable:
                if not left:
                    raise
            await asyncio.sleep(pause_s)
            pause_s *= 2

    async def _read_on(self) -> None:
        part = await self._store.get_part(blob_path(self._blob.digest), start=self._have, etag=self._etag)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(part.close)
            if part.start not in (0, self._have):
                raise Refused(f"{self._store.name}: want bytes from {self._have}, got those from {part.start}")
            if part.start != self._have:
                await self._restart()
            self._etag = part.etag
            if part.total is not None and part.total != self._blob.size:
                raise HashMismatch(
                    f"{blob_path(self._blob.digest)}: want {self._blob.size} bytes, it has {part.total} in the store"
                )
            async for data in part.chunks:
                self._count(data)
                if self._have > self._blob.size:
                    return
                if self._into is not None:
                    await asyncio.to_thread(self._into.write, data)
        if self._have < self._blob.size:
            raise Unreachable(f"{self._store.name}: broke off at byte {self._have} of {self._blob.size}")

    async def _restart(self) -> None:
        self._hash, self._have = hashlib.sha256(), 0
        if self._into is not None:
            await asyncio.to_thread(self._into.seek, 0)
            await asyncio.to_thread(self._into.truncate)

    def _count(self, data: bytes) -> None:
        self._hash.update(data)
        self._have += len(data)
        if self._have > self._told:  # what is read again is no progress
            self._progress.step(min(self._have, self._blob.size) - self._told)
            self._told = min(self._have, self._blob.size)
