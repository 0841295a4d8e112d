"""A store whose writer dies before the write after so many. `written`: paths, in order."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from sync.domain.ports import WriteStore
from sync.stores.directory import DirectoryStore
from tests.fakes.sync.store import Died


class MortalStore:
    """`WriteStore`. store: or a directory of one. after: awaited after every write, with its path."""

    def __init__(
        self,
        store: WriteStore | Path,
        writes_left: int | None = None,
        after: Callable[[str], Awaitable[None]] | None = None,
    ) -> None:
        self._store: WriteStore = DirectoryStore(store) if isinstance(store, Path) else store
        self._left, self._after = writes_left, after
        self.written: list[str] = []
        self.name = self._store.name
        self.get, self.get_part, self.tagged = self._store.get, self._store.get_part, self._store.tagged
        self.walk, self.close = self._store.walk, self._store.close

    async def create(self, path: str, data: bytes | Path) -> bool:
        self._before(path)
        made = await self._store.create(path, data)
        await self._wrote(path, made)
        return made

    async def swap(self, path: str, data: bytes, *, was: str | None) -> str:
        self._before(path)
        tag = await self._store.swap(path, data, was=was)
        await self._wrote(path, True)
        return tag

    async def delete(self, path: str) -> None:
        self._before(path)
        await self._store.delete(path)
        await self._wrote(path, True)

    def _before(self, path: str) -> None:
        if self._left == 0:
            raise Died
        if self._left is not None:
            self._left -= 1

    async def _wrote(self, path: str, changed: bool) -> None:
        if not changed:
            if self._left is not None:
                self._left += 1
            return
        self.written.append(path)
        if self._after is not None:
            await self._after(path)
