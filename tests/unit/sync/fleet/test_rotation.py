"""New keys: no device ever meets what it cannot verify, whoever dies on the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from sync.domain.errors import Conflict, OperatorError
from sync.fleet.keys import ROLES, KeyRing
from sync.fleet.sign import Repository, Transaction
from tests.fakes.sync.store import Died, MemoryStore
from tests.unit.sync.trust.world import MANIFEST, ROLLOUT, World, reads


@pytest.fixture
async def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    await made.create({"rollouts": 1})
    await made.publish("rollouts", ROLLOUT, b"rollout 1")
    await made.publish("releases", MANIFEST.format(1), b"manifest 1")
    return made


async def key_ids(world: World, role: str) -> list[str]:
    return list((await world.opened()).state.role_of(role).keyids)


@pytest.mark.parametrize("role", list(ROLES))
async def test_new_keys_take_the_place_of_the_old_ones(world: World, role: str) -> None:
    await reads(world.device()[0])
    old = await key_ids(world, role)
    await (await world.opened()).rotate(role)
    new = await key_ids(world, role)
    assert (len(new), set(new) & set(old)) == (ROLES[role].keys, set())
    await world.publish("rollouts", ROLLOUT, b"rollout 2")
    await world.publish("releases", MANIFEST.format(1), b"manifest 1, later")
    for name in ("device", "new"):
        client, _ = world.device(name)
        assert await reads(client) == b"rollout 2"
        assert await reads(client, MANIFEST.format(1)) == b"manifest 1, later"


@pytest.mark.parametrize("role", list(ROLES))
async def test_whoever_dies_between_any_two_writes_of_a_rotation_leaves_what_devices_verify(
    world: World, role: str
) -> None:
    before = world.keep()
    for writes in range(30):
        world.restore(before)
        world.forget()
        await reads(world.device(f"warm-{writes}")[0])
        store = MemoryStore(world.store.objects)
        store.writes_left = writes
        repository = Repository(store, world.keys, now=lambda: world.now)
        await repository.open(world.root)
        try:
            await repository.rotate(role)
        except Died:
            for name in (f"warm-{writes}", f"cold-{writes}"):
                assert await reads(world.device(name)[0]) == b"rollout 1"
                assert await reads(world.device(name)[0], MANIFEST.format(1)) == b"manifest 1"
            await (await world.opened()).rotate(role)
            assert await reads(world.device(f"warm-{writes}")[0]) == b"rollout 1"
            assert len(await key_ids(world, role)) == ROLES[role].keys
        else:
            break
    assert 1 <= writes < 30


async def test_keys_that_were_lost_are_replaced_all_the_same(world: World, tmp_path: Path) -> None:
    await reads(world.device()[0])
    lost = ("timestamp", "snapshot", "rollouts")
    for role in lost:
        (tmp_path / "keys" / "online" / f"{role}-1.pem").unlink()
    before = world.keep()
    with pytest.raises(OperatorError, match="the role timestamp, found 0"):
        await (await world.opened(KeyRing(tmp_path / "keys"))).rotate("snapshot")
    assert world.keep() == before
    for role in lost:
        await (await world.opened(KeyRing(tmp_path / "keys"))).rotate(role)
    await world.publish("rollouts", ROLLOUT, b"rollout 2")
    assert await reads(world.device()[0]) == b"rollout 2"


async def test_new_keys_of_the_root_need_as_many_of_the_old_ones_as_must_sign(world: World, tmp_path: Path) -> None:
    offline = tmp_path / "keys" / "offline"
    for number in (1, 2):
        (offline / f"root-{number}.pem").rename(tmp_path / f"root-{number}.pem")
    for role in ("root", "timestamp"):
        with pytest.raises(OperatorError, match="want 2 private keys of the role root, found 1"):
            await (await world.opened(KeyRing(tmp_path / "keys"))).rotate(role)
    assert sorted(path.name for path in (tmp_path / "keys" / "online").glob("timestamp*")) == ["timestamp-1.pem"]
    (tmp_path / "root-1.pem").rename(offline / "root-1.pem")
    await (await world.opened(KeyRing(tmp_path / "keys"))).rotate("root")
    assert await reads(world.device()[0]) == b"rollout 1"


async def test_new_keys_of_a_delegated_role_need_those_of_the_targets(world: World, tmp_path: Path) -> None:
    (tmp_path / "keys" / "offline").rename(tmp_path / "safe")
    with pytest.raises(OperatorError, match="the role targets, found 0"):
        await (await world.opened(KeyRing(tmp_path / "keys"))).rotate("rollouts")
    assert sorted(path.name for path in (tmp_path / "keys" / "online").glob("rollouts*")) == ["rollouts-1.pem"]


async def test_of_two_who_rotate_at_once_one_is_told(world: World) -> None:
    first, second = await world.opened(), await world.opened()
    await first.rotate("timestamp")
    with pytest.raises(Conflict, match="version 2 of the root is there already"):
        await second.rotate("snapshot")
    assert await reads(world.device()[0]) == b"rollout 1"


async def test_a_rotation_and_a_publisher_at_once_both_end_well(world: World) -> None:
    publisher, rotating = await world.opened(), await world.opened()
    await rotating.rotate("timestamp")
    change = Transaction()
    change.put("rollouts", ROLLOUT, b"rollout 2")
    with pytest.raises(Conflict):
        await publisher.commit(change)
    assert await reads(world.device()[0]) == b"rollout 1"
    await world.publish("rollouts", ROLLOUT, b"rollout 2")
    assert await reads(world.device()[0]) == b"rollout 2"
