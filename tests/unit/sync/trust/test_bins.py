"""Roles that are divided into bins by their names' digests, for stores with many documents."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from sync.domain.errors import Reason
from sync.fleet.keys import KeyRing
from sync.fleet.sign import Repository, Transaction
from sync.trust.floor import FloorFile
from tests.unit.sync.trust.world import MANIFEST, World, reads, refused


def group(number: int) -> str:
    return f"rollouts/group-{number}.json"


@pytest.fixture
async def divided(tmp_path: Path) -> World:
    world = World(tmp_path)
    await world.create({"rollouts": 3, "releases": 2})
    change = Transaction()
    for number in range(20):
        change.put("rollouts", group(number), b"rollout %d" % number)
        change.put("releases", MANIFEST.format(number), b"manifest %d" % number)
    await (await world.opened()).commit(change)
    return world


async def test_a_device_reads_the_bin_that_names_its_document_and_no_other(divided: World) -> None:
    client, store = divided.device()
    assert await reads(client, group(7)) == b"rollout 7"
    bins = [path for path, _ in store.asked if ".bin-" in path]
    assert len(bins) == 1
    for number in range(20):
        assert (await client.fetch(group(number), max_bytes=100))[0] == b"rollout %d" % number
        assert (await client.fetch(MANIFEST.format(number), max_bytes=100))[0] == b"manifest %d" % number
    assert await client.target(group(20)) is None


async def test_a_change_signs_one_bin_anew_and_costs_a_device_no_other(divided: World) -> None:
    await reads(divided.device()[0], group(7))
    before = divided.keep()
    await divided.publish("rollouts", group(7), b"rollout 7, later")
    written = [path for path in divided.store.objects if path not in before]
    assert sorted(path.split("/")[0] for path in written) == ["metadata", "metadata", "targets"]
    client, store = divided.device()
    assert await reads(client, group(7)) == b"rollout 7, later"
    assert len(store.asked) == 5


async def test_the_publisher_reads_its_own_bins(divided: World) -> None:
    repository = await divided.opened()
    assert await repository.names("rollouts") == sorted(group(number) for number in range(20))
    assert await repository.read("rollouts", group(3)) == b"rollout 3"
    change = Transaction()
    change.put("rollouts", group(3), None)
    await repository.commit(change)
    assert await (await divided.opened()).read("rollouts", group(3)) is None


async def test_an_older_bin_is_refused_after_a_power_cut_too(divided: World) -> None:
    holder = (await divided.opened()).state.holder("rollouts", group(7))
    for _ in range(2):
        await divided.publish("rollouts", group(7), b"rollout 7, later")
        await divided.publish("rollouts", group(7), b"rollout 7, last")
    await reads(divided.device()[0], group(7))
    thief = await divided.opened()
    thief.state.snapshot.signed.meta[f"{holder}.json"].version -= 1
    await thief.commit(Transaction(renew={"snapshot"}))
    assert await refused(divided.device()[0], group(7)) is Reason.TRUST_ROLLBACK
    for file in (divided.path / "device" / "tuf").glob("*.json"):
        if not file.is_symlink():
            file.write_bytes(b"")
    assert await refused(divided.device()[0], group(7)) is Reason.TRUST_ROLLBACK
    floor = FloorFile(divided.files, divided.path / "device" / "floor.json").load()
    assert holder in floor.families["rollouts"].versions


async def test_new_keys_sign_all_bins(divided: World) -> None:
    client, _ = divided.device()
    await reads(client, group(7))
    for role in ("rollouts", "releases"):
        await (await divided.opened()).rotate(role)
    assert await reads(client, group(7)) == b"rollout 7"
    assert await reads(divided.device("new")[0], MANIFEST.format(5)) == b"manifest 5"
    old = KeyRing(divided.path / "keys").keys("rollouts")[0]
    in_force = (await divided.opened()).state.role_of("rollouts.bin-0").keyids
    assert old.public_key().public_bytes_raw().hex() not in in_force
    assert len(in_force) == 1


async def test_bins_are_renewed_with_their_role(divided: World) -> None:
    divided.later(days=1, hours=13)
    repository = await divided.opened()
    assert await repository.refresh() == ["deltas", "rollouts", "timestamp"]
    divided.later(days=1, hours=13)
    assert (await divided.opened()).due(timedelta(hours=1)) != {}
    await (await divided.opened()).refresh()
    assert await reads(divided.device()[0], group(7)) == b"rollout 7"


async def test_a_device_s_client_needs_no_word_of_how_roles_are_divided(divided: World) -> None:
    repository = Repository(divided.store, divided.keys, now=lambda: divided.now)
    await repository.open(divided.root)
    bins = repository.state.bins("rollouts")
    assert bins is not None
    assert bins.number_of_bins == 8
    assert repository.state.bins("deltas") is None
