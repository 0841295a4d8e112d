"""A poll that finds the timestamp that it knows: one request, and nothing lost by it."""

from __future__ import annotations

import pytest

from sync.domain.errors import Reason, TrustError, Unreachable
from sync.domain.layout import TIMESTAMP
from sync.fleet.sign import Transaction
from sync.trust.floor import FloorFile
from tests.unit.sync.trust.world import MANIFEST, ROLLOUT, World, reads, refused

ROOT = "metadata/{}.root.json"


async def test_a_poll_with_nothing_new_asks_for_the_timestamp_and_nothing_else(world: World) -> None:
    client, store = world.device()
    await reads(client)
    store.taken()
    assert await reads(client) == b"rollout 1"
    assert [path for path, _ in store.asked] == [TIMESTAMP]


async def test_a_timestamp_that_was_signed_anew_is_a_whole_poll(world: World) -> None:
    client, store = world.device()
    await reads(client)
    await (await world.opened()).commit(Transaction())
    store.asked.clear()
    await reads(client)
    assert [path for path, _ in store.asked] == [TIMESTAMP, ROOT.format(2)]
    assert client.versions["timestamp"] == 4


async def test_keys_that_a_root_revokes_sign_nothing_more_for_a_device_that_has_polled_in_between(world: World) -> None:
    client, _ = world.device()
    await reads(client)
    thief = world.keep()
    await (await world.opened()).rotate("timestamp")
    await world.publish("rollouts", ROLLOUT, b"rollout 2")
    assert await reads(client) == b"rollout 2"
    rotated = world.keep()
    world.store.objects[TIMESTAMP] = thief[TIMESTAMP]
    assert await refused(client) is Reason.TRUST_SIGNATURE
    world.restore(rotated)
    assert await reads(client) == b"rollout 2"


async def test_a_root_that_comes_between_the_timestamp_and_itself_is_no_reason_for_alarm(world: World) -> None:
    """The timestamp that was read first is by keys that the root, read next, has revoked."""
    client, store = world.device()
    await reads(client)
    await world.publish("rollouts", ROLLOUT, b"rollout 2")

    async def rotates(path: str) -> None:
        if path == ROOT.format(2):
            store.hook = None
            await (await world.opened()).rotate("timestamp")

    store.hook = rotates
    assert await reads(client) == b"rollout 2"
    assert client.versions["root"] == 3


async def test_a_root_whose_publisher_died_before_the_timestamp_waits_for_it(world: World) -> None:
    client, _ = world.device()
    await reads(client)
    repository = await world.opened()
    await repository._write_root(repository.state)
    await reads(client)
    assert client.versions["root"] == 1
    await repository.commit(Transaction())
    await reads(client)
    assert client.versions["root"] == 2


@pytest.mark.parametrize(
    ("commits", "hours", "reason"),
    [(0, 24, Reason.STALE_METADATA), (3, 3, Reason.STALE_METADATA)],
)
async def test_what_has_expired_is_not_unchanged(world: World, commits: int, hours: int, reason: Reason) -> None:
    client, _ = world.device()
    await reads(client)
    for _ in range(commits):
        world.later(hours=23)
        await (await world.opened()).commit(Transaction())
        await reads(client)
    world.later(hours=hours)
    assert await refused(client) is reason


async def test_who_saw_a_newer_timestamp_and_could_not_follow_it_does_not_take_the_old_one_again(world: World) -> None:
    client, store = world.device()
    await reads(client)
    old = world.store.objects[TIMESTAMP]
    await world.publish("rollouts", ROLLOUT, b"rollout 2")

    async def breaks(path: str) -> None:
        if "snapshot" in path:
            raise Unreachable("memory: nobody answers")

    store.hook = breaks
    with pytest.raises(Unreachable):
        await client.refresh()
    store.hook = None
    new, world.store.objects[TIMESTAMP] = world.store.objects[TIMESTAMP], old
    assert await refused(client) is Reason.TRUST_ROLLBACK
    world.store.objects[TIMESTAMP] = new
    assert await reads(client) == b"rollout 2"


async def test_the_floor_s_time_goes_on_while_nothing_changes(world: World) -> None:
    """Else a clock that is set back would make valid again what had ended."""
    client, _ = world.device()
    await reads(client)
    world.later(hours=20)
    await reads(client)
    assert FloorFile(world.files, world.path / "device" / "floor.json").load().time == world.now.timestamp()


async def test_a_document_of_a_role_that_nobody_asked_for_before_is_judged_by_today(world: World) -> None:
    client, store = world.device()
    await client.refresh()
    for _ in range(3):
        world.later(hours=23)
        await (await world.opened()).commit(Transaction(renew={"releases"}))
        await client.refresh()
    world.later(hours=4)
    store.taken()
    await client.refresh()
    assert len(store.asked) == 1
    with pytest.raises(TrustError) as caught:
        await client.fetch(ROLLOUT, max_bytes=1000)
    assert caught.value.reason is Reason.STALE_METADATA, "a rollout, which no person signs"
    assert (await client.fetch(MANIFEST.format(1), max_bytes=1000))[0] == b"manifest 1"
