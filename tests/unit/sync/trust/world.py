"""A repository in memory, an operator who holds all keys, and devices that poll it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sync.agent.files import OsFiles
from sync.domain.errors import Reason, TrustError
from sync.domain.layout import TIMESTAMP
from sync.domain.ports import Files, WriteStore
from sync.fleet.keys import ROLES, KeyRing
from sync.fleet.sign import Repository, Transaction
from sync.trust.client import TrustClient
from sync.trust.floor import FloorFile
from tests.fakes.sync.store import MemoryStore

START = datetime(2026, 11, 20, 10, tzinfo=UTC)
ROLLOUT = "rollouts/g.json"
MANIFEST = "models/m/{}/manifest.json"


class World:
    """`now` is everybody's clock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.store = MemoryStore()
        self.files: Files = OsFiles()
        self.keys = KeyRing(path / "keys")
        self.now = START
        self.up = 0.0
        self.root = b""

    @classmethod
    def now_by_the_clock(cls, path: Path) -> World:
        """For programs that have no other clock."""
        world = cls(path)
        world.now = datetime.now(UTC)
        return world

    async def create(self, bins: Mapping[str, int] | None = None) -> None:
        """Flat, unless `bins` says how many bits divide a role."""
        for role in ROLES.values():
            self.keys.make(role)
        self.root = await self.repository().create(bins=bins or {})

    def repository(self, keys: KeyRing | None = None, store: WriteStore | None = None) -> Repository:
        return Repository(store or self.store, keys or self.keys, now=lambda: self.now)

    async def opened(self, keys: KeyRing | None = None, store: WriteStore | None = None) -> Repository:
        repository = self.repository(keys, store)
        await repository.open(self.root)
        return repository

    async def publish(self, role: str, name: str, data: bytes) -> None:
        repository = await self.opened()
        change = Transaction()
        change.put(role, name, data)
        await repository.commit(change)

    def device(
        self, name: str = "device", *, root: bytes | None = None, any_scheme: bool = False
    ) -> tuple[TrustClient, MemoryStore]:
        """A process on it, and what it asks: what it has on the disk stays."""
        place = self.path / name
        place.mkdir(exist_ok=True)
        store = MemoryStore(self.store.objects)
        floor = FloorFile(self.files, place / "floor.json")
        client = TrustClient(
            store,
            root=root or self.root,
            cache=place / "tuf",
            floor=floor,
            now=lambda: self.now.timestamp(),
            uptime_s=lambda: self.up,
            any_scheme=any_scheme,
        )
        return client, store

    def keep(self) -> dict[str, bytes]:
        """A copy of the store as it is."""
        return dict(self.store.objects)

    def restore(self, copy: dict[str, bytes]) -> None:
        self.store.objects.clear()
        self.store.objects.update(copy)

    def forget(self) -> None:
        """The operator's ring no longer knows what the store held."""
        (self.path / "keys" / "seen.json").unlink(missing_ok=True)

    def later(self, **time: float) -> None:
        """Time passes."""
        passed = timedelta(**time)
        self.now += passed
        self.up += passed.total_seconds()

    def newest(self, role: str) -> str:
        """The path of a role's last metadata."""
        if role == "timestamp":
            return TIMESTAMP
        found = [path for path in self.store.objects if path.startswith("metadata/") and path.endswith(f".{role}.json")]
        return max(found, key=lambda path: int(path.removeprefix("metadata/").split(".")[0]))


async def reads(client: TrustClient, name: str = ROLLOUT) -> bytes:
    await client.refresh()
    return (await client.fetch(name, max_bytes=1000))[0]


async def refused(client: TrustClient, name: str = ROLLOUT) -> Reason:
    """Why the device does not believe what it is shown."""
    with pytest.raises(TrustError) as caught:
        await reads(client, name)
    return Reason(caught.value.reason)
