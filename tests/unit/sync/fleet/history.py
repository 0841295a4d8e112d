"""A store with a past: days on which somebody signed, and files with the times of those days."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from sync.fleet.garbage import Garbage, find, sweep
from sync.fleet.sign import Transaction
from sync.fleet.verify import verify
from tests.unit.sync.fleet.shop import Shop

KEEP, GRACE = timedelta(days=30), timedelta(days=7)


class History:
    """A shop whose files have the times at which the operator's clock stood."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self._known: dict[Path, bytes] = {}
        self.dated()

    def dated(self) -> None:
        for path in self.shop.directory.rglob("*"):
            if path.is_file() and self._known.get(path) != path.read_bytes():
                self._known[path] = path.read_bytes()
                self.shop.date(self.shop.now, [path])

    def wait(self, **time: float) -> None:
        self.dated()
        self.shop.later(**time)

    async def live(self, days: int) -> None:
        """Somebody signs anew every day, and every month by the keys that were put away."""
        for _ in range(days):
            self.wait(days=1)
            repository = self.shop.repository()
            await repository.open()
            due = repository.due(timedelta(days=60)).keys() & {"releases", "targets"}
            await repository.commit(Transaction(renew={*due, *repository.due(timedelta(days=2))} - {"root"}))
            self.dated()

    async def find(self) -> Garbage:
        return await find(self.shop.store, now=self.shop.now, first_root=self.shop.root, keep=KEEP, grace=GRACE)

    async def swept(self) -> Garbage:
        garbage = await self.find()
        await sweep(self.shop.store, garbage)
        assert garbage.deleted == len(garbage.unneeded)
        assert (await verify(self.shop.store, now=self.shop.now, first_root=self.shop.root)).ok
        return garbage
