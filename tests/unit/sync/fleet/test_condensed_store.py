"""Condensed copies over a store's life: published, signed anew, collected, mirrored, walked; and devices that read them."""

from __future__ import annotations

from pathlib import Path

import pytest

from sync.domain.errors import Reason
from sync.domain.layout import rollout_name
from sync.domain.ports import ReadStore
from sync.domain.rollout import Candidate
from sync.fleet.mirror import mirror
from sync.fleet.sign import Repository, Transaction
from sync.fleet.verify import verify
from sync.stores.condense import SUFFIX, condense, has_copy, restore
from sync.stores.condensed import CondensedReads, CondensedWrites
from sync.stores.directory import DirectoryStore
from sync.trust.client import TrustClient
from sync.trust.floor import FloorFile
from tests.fakes.sync.store import Died, MemoryStore
from tests.unit.sync.fleet.history import History
from tests.unit.sync.fleet.shop import GROUP, Shop, tree
from tests.unit.sync.trust.world import ROLLOUT, World


@pytest.fixture
async def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    await made.create()
    return made


@pytest.fixture
async def shop(tmp_path: Path) -> Shop:
    made = Shop(tmp_path)
    made.store = CondensedWrites(made.store)
    await made.create()
    await made.fill()
    return made


def copied(directory: Path) -> set[str]:
    """What has a copy that says the same."""
    objects = tree(directory)
    copies = {path.removesuffix(SUFFIX): data for path, data in objects.items() if path.endswith(SUFFIX)}
    return {path for path, data in copies.items() if restore(data, max_bytes=1 << 20) == objects[path]}


def due_copies(directory: Path) -> set[str]:
    return {path for path in tree(directory) if has_copy(path)}


async def test_after_months_every_object_has_its_copy_and_every_copy_its_object(shop: Shop) -> None:
    history = History(shop)
    before = due_copies(shop.directory)
    for seq in (2, 3):
        await shop.roll_out(Candidate(2, "r-1", "running", percent=10.0 * seq), seq=seq)
        await history.live(40)
        assert (await history.swept()).deleted > 0
    assert copied(shop.directory) == due_copies(shop.directory)
    assert before - due_copies(shop.directory), "some are gone, and their copies with them"


async def test_a_mirror_has_copies_of_its_own(shop: Shop, tmp_path: Path) -> None:
    target = DirectoryStore(tmp_path / "site")
    done = await mirror(
        shop.store, CondensedWrites(target), now=lambda: shop.now, spool=tmp_path / "spool", root=shop.root
    )
    assert done.ok
    assert copied(tmp_path / "site") == due_copies(tmp_path / "site") != set()
    assert (await verify(CondensedReads(target, compared=True), now=shop.now, first_root=shop.root)).ok


@pytest.mark.parametrize("role", ["snapshot", "releases.bin-0", "rollouts"])
async def test_a_walk_that_compares_finds_a_copy_of_something_else(shop: Shop, role: str) -> None:
    store = CondensedReads(shop.store, compared=True)
    assert (await verify(store, now=shop.now, first_root=shop.root)).ok
    file = shop.metadata(role)
    file.with_name(file.name + SUFFIX).write_bytes(condense(file.read_bytes().replace(b"0", b"1", 1)))
    done = await verify(store, now=shop.now, first_root=shop.root)
    assert [fault.error.reason for fault in done.faults.found] == [Reason.HASH_MISMATCH]
    assert f"{role}.json{SUFFIX}" in str(done.faults.found[0])


def device(world: World, name: str) -> tuple[TrustClient, MemoryStore]:
    place = world.path / name
    place.mkdir()
    asked = MemoryStore(world.store.objects)
    floor = FloorFile(world.files, place / "floor.json")
    store: ReadStore = CondensedReads(asked)
    client = TrustClient(store, root=world.root, cache=place / "tuf", floor=floor, now=lambda: world.now.timestamp())
    return client, asked


async def test_a_publisher_that_dies_between_an_object_and_its_copy_is_never_read(world: World) -> None:
    """The next one's is: of the same versions, with other contents."""
    finished = writes = 0
    while not finished:
        dying = MemoryStore(world.store.objects)
        dying.writes_left = writes
        repository = Repository(CondensedWrites(dying), world.keys, now=lambda: world.now)
        await repository.open(world.root)
        left, mended = Transaction(), Transaction()
        left.put("rollouts", ROLLOUT, b"left by %d" % writes)
        try:
            await repository.commit(left)
            finished = writes
        except Died:
            mended.put("rollouts", ROLLOUT, b"mended %d" % writes)
            repository = Repository(CondensedWrites(world.store), world.keys, now=lambda: world.now)
            await repository.open(world.root)
            await repository.commit(mended)
        client, _ = device(world, f"device-{writes}")
        await client.refresh()
        data, _ = await client.fetch(ROLLOUT, max_bytes=100)
        assert data == (b"left by %d" if finished else b"mended %d") % writes
        writes += 1
    assert finished == 7, "a document, its bin and the snapshot with their copies, and the timestamp"


async def test_a_device_reads_copies_and_the_two_objects_that_have_none(shop: Shop, tmp_path: Path) -> None:
    objects = MemoryStore(tree(shop.directory))
    floor = FloorFile(World(tmp_path / "nobody").files, tmp_path / "floor.json")
    client = TrustClient(
        CondensedReads(objects), root=shop.root, cache=tmp_path / "tuf", floor=floor, now=lambda: shop.now.timestamp()
    )
    await client.refresh()
    await client.fetch(rollout_name(GROUP), max_bytes=10_000)
    plain = [path for path, _ in objects.asked if not path.endswith(SUFFIX)]
    assert plain == ["metadata/2.root.json", "metadata/timestamp.json"]
    assert len(objects.asked) == 7
