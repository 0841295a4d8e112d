"""Stores that keep, beside each small object that never changes, a condensed copy of it; and who reads that.

Rule 1: a copy is how an object travels, and nothing more: it has no name in what is signed, and nobody who lists, verifies
or collects a store meets one. Rule 2: who lacks a copy, or finds it damaged, takes the object. Rule 3: only who has created
an object writes its copy, after it; so that a copy never says other than its object, whoever else was at work. Rule 4: it is
deleted before its object.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

from sync.domain.errors import HashMismatch, Missing
from sync.domain.ports import Part, ReadStore, WriteStore
from sync.stores.condense import OVERHEAD_BYTES, SUFFIX, condense, has_copy, restore

MAX_MISSES = 3
"""Copies that were not there, one after the other: then a store is taken to have none."""


class CondensedReads:
    """A store across a network, as a device reads it. compared: copies are held to their objects, and objects answered."""

    def __init__(self, store: ReadStore, *, compared: bool = False) -> None:
        self._store, self._compared = store, compared
        self._misses = 0

    @property
    def name(self) -> str:
        return self._store.name

    async def close(self) -> None:
        await self._store.close()

    async def get(self, path: str, *, max_bytes: int) -> bytes:
        """Raises Missing, Unreachable, Refused; HashMismatch for a copy that is not of its object, where they are compared."""
        if not has_copy(path):
            return await self._store.get(path, max_bytes=max_bytes)
        if self._compared:
            return await self._get_both(path, max_bytes)
        copy = await self._copy(path, max_bytes) if self._misses < MAX_MISSES else None
        self._misses = 0 if copy is not None else min(self._misses + 1, MAX_MISSES)
        if copy is not None:
            with suppress(ValueError):
                return restore(copy, max_bytes=max_bytes)
        return await self._store.get(path, max_bytes=max_bytes)

    async def get_part(self, path: str, *, start: int, etag: str) -> Part:
        """Raises Missing, Unreachable, Refused."""
        return await self._store.get_part(path, start=start, etag=etag)

    async def _get_both(self, path: str, max_bytes: int) -> bytes:
        data = await self._store.get(path, max_bytes=max_bytes)
        copy = await self._copy(path, max_bytes)
        with suppress(ValueError):
            if copy is None or restore(copy, max_bytes=max_bytes) == data:
                return data
        raise HashMismatch(f"{path}{SUFFIX}: want {path}, condensed, got something else; without it all is well")

    async def _copy(self, path: str, max_bytes: int) -> bytes | None:
        try:
            return await self._store.get(path + SUFFIX, max_bytes=max_bytes + OVERHEAD_BYTES)
        except Missing:
            return None


class CondensedWrites:
    """A store as a publisher writes it. Reads are of the objects themselves."""

    def __init__(self, store: WriteStore) -> None:
        self._store = store

    @property
    def name(self) -> str:
        return self._store.name

    async def close(self) -> None:
        await self._store.close()

    async def get(self, path: str, *, max_bytes: int) -> bytes:
        """Raises Missing, Unreachable, Refused."""
        return await self._store.get(path, max_bytes=max_bytes)

    async def get_part(self, path: str, *, start: int, etag: str) -> Part:
        """Raises Missing, Unreachable, Refused."""
        return await self._store.get_part(path, start=start, etag=etag)

    async def create(self, path: str, data: bytes | Path) -> bool:
        """Raises Unreachable, Refused."""
        created = await self._store.create(path, data)
        if created and isinstance(data, bytes) and has_copy(path):
            copy = condense(data)
            if not await self._store.create(path + SUFFIX, copy):  # of an object that somebody deleted by hand
                await self._store.delete(path + SUFFIX)
                await self._store.create(path + SUFFIX, copy)
        return created

    async def tagged(self, path: str) -> tuple[bytes, str] | None:
        """Raises Unreachable, Refused."""
        return await self._store.tagged(path)

    async def swap(self, path: str, data: bytes, *, was: str | None) -> str:
        """Raises Conflict, Unreachable, Refused."""
        return await self._store.swap(path, data, was=was)

    async def walk(self, prefix: str) -> AsyncIterator[tuple[str, int, float]]:
        """Raises Unreachable, Refused."""
        async for path, size, changed in self._store.walk(prefix):
            if not _is_copy(path):
                yield path, size, changed

    async def delete(self, path: str) -> None:
        """Raises Unreachable, Refused."""
        if has_copy(path):
            await self._store.delete(path + SUFFIX)
        await self._store.delete(path)


def _is_copy(path: str) -> bool:
    return path.endswith(SUFFIX) and has_copy(path.removesuffix(SUFFIX))
