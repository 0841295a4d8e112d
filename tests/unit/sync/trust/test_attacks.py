"""Every attack on a device that the specification names, and those that the floor is there for.

Source: https://theupdateframework.github.io/specification/latest/, section 1.5.2
"""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import MetaFile

from sync.domain.errors import Missing, Reason, Refused, TrustError
from sync.domain.layout import TIMESTAMP
from sync.fleet.keys import KeyRing
from sync.fleet.sign import Transaction
from tests.unit.sync.trust.world import MANIFEST, ROLLOUT, World, reads, refused

ROLES = ("timestamp", "snapshot", "targets", "rollouts")
ENDLESS = 6_000_000


def document(world: World) -> str:
    (path,) = (path for path in world.store.objects if path.startswith("targets/rollouts/"))
    return path


@pytest.mark.parametrize("change", ["flip", "cut", "empty", "grow"])
async def test_a_document_that_is_not_what_was_signed_is_refused(world: World, change: str) -> None:
    data = world.store.objects[document(world)]
    flipped = bytes([data[0] ^ 1]) + data[1:]
    world.store.objects[document(world)] = {"flip": flipped, "cut": data[:-1], "empty": b"", "grow": data * 9}[change]
    with pytest.raises((TrustError, Refused)) as caught:
        await reads(world.device()[0])
    assert caught.value.reason is (Reason.NET_REFUSED if change == "grow" else Reason.TRUST_SIGNATURE)


@pytest.mark.parametrize("role", ["root", *ROLES])
async def test_endless_metadata_is_not_read_to_its_end(world: World, role: str) -> None:
    path = "metadata/2.root.json" if role == "root" else world.newest(role)
    world.store.objects[path] = b"[" * ENDLESS
    with pytest.raises(Refused, match="want at most"):
        await reads(world.device()[0])


@pytest.mark.parametrize("role", ROLES)
async def test_a_flipped_bit_in_any_metadata_is_refused_and_what_was_known_still_holds(world: World, role: str) -> None:
    client, _ = world.device("warm")
    await client.refresh()
    await world.publish("rollouts", ROLLOUT, b"rollout 2")
    path = world.newest(role)
    data = world.store.objects[path]
    refusals = 0
    for at in range(0, len(data), 23):
        world.store.objects[path] = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        device, _ = world.device(f"cold-{at}")
        try:
            # What no signature covers may change; what it says may not.
            assert await reads(device) == b"rollout 2"
        except (TrustError, Missing, Refused):
            refusals += 1
    assert refusals > len(range(0, len(data), 23)) / 2
    world.store.objects[path] = data
    assert await reads(client) == b"rollout 2"


async def test_an_old_repository_is_refused(world: World) -> None:
    old = world.keep()
    await world.publish("rollouts", ROLLOUT, b"rollout 2")
    assert await reads(world.device()[0]) == b"rollout 2"
    world.restore(old)
    assert await refused(world.device()[0]) is Reason.TRUST_ROLLBACK


@pytest.mark.parametrize("role", ["snapshot", "targets", "rollouts"])
async def test_old_metadata_under_a_new_number_is_refused(world: World, role: str) -> None:
    await world.publish("releases", MANIFEST.format(2), b"manifest 2")
    repository = await world.opened()
    await repository.commit(Transaction(renew={"targets"}))
    old = world.store.objects[world.newest(role)]
    await reads(world.device()[0])
    repository = await world.opened()
    await repository.commit(Transaction(renew={"targets", "rollouts"}))
    world.store.objects[world.newest(role)] = old
    assert await refused(world.device()[0]) is Reason.TRUST_ROLLBACK
    assert await refused(world.device("new")[0]) is Reason.TRUST_ROLLBACK


async def test_metadata_of_different_moments_does_not_go_together(world: World) -> None:
    """Mix and match: each file is signed, and they never were the repository at one time."""
    await world.publish("rollouts", ROLLOUT, b"rollout 2")
    early = world.keep()
    await world.publish("releases", MANIFEST.format(2), b"manifest 2")
    repository = await world.opened()
    repository.state.snapshot.signed.meta["rollouts.json"] = MetaFile(2)
    await repository.commit(Transaction(renew={"snapshot"}))
    world.forget()
    fresh = world.device("new")[0]
    assert await reads(fresh) == b"rollout 1", "who never saw the newer one can know no better"
    world_later = world.keep()
    world.restore(early)
    assert await reads(world.device()[0]) == b"rollout 2"
    world.restore(world_later)
    assert await refused(world.device()[0]) is Reason.TRUST_ROLLBACK


@pytest.mark.parametrize("damage", ["zeroed", "gone", "garbage"])
async def test_an_old_repository_is_refused_also_when_a_power_cut_took_the_cache(world: World, damage: str) -> None:
    old = world.keep()
    await world.publish("rollouts", ROLLOUT, b"rollout 2")
    assert await reads(world.device()[0]) == b"rollout 2"
    take_cache(world, damage)
    world.restore(old)
    assert await refused(world.device()[0]) is Reason.TRUST_ROLLBACK


async def test_plain_ngclient_would_take_the_old_one_then(world: World, tmp_path: Path) -> None:
    """Why there is a floor: without it, the test above passes off the old state as new."""
    old = world.keep()
    await world.publish("rollouts", ROLLOUT, b"rollout 2")
    await reads(world.device()[0])
    take_cache(world, "zeroed")
    (tmp_path / "device" / "floor.json").unlink()
    world.restore(old)
    assert await reads(world.device()[0]) == b"rollout 1"


async def test_old_roots_do_not_bring_old_keys_back(world: World) -> None:
    """The floor of a role ends with its keys: who could replay the root that had the old ones would have no floor."""
    old = world.keep()
    repository = await world.opened()
    await repository.rotate("timestamp")
    await world.publish("rollouts", ROLLOUT, b"rollout 2")
    assert await reads(world.device()[0]) == b"rollout 2"
    take_cache(world, "gone")
    world.restore(old)
    assert await refused(world.device()[0]) is Reason.TRUST_ROLLBACK


async def test_a_role_that_the_snapshot_left_out_may_not_come_back_older(world: World) -> None:
    old = json.loads(world.store.objects[world.newest("rollouts")])["signed"]["version"]
    await world.publish("rollouts", ROLLOUT, b"rollout 2")
    await reads(world.device()[0])
    thief = await world.opened()
    meta = thief.state.snapshot.signed.meta
    del meta["rollouts.json"]
    await thief.commit(Transaction(renew={"snapshot"}))
    take_cache(world, "gone")
    client, _ = world.device()
    await client.refresh()
    with pytest.raises(TrustError):
        await client.fetch(ROLLOUT, max_bytes=1000)
    meta["rollouts.json"] = MetaFile(old)
    await thief.commit(Transaction(renew={"snapshot"}))
    take_cache(world, "gone")
    assert await refused(world.device()[0]) is Reason.TRUST_ROLLBACK
    assert await reads(world.device("new")[0]) == b"rollout 1", "who never saw the newer one can know no better"


async def test_a_repository_that_is_frozen_is_stale_when_its_timestamp_ends(world: World) -> None:
    await reads(world.device()[0])
    world.later(days=1, seconds=1)
    assert await refused(world.device()[0]) is Reason.STALE_METADATA
    assert await refused(world.device()[0]) is Reason.STALE_METADATA, "also when it is tried again"


@pytest.mark.parametrize(
    ("role", "days", "reason"),
    [
        ("root", 366, Reason.TRUST_EXPIRED),
        ("targets", 181, Reason.TRUST_EXPIRED),
        ("releases", 91, Reason.TRUST_EXPIRED),
        ("rollouts", 4, Reason.STALE_METADATA),
        ("snapshot", 8, Reason.STALE_METADATA),
    ],
)
async def test_each_role_s_end_is_told_as_what_it_is(world: World, role: str, days: int, reason: Reason) -> None:
    """Everything else is signed anew."""
    name = MANIFEST.format(1) if role == "releases" else ROLLOUT
    await reads(world.device()[0], name)
    world.later(days=days)
    repository = await world.opened()
    if role != "root":
        await repository._write_root(repository.state)
    if role == "snapshot":
        await repository.commit(Transaction())
    else:
        await repository.commit(Transaction(renew={"targets", "releases", "rollouts", "snapshot"} - {role}))
    assert await refused(world.device()[0], name) is reason


async def test_versions_that_nobody_can_go_beyond_are_recovered_from_by_new_keys(world: World) -> None:
    """Fast-forward: a thief of the online keys signs a version that honest ones would reach in a billion years."""
    thief = await world.opened()
    for metadata in (thief.state.timestamp, thief.state.snapshot, thief.state.targets["rollouts"]):
        metadata.signed.version = 2**40
    await thief.commit(Transaction(renew={"rollouts"}))
    await reads(world.device()[0])
    for role in ("timestamp", "snapshot", "rollouts"):
        await (await world.opened()).rotate(role)
    repository = await world.opened()
    state = repository.state
    state.timestamp.signed.version, state.snapshot.signed.version, state.targets["rollouts"].signed.version = 50, 60, 70
    await repository.commit(Transaction(renew={"rollouts"}))
    device, _ = world.device()
    assert await reads(device) == b"rollout 1"
    assert (device.versions["timestamp"], device.versions["snapshot"], device.versions["rollouts"]) == (51, 61, 71)


async def test_a_version_beyond_all_numbers_is_refused_and_recovered_from(world: World) -> None:
    thief = await world.opened()
    thief.state.timestamp.signed.version = 2**70
    await thief.commit(Transaction())
    assert await refused(world.device()[0]) is Reason.TRUST_SIGNATURE
    world.forget()
    await (await world.opened()).rotate("timestamp")
    repository = await world.opened()
    repository.state.timestamp.signed.version = 9
    await repository.commit(Transaction())
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
        assert await client.target(MANIFEST.format(version)) is None
        with pytest.raises(Missing):
            await client.fetch(MANIFEST.format(version), max_bytes=1000)


async def test_keys_of_rollouts_can_delegate_no_more_than_is_theirs(world: World) -> None:
    """A role below a stolen one is asked for its own paths only."""
    thief = await world.opened()
    rollouts = thief.state.targets["rollouts"].signed
    rollouts.delegations = thief.state.targets["targets"].signed.delegations
    await thief.commit(Transaction(renew={"rollouts"}))
    client, store = world.device()
    await client.refresh()
    assert await client.target(MANIFEST.format(99)) is None
    assert not any(path.endswith("rollouts.json") for path, _ in store.asked)


async def test_a_root_that_too_few_have_signed_is_refused(world: World) -> None:
    await reads(world.device()[0])
    await (await world.opened()).rotate("root")
    path = world.newest("root")
    root = json.loads(world.store.objects[path])
    root["signatures"] = root["signatures"][:1]
    world.store.objects[path] = json.dumps(root).encode()
    assert await refused(world.device()[0]) is Reason.TRUST_SIGNATURE


async def test_another_repository_s_keys_are_nobody_s_here(world: World, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = World(tmp_path / "other")
    await other.create()
    assert await refused(world.device(root=other.root)[0]) is Reason.TRUST_SIGNATURE


async def test_a_device_that_is_provisioned_anew_follows_its_new_repository(world: World, tmp_path: Path) -> None:
    for role in ("root", "timestamp"):
        await (await world.opened()).rotate(role)
    await reads(world.device()[0])
    (tmp_path / "other").mkdir()
    other = World(tmp_path / "other")
    await other.create()
    await other.publish("rollouts", ROLLOUT, b"of the other")
    world.restore(other.keep())
    assert await reads(world.device(root=other.root)[0]) == b"of the other"


async def test_an_old_clock_does_not_make_old_metadata_valid(world: World) -> None:
    old = world.keep()
    await reads(world.device()[0])
    world.later(hours=23)
    await world.publish("rollouts", ROLLOUT, b"rollout 2")
    await reads(world.device()[0])
    world.restore(old)
    world.now = datetime(1970, 1, 1, tzinfo=UTC)
    assert await refused(world.device()[0]) is Reason.TRUST_ROLLBACK
    assert await reads(world.device("fresh")[0]) == b"rollout 1", "who has never seen anything can know no better"


@pytest.mark.parametrize("place", ["root", "targets"])
async def test_keys_of_another_kind_are_refused_however_well_they_sign(world: World, place: str) -> None:
    repository = await world.opened()
    spare = CryptoSigner.generate_ecdsa().public_key
    state = repository.state
    if place == "root":
        state.root.signed.add_key(spare, "snapshot")
        await repository._write_root(state)
    else:
        state.targets["targets"].signed.add_key(spare, "releases")
        await repository.commit(Transaction(renew={"targets"}))
    with pytest.raises(TrustError, match=f"{place}: want keys of ed25519, got one of ecdsa, ecdsa-sha2-nistp256"):
        await world.device()[0].refresh()
    client, _ = world.device("conformance", any_scheme=True)
    await client.refresh()


async def test_a_timestamp_of_another_type_is_refused(world: World) -> None:
    world.store.objects[TIMESTAMP] = world.store.objects[world.newest("snapshot")]
    assert await refused(world.device()[0]) is Reason.TRUST_SIGNATURE


def take_cache(world: World, damage: str) -> None:
    """What a power cut may leave of ngclient's files."""
    cache = world.path / "device" / "tuf"
    if damage == "gone":
        shutil.rmtree(cache)
        return
    for file in cache.rglob("*.json"):
        if not file.is_symlink():
            file.write_bytes(b"" if damage == "zeroed" else b"\0" * 500)
