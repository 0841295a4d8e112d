"""A repository in a directory, an operator who holds all keys, and devices that poll it."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sync.agent.files import OsFiles
from sync.domain.ports import Part, ReadStore
from sync.fleet.keys import ROLES, KeyRing
from sync.fleet.sign import Repository, Transaction
from sync.stores.directory import DirectoryStore
from sync.trust.client import TrustClient
from sync.trust.floor import FloorFile

START = datetime(2026, 11, 20, 10, tzinfo=UTC)
ROLLOUT = "rollouts/g.json"
MANIFEST = "models/m/{}/manifest.json"


class Counting:
    """A store that counts what is asked of it."""

    def __init__(self, store: ReadStore) -> None:
        self._store = store
        self.requests: list[tuple[str, int]] = []

    @property
    def name(self) -> str:
        return self._store.name

    async def get(self, path: str, *, max_bytes: int) -> bytes:
        self.requests.append((path, 0))
        data = await self._store.get(path, max_bytes=max_bytes)
        self.requests[-1] = (path, len(data))
        return data

    async def get_part(self, path: str, *, start: int, etag: str) -> Part:
        return await self._store.get_part(path, start=start, etag=etag)

    async def close(self) -> None: ...

    def taken(self) -> tuple[int, int]:
        """Requests and bytes since the last call."""
        requests, self.requests = self.requests, []
        return len(requests), sum(size for _, size in requests)


class World:
    """`now` is everybody's clock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.directory = path / "store"
        self.store = DirectoryStore(self.directory)
        self.keys = KeyRing(path / "keys")
        self.now = START
        self.root = b""

    async def create(self) -> None:
        for role in ROLES.values():
            self.keys.make(role)
        self.root = await self.repository().create()

    def repository(self, keys: KeyRing | None = None) -> Repository:
        return Repository(self.store, keys or self.keys, now=lambda: self.now)

    async def opened(self, keys: KeyRing | None = None) -> Repository:
        repository = self.repository(keys)
        await repository.open(self.root)
        return repository

    async def publish(self, role: str, name: str, data: bytes) -> None:
        repository = await self.opened()
        change = Transaction()
        change.put(role, name, data)
        await repository.commit(change)

    def device(self, name: str = "device", *, root: bytes | None = None) -> tuple[TrustClient, Counting]:
        """A process on it: what it has on the disk stays."""
        place = self.path / name
        place.mkdir(exist_ok=True)
        store = Counting(self.store)
        floor = FloorFile(OsFiles(), place / "floor.json")
        client = TrustClient(
            store,
            root=root or self.root,
            cache=place / "tuf",
            floor=floor,
            now=lambda: self.now.timestamp(),
        )
        return client, store

    def keep(self) -> Path:
        """A copy of the store as it is."""
        copy = self.path / f"copy-{len(list(self.path.glob('copy-*')))}"
        shutil.copytree(self.directory, copy)
        return copy

    def restore(self, copy: Path) -> None:
        shutil.rmtree(self.directory)
        shutil.copytree(copy, self.directory)

    def later(self, **time: float) -> None:
        self.now += timedelta(**time)


async def chunks(data: bytes) -> AsyncIterator[bytes]:
    yield data
