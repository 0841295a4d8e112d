"""A place without the Internet: a mirror of the shop's store, and a device that polls it."""

from __future__ import annotations

from sync.agent.files import OsFiles
from sync.domain.layout import rollout_name
from sync.domain.ports import ReadStore, WriteStore
from sync.fleet.mirror import Mirrored, mirror
from sync.fleet.verify import verify
from sync.stores.directory import DirectoryStore
from sync.trust.client import TrustClient
from sync.trust.floor import FloorFile
from tests.unit.sync.fleet.shop import GROUP, Shop


class Site:
    """A place without the Internet: a mirror, and a device that polls it."""

    def __init__(self, shop: Shop, name: str = "site") -> None:
        self.shop = shop
        self.directory = shop.path / name
        self.spool = shop.path / f"{name}-spool"
        self.store = DirectoryStore(self.directory)
        self.device = self.new_device("device")

    def new_device(self, name: str) -> TrustClient:
        place = self.directory.with_name(f"{self.directory.name}-{name}")
        place.mkdir()
        floor = FloorFile(OsFiles(), place / "floor.json")
        return TrustClient(
            self.store, root=self.shop.root, cache=place / "tuf", floor=floor, now=lambda: self.shop.now.timestamp()
        )

    async def copy(
        self, source: ReadStore | None = None, target: WriteStore | None = None, *, check: bool = False
    ) -> Mirrored:
        return await mirror(
            source or self.shop.store,
            target or self.store,
            now=lambda: self.shop.now,
            spool=self.spool,
            root=self.shop.root,
            check=check,
        )

    async def polled(self) -> bytes:
        """What the device is told to run."""
        await self.device.refresh()
        return (await self.device.fetch(rollout_name(GROUP), max_bytes=10_000))[0]

    async def is_whole(self) -> bool:
        return (await verify(self.store, now=self.shop.now, first_root=self.shop.root)).ok
