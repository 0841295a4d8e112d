"""The operator's transactions: whole or not at all, one at a time, and only with the keys."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sync.domain.errors import Conflict, Missing, OperatorError, TrustError
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


def raw(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes_raw()


def test_private_keys_are_their_owner_s_alone_and_are_never_overwritten(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path)
    first = ring.make(ROLES["timestamp"])
    second = ring.make(ROLES["timestamp"])
    paths = ring.paths("timestamp")
    assert [path.name for path in paths] == ["timestamp-1.pem", "timestamp-2.pem"]
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in paths)
    assert [raw(key) for key in KeyRing(tmp_path).keys("timestamp")] == [raw(key) for key in (*first, *second)]


def test_an_encrypted_key_needs_its_passphrase(tmp_path: Path) -> None:
    KeyRing(tmp_path, b"secret").make(ROLES["timestamp"])
    assert b"ENCRYPTED" in KeyRing(tmp_path).paths("timestamp")[0].read_bytes()
    assert len(KeyRing(tmp_path, b"secret").keys("timestamp")) == 1
    for wrong in (None, b"other"):
        with pytest.raises(OperatorError, match="passphrase"):
            KeyRing(tmp_path, wrong).keys("timestamp")
    KeyRing(tmp_path / "plain").make(ROLES["timestamp"])
    with pytest.raises(OperatorError, match="want no passphrase"):
        KeyRing(tmp_path / "plain", b"secret").keys("timestamp")


def test_what_is_no_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "online").mkdir()
    (tmp_path / "online" / "timestamp-1.pem").write_text("hello")
    with pytest.raises(OperatorError, match="want a private key in PEM"):
        KeyRing(tmp_path).keys("timestamp")
