"""The operator's transactions: whole or not at all, one at a time, and only with the keys."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest

from sync.domain.errors import Conflict, Missing, OperatorError, Reason, TrustError
from sync.domain.layout import TIMESTAMP
from sync.fleet.keys import ROLES, KeyRing
from sync.fleet.sign import Repository, Transaction
from sync.stores.directory import DirectoryStore
from tests.fakes.sync.store import Died, MemoryStore
from tests.unit.sync.trust.world import MANIFEST, ROLLOUT, World


@pytest.fixture
async def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    await made.create()
    await made.publish("rollouts", ROLLOUT, b"rollout 1")
    return made


def mortal(world: World, writes: int) -> Repository:
    """A publisher who dies before the write after these."""
    store = MemoryStore(world.store.objects)
    store.writes_left = writes
    return Repository(store, world.keys, now=lambda: world.now)


async def reads(world: World, name: str = ROLLOUT) -> bytes:
    client, _ = world.device(f"device-{os.urandom(4).hex()}")
    await client.refresh()
    return (await client.fetch(name, max_bytes=1000))[0]


async def test_a_publisher_that_dies_between_any_two_writes_leaves_the_old_state_or_the_new_one(world: World) -> None:
    change = Transaction()
    change.put("rollouts", ROLLOUT, b"rollout 2")
    change.put("releases", MANIFEST.format(2), b"manifest 2")
    before = world.keep()
    for writes in range(20):
        world.restore(before)
        repository = mortal(world, writes)
        await repository.open(world.root)
        try:
            await repository.commit(change)
        except Died:
            assert await reads(world) == b"rollout 1"
            with pytest.raises(Missing):
                await reads(world, MANIFEST.format(2))
        else:
            break
    assert writes >= 6
    assert (await reads(world), await reads(world, MANIFEST.format(2))) == (b"rollout 2", b"manifest 2")


async def test_what_a_dead_publisher_left_behind_is_never_signed_by_the_next(world: World) -> None:
    for writes in range(8):
        left = Transaction()
        left.put("rollouts", ROLLOUT, b"never finished")
        dying = mortal(world, writes)
        await dying.open(world.root)
        try:
            await dying.commit(left)
        except Died:
            await world.publish("rollouts", ROLLOUT, b"rollout %d" % writes)
            assert await reads(world) == b"rollout %d" % writes


async def test_of_two_publishers_at_once_one_is_told_and_nothing_of_his_is_seen(world: World) -> None:
    first, second = await world.opened(), await world.opened()
    for repository, data in ((first, b"first"), (second, b"second")):
        change = Transaction()
        change.put("rollouts", ROLLOUT, data)
        if repository is first:
            await repository.commit(change)
        else:
            with pytest.raises(Conflict, match="somebody else has written"):
                await repository.commit(change)
    assert await reads(world) == b"first"
    await world.publish("rollouts", ROLLOUT, b"again")
    assert await reads(world) == b"again"


async def test_a_second_repository_in_the_same_store_is_refused(world: World) -> None:
    with pytest.raises(Conflict):
        await world.repository().create()
    assert await reads(world) == b"rollout 1"


async def test_what_needs_a_key_that_was_put_away_says_which(world: World, tmp_path: Path) -> None:
    (tmp_path / "keys" / "offline").rename(tmp_path / "safe")
    change = Transaction()
    change.put("releases", MANIFEST.format(2), b"manifest 2")
    with pytest.raises(OperatorError, match="want 1 private keys of the role releases, found 0"):
        await (await world.opened()).commit(change)
    await world.publish("rollouts", ROLLOUT, b"rollout 2")
    assert await reads(world) == b"rollout 2", "what the online keys sign needs no other"


async def test_signatures_that_will_end_are_told_and_renewed(world: World) -> None:
    repository = await world.opened()
    assert repository.due(timedelta(hours=12)) == {}
    assert set(repository.due(timedelta(days=4))) == {"timestamp", "rollouts", "deltas"}
    world.later(hours=20)
    repository = await world.opened()
    assert set(repository.due(timedelta(hours=12))) == {"timestamp"}
    await repository.commit(Transaction())
    world.later(hours=20)
    assert await reads(world) == b"rollout 1"


async def test_a_document_that_is_taken_out_is_gone(world: World) -> None:
    repository = await world.opened()
    change = Transaction()
    change.put("rollouts", ROLLOUT, None)
    await repository.commit(change)
    with pytest.raises(Missing):
        await reads(world)


async def test_what_somebody_else_wrote_into_the_store_is_not_built_upon(world: World, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    other = World(tmp_path / "b")
    await other.create()
    world.store.objects[TIMESTAMP] = other.store.objects[TIMESTAMP]
    with pytest.raises(TrustError):
        await world.opened()


async def test_without_a_repository_the_way_to_one_is_told(tmp_path: Path) -> None:
    repository = Repository(DirectoryStore(tmp_path / "nowhere"), KeyRing(tmp_path))
    with pytest.raises(Missing, match="edge-sync keys init"):
        await repository.open()


async def test_a_store_that_went_back_in_time_is_not_built_upon(world: World) -> None:
    """Somebody who may write there, and has no key, puts an old state in its place and waits for a signature."""
    old = world.keep()
    await world.publish("releases", MANIFEST.format(2), b"manifest 2")
    world.restore(old)
    with pytest.raises(
        TrustError, match="releases: want version 2 or later, got 1: somebody put an older state"
    ) as caught:
        await world.opened()
    assert caught.value.reason is Reason.TRUST_ROLLBACK
    world.forget()
    await world.opened()


@pytest.mark.parametrize("role", ["snapshot", "targets", "releases"])
async def test_old_metadata_under_a_new_number_is_not_built_upon(world: World, role: str) -> None:
    await world.publish("releases", MANIFEST.format(1), b"manifest 1")
    repository = await world.opened()
    old = world.store.objects[world.newest(role)]
    await repository.commit(Transaction(renew={"targets", "releases"}))
    world.store.objects[world.newest(role)] = old
    with pytest.raises(TrustError, match="want version"):
        await world.opened()


async def test_metadata_of_another_kind_or_none_is_not_built_upon(world: World) -> None:
    for role in ("snapshot", "targets", "rollouts"):
        good = world.store.objects[world.newest(role)]
        for bad in (b"", b"{}", b"[" * 9999, world.store.objects[TIMESTAMP]):
            world.store.objects[world.newest(role)] = bad
            with pytest.raises(TrustError):
                await world.opened()
        world.store.objects[world.newest(role)] = good
    await world.opened()


async def test_the_ring_remembers_the_root_that_devices_have(world: World, tmp_path: Path) -> None:
    """So that nobody needs to believe the store's own word for who may sign."""
    assert world.keys.first_root() == world.root
    (tmp_path / "other").mkdir()
    other = World(tmp_path / "other")
    await other.create()
    world.restore(other.keep())
    with pytest.raises(TrustError):
        await world.repository().open()


async def test_a_document_that_did_not_change_is_not_signed_anew(world: World) -> None:
    before = world.keep()
    await world.publish("rollouts", ROLLOUT, b"rollout 1")
    assert [path for path in world.store.objects if world.store.objects[path] != before.get(path)] == [TIMESTAMP]


async def test_what_was_changed_in_vain_is_to_be_opened_again(world: World) -> None:
    first, second = await world.opened(), await world.opened()
    for repository in (first, second):
        change = Transaction()
        change.put("rollouts", ROLLOUT, b"rollout 2" if repository is first else b"rollout 3")
        if repository is first:
            await repository.commit(change)
            continue
        with pytest.raises(Conflict):
            await repository.commit(change)
        with pytest.raises(OperatorError, match="want it opened again"):
            await repository.commit(change)
        await repository.open(world.root)
        await repository.commit(change)
    assert await reads(world) == b"rollout 3"


async def test_nothing_is_written_where_a_key_is_missing(world: World, tmp_path: Path) -> None:
    (tmp_path / "keys" / "online" / "snapshot-1.pem").unlink()
    change = Transaction()
    change.put("rollouts", ROLLOUT, b"rollout 2")
    repository = await world.opened(KeyRing(tmp_path / "keys"))
    before = world.keep()
    with pytest.raises(OperatorError, match="want 1 private keys of the role snapshot, found 0 that are in force"):
        await repository.commit(change)
    assert world.keep() == before


async def test_refresh_signs_what_half_of_its_time_is_over_for_and_the_timestamp_always(world: World) -> None:
    assert await (await world.opened()).refresh() == ["timestamp"]
    world.later(hours=37)
    assert await (await world.opened()).refresh() == ["deltas", "rollouts", "timestamp"]
    assert await (await world.opened()).refresh() == ["timestamp"]
    for _ in range(20):  # every 12 hours for ten days, with the online keys alone
        world.later(hours=12)
        await (await world.opened()).refresh()
        assert await reads(world) == b"rollout 1"


async def test_what_has_expired_can_be_signed_anew(world: World) -> None:
    world.later(days=100)
    repository = await world.opened()
    assert {"timestamp", "snapshot", "rollouts", "deltas", "releases"} <= set(repository.due(timedelta(0)))
    await repository.refresh()
    await (await world.opened()).commit(Transaction(renew={"releases"}))
    assert await reads(world) == b"rollout 1"


async def test_a_maker_who_dies_between_any_two_writes_is_gone_on_with(tmp_path: Path) -> None:
    keys = KeyRing(tmp_path / "keys")
    for role in ROLES.values():
        keys.make(role)
    for writes in range(100):
        world = World(tmp_path)
        try:
            await mortal(world, writes).create()
        except Died:
            world.later(hours=1)
            world.root = await world.repository().create()
            assert world.root == world.store.objects["metadata/1.root.json"] == keys.first_root()
            await world.publish("rollouts", ROLLOUT, b"rollout %d" % writes)
            assert await reads(world) == b"rollout %d" % writes
            world.forget()
        else:
            break
    assert 20 < writes < 100


async def test_a_root_of_other_keys_is_nobody_s_to_go_on_with(world: World, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = World(tmp_path / "other")
    other.store.objects["metadata/1.root.json"] = world.root
    with pytest.raises(Conflict, match="has a root of other keys"):
        await other.create()


async def test_leftovers_without_end_are_told(world: World) -> None:
    for version in range(1, 1100):
        world.store.objects.setdefault(f"metadata/{version}.rollouts.json", b"left")
    change = Transaction()
    change.put("rollouts", ROLLOUT, b"rollout 2")
    with pytest.raises(OperatorError, match="the next 1000 versions of rollouts are taken"):
        await (await world.opened()).commit(change)
