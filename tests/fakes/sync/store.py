"""A store in memory that keeps the promises of `WriteStore`, until a test breaks them.

`objects` is the store itself: path → bytes, to be read and tampered with. `asked`: (path, bytes answered) of every read;
a path that is not there answers 0 bytes. `times`: when each was written, seconds since the epoch. `writes_left`: the publisher dies before the write after these.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from sync.domain.errors import Conflict, Missing, Refused
from sync.domain.ports import Part
from sync.domain.release import check_path

STEP_BYTES = 1 << 16


class Died(BaseException):
    """The publisher is gone. Nothing may catch it but the test."""


class MemoryStore:
    """`hook`: awaited before every read, with its path; what it raises, the read raises. `swaps`: of which objects."""

    def __init__(self, objects: dict[str, bytes] | None = None) -> None:
        self.objects = {} if objects is None else objects
        self.times: dict[str, float] = {}
        self.asked: list[tuple[str, int]] = []
        self.written: list[str] = []
        self.writes_left: int | None = None
        self.hook: Callable[[str], Awaitable[None]] | None = None
        self.closed = False

    @property
    def name(self) -> str:
        return "memory:"

    def taken(self) -> tuple[int, int]:
        """Reads and bytes since the last call."""
        asked, self.asked = self.asked, []
        return len(asked), sum(size for _, size in asked)

    async def get(self, path: str, *, max_bytes: int) -> bytes:
        data = await self._read(path)
        if len(data) > max_bytes:
            raise Refused(f"{self.name}{path}: want at most {max_bytes} bytes, got more")
        return data

    async def get_part(self, path: str, *, start: int, etag: str) -> Part:
        data = await self._read(path)
        tag = _tag(data)
        begin = start if etag in ("", tag) and start <= len(data) else 0
        return Part(begin, len(data), tag, _chunks(data[begin:]))

    async def create(self, path: str, data: bytes | Path) -> bool:
        self._one_write(path)
        self.times[path] = time.time()
        if path in self.objects:
            return False
        self.objects[path] = data if isinstance(data, bytes) else await asyncio.to_thread(data.read_bytes)
        return True

    async def tagged(self, path: str) -> tuple[bytes, str] | None:
        _check(path)
        data = self.objects.get(path)
        return None if data is None else (data, _tag(data))

    async def swap(self, path: str, data: bytes, *, was: str | None) -> str:
        self._one_write(path)
        before = self.objects.get(path)
        if (None if before is None else _tag(before)) != was:
            raise Conflict(f"{path}: somebody else has written it")
        self.objects[path] = data
        self.times[path] = time.time()
        return _tag(data)

    async def walk(self, prefix: str) -> AsyncIterator[tuple[str, int, float]]:
        for path, data in sorted(self.objects.items()):
            if not prefix or path.startswith(f"{prefix.strip('/')}/"):
                yield path, len(data), self.times.get(path, 0.0)

    async def delete(self, path: str) -> None:
        self._one_write(path)
        self.objects.pop(path, None)

    async def close(self) -> None:
        self.closed = True

    async def _read(self, path: str) -> bytes:
        assert not self.closed, "read after close"
        _check(path)
        self.asked.append((path, 0))
        if self.hook is not None:
            await self.hook(path)
        if path not in self.objects:
            raise Missing(f"{self.name}{path}: is not there")
        self.asked[-1] = (path, len(self.objects[path]))
        return self.objects[path]

    def _one_write(self, path: str) -> None:
        _check(path)
        if self.writes_left == 0:
            raise Died
        if self.writes_left is not None:
            self.writes_left -= 1
        self.written.append(path)


def _check(path: str) -> None:
    try:
        check_path(path)
    except ValueError as error:
        raise Refused(str(error)) from None


def _tag(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


async def _chunks(data: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(data), STEP_BYTES):
        yield data[at : at + STEP_BYTES]
