"""What a device takes for signed, and every attack on it that the specification names."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sync.domain.errors import Missing, Reason, Refused, TrustError
from sync.fleet.keys import ROLES, KeyRing
from sync.fleet.sign import Transaction
from sync.trust.client import TrustClient, set_reference_time
from tests.unit.sync.trust.world import MANIFEST, ROLLOUT, World


@pytest.fixture
async def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    await made.create()
    await made.publish("rollouts", ROLLOUT, b"rollout 1")
    await made.publish("releases", MANIFEST.format(1), b"manifest 1")
    return made


async def reads(client: TrustClient, name: str = ROLLOUT) -> bytes:
    await client.refresh()
    return (await client.fetch(name, max_bytes=1000))[0]


async def refused(client: TrustClient, name: str = ROLLOUT) -> Reason:
    with pytest.raises(TrustError) as caught:
        await reads(client, name)
    return Reason(caught.value.reason)


async def test_a_device_reads_what_was_signed_and_what_is_signed_later(world: World) -> None:
    client, _ = world.device()
    assert await reads(client) == b"rollout 1"
    assert await reads(client, MANIFEST.format(1)) == b"manifest 1"
    await world.publish("rollouts", ROLLOUT, b"rollout 2")
    assert await reads(client) == b"rollout 2"
    with pytest.raises(Missing, match="nobody has signed one"):
        await client.fetch("rollouts/other.json", max_bytes=1000)


async def test_a_poll_with_nothing_new_costs_two_requests_and_hardly_a_byte(world: World) -> None:
    client, store = world.device()
    await reads(client)
    first = store.taken()
    client, store = world.device()
    await reads(client)
    requests, size = store.taken()
    assert (requests, size < 500) == (2, True)
    await world.publish("rollouts", ROLLOUT, b"rollout 2")
    client, store = world.device()
    await reads(client)
    requests, size = store.taken()
    assert requests == 5
    assert size < 4000
    assert first[1] < 8000


@pytest.mark.parametrize("change", ["flip", "cut", "grow", "empty"])
async def test_a_document_that_is_not_what_was_signed_is_refused(world: World, change: str) -> None:
    (file,) = (world.directory / "targets" / "rollouts").iterdir()
    data = file.read_bytes()
    flipped = bytes([data[0] ^ 1]) + data[1:]
    file.write_bytes({"flip": flipped, "cut": data[:-1], "grow": data * 100, "empty": b""}[change])
    client, _ = world.device()
    with pytest.raises((TrustError, Refused)):
        await reads(client)


async def test_a_flipped_bit_in_any_metadata_is_refused_and_what_was_known_still_holds(world: World) -> None:
    client, _ = world.device("warm")
    await client.refresh()
    await world.publish("rollouts", ROLLOUT, b"rollout 2")
    files = [file for file in (world.directory / "metadata").iterdir() if not file.name.startswith("1.root")]
    newest = {
        file.name.split(".", 1)[-1]: file
        for file in sorted(files, key=lambda file: int(file.name.split(".")[0]) if file.name[0].isdigit() else 0)
    }
    for file in newest.values():
        data = file.read_bytes()
        for at in range(20, len(data), 97):
            file.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
            device, _ = world.device(f"cold-{file.name}-{at}")
            try:
                assert await reads(device) in (b"rollout 1", b"rollout 2"), "a bit that nothing is said by"
            except (TrustError, Missing, Refused):
                continue
        file.write_bytes(data)
    assert await reads(client) == b"rollout 2"


async def test_an_old_repository_is_refused(world: World) -> None:
    old = world.keep()
    await world.publish("rollouts", ROLLOUT, b"rollout 2")
    client, _ = world.device()
    assert await reads(client) == b"rollout 2"
    world.restore(old)
    assert await refused(world.device()[0]) is Reason.TRUST_ROLLBACK


@pytest.mark.parametrize("damage", ["zeroed", "gone", "garbage"])
async def test_an_old_repository_is_refused_also_when_a_power_cut_took_the_cache(world: World, damage: str) -> None:
    old = world.keep()
    await world.publish("rollouts", ROLLOUT, b"rollout 2")
    assert await reads(world.device()[0]) == b"rollout 2"
    cache = world.path / "device" / "tuf"
    if damage == "gone":
        shutil.rmtree(cache)
    else:
        for file in cache.glob("*.json"):
            if not file.is_symlink():
                file.write_bytes(b"" if damage == "zeroed" else b"\0" * 500)
    world.restore(old)
    assert await refused(world.device()[0]) is Reason.TRUST_ROLLBACK


async def test_a_cache_that_was_lost_is_fetched_again(world: World) -> None:
    assert await reads(world.device()[0]) == b"rollout 1"
    for file in (world.path / "device" / "tuf").rglob("*"):
        if file.is_file() and not file.is_symlink():
            file.write_bytes(b"")
    assert await reads(world.device()[0]) == b"rollout 1"


async def test_a_floor_that_cannot_be_read_costs_a_protection_and_is_told(world: World) -> None:
    await reads(world.device()[0])
    (world.path / "device" / "floor.json").write_bytes(b"\0" * 100)
    client, _ = world.device()
    assert await reads(client) == b"rollout 1"
    assert json.loads((world.path / "device" / "floor.json").read_bytes())["roles"]["timestamp"]["version"] == 3


async def test_a_repository_that_is_frozen_is_stale_when_its_timestamp_ends(world: World) -> None:
    client, _ = world.device()
    await reads(client)
    world.later(days=1, seconds=1)
    assert await refused(world.device()[0]) is Reason.STALE_METADATA
    world.later(hours=-2)
    assert await reads(world.device()[0]) == b"rollout 1", "the floor is no later than what was valid"


async def test_an_old_clock_does_not_make_old_metadata_valid(world: World) -> None:
    old = world.keep()
    await reads(world.device()[0])
    world.later(hours=23)
    await world.publish("rollouts", ROLLOUT, b"rollout 2")
    await reads(world.device()[0])
    world.restore(old)
    world.now = datetime(1970, 1, 1, tzinfo=UTC)
    assert await refused(world.device()[0]) is Reason.TRUST_ROLLBACK
    fresh = world.device("fresh")[0]
    assert await reads(fresh) == b"rollout 1", "a device that has never seen anything can know no better"


async def test_a_clock_that_is_behind_is_noted_and_one_ten_years_ahead_blocks_and_harms_nothing(world: World) -> None:
    client, _ = world.device()
    await reads(client)
    assert client.clock_ok
    right = world.now
    world.now = datetime(1970, 1, 1, tzinfo=UTC)
    client, _ = world.device()
    assert await reads(client) == b"rollout 1"
    assert not client.clock_ok
    world.now = right.replace(year=2036)
    assert await refused(world.device()[0]) is Reason.TRUST_EXPIRED
    world.now = right
    assert await reads(world.device()[0]) == b"rollout 1"


async def test_keys_of_rollouts_can_release_nothing(world: World, tmp_path: Path) -> None:
    """Somebody has stolen every online key, and writes what he likes into the roles that they sign."""
    stolen = tmp_path / "stolen"
    shutil.copytree(tmp_path / "keys" / "online", stolen / "online")
    thief = await world.opened(KeyRing(stolen))
    change = Transaction()
    change.put("rollouts", MANIFEST.format(99), b"malware")
    change.put("deltas", MANIFEST.format(98), b"malware")
    await thief.commit(change)
    client, _ = world.device()
    await client.refresh()
    for version in (98, 99):
        with pytest.raises(Missing):
            await client.fetch(MANIFEST.format(version), max_bytes=1000)


async def test_a_device_that_was_away_for_many_rotations_follows_them_all(world: World) -> None:
    client, _ = world.device()
    await reads(client)
    for role in ("root", "timestamp", "releases", "root", "snapshot", "targets", "rollouts", "deltas", "root"):
        repository = await world.opened()
        await repository.rotate(role)
    await world.publish("rollouts", ROLLOUT, b"rollout 2")
    assert await reads(world.device()[0]) == b"rollout 2"
    assert await reads(world.device("new")[0]) == b"rollout 2"


async def test_new_keys_of_the_timestamp_begin_the_floor_anew(world: World) -> None:
    """As after a fast-forward attack: somebody signed a version that nobody could go beyond."""
    repository = await world.opened()
    repository.timestamp.signed.version = 2**40
    await repository.commit(Transaction(renew={"snapshot"}))
    await reads(world.device()[0])
    repository = await world.opened()
    await repository.rotate("timestamp")
    repository.timestamp.signed.version = 5
    await repository.commit(Transaction(renew={"snapshot"}))
    assert await reads(world.device()[0]) == b"rollout 1"


async def test_a_root_that_too_few_have_signed_is_refused(world: World) -> None:
    client, _ = world.device()
    await reads(client)
    repository = await world.opened()
    await repository.rotate("root")
    file = world.directory / "metadata" / "2.root.json"
    document = json.loads(file.read_bytes())
    document["signatures"] = document["signatures"][:1]
    file.write_bytes(json.dumps(document).encode())
    assert await refused(world.device()[0]) is Reason.TRUST_SIGNATURE


async def test_another_repository_s_keys_are_nobody_s_here(world: World, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = World(tmp_path / "other")
    await other.create()
    client, _ = world.device(root=other.root)
    assert await refused(client) is Reason.TRUST_SIGNATURE


async def test_keys_of_another_kind_are_refused(world: World) -> None:
    document = json.loads(world.root)
    for key in document["signed"]["keys"].values():
        key["scheme"], key["keytype"] = "ecdsa-sha2-nistp256", "ecdsa"
    client, _ = world.device(root=json.dumps(document).encode())
    with pytest.raises(TrustError):
        await client.refresh()


async def test_what_ngclient_judges_expiry_by_is_what_is_set(world: World) -> None:
    client, _ = world.device()
    await client.refresh()
    assert client._updater is not None
    assert client._updater._trusted_set.reference_time == world.now
    set_reference_time(client._updater, datetime(2000, 1, 1, tzinfo=UTC))
    assert client._updater._trusted_set.reference_time.year == 2000


def test_every_role_has_a_place_and_an_end() -> None:
    assert {role.place for role in ROLES.values()} == {"offline", "online"}
    assert all(role.threshold <= role.keys for role in ROLES.values())
