"""What a device takes for signed, and what that costs."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from sync.domain.errors import DiskError, Missing, Reason, Refused, TooSlow, TrustError, Unreachable
from sync.trust.client import TrustClient, TrustLimits
from sync.trust.floor import FloorFile
from tests.fakes.sync.store import MemoryStore
from tests.unit.sync.trust.world import MANIFEST, ROLLOUT, World, reads, refused

POLL = ["metadata/2.root.json", "metadata/timestamp.json"]


async def test_a_device_reads_what_was_signed_and_what_is_signed_later(world: World) -> None:
    client, _ = world.device()
    assert await reads(client) == b"rollout 1"
    assert await reads(client, MANIFEST.format(1)) == b"manifest 1"
    await world.publish("rollouts", ROLLOUT, b"rollout 2")
    assert await reads(client) == b"rollout 2"
    with pytest.raises(Missing, match="nobody has signed one"):
        await client.fetch("rollouts/other.json", max_bytes=1000)


async def test_versions_are_told_by_role(world: World) -> None:
    client, _ = world.device()
    await client.refresh()
    assert client.versions == {
        "root": 1, "timestamp": 3, "snapshot": 3, "targets": 1, "releases": 2, "rollouts": 2, "deltas": 1
    }  # fmt: skip


async def test_when_what_was_verified_ends_is_told_by_type(world: World) -> None:
    client, _ = world.device()
    assert (dict(client.ends), client.signed_until) == ({}, 0.0)
    await client.refresh()
    assert set(client.ends) == {"root", "timestamp", "snapshot", "targets"}
    assert client.signed_until == client.ends["timestamp"] > world.now.timestamp()
    await client.target(ROLLOUT)
    assert client.ends["targets"] < client.ends["root"], "the first of what is delegated to ends before the rest"


async def test_a_poll_with_nothing_new_asks_twice_and_a_change_for_what_changed(world: World) -> None:
    await reads(world.device()[0])
    client, store = world.device()
    await reads(client)
    assert [path for path, _ in store.asked] == POLL
    await world.publish("rollouts", ROLLOUT, b"rollout 2")
    client, store = world.device()
    await reads(client)
    assert len(store.asked) == 5


async def test_a_document_is_refused_where_it_is_longer_than_whoever_asks_can_take(world: World) -> None:
    client, store = world.device()
    await client.refresh()
    await client.target(ROLLOUT)
    asked = len(store.asked)
    with pytest.raises(Refused, match="want at most 8 bytes, got 9"):
        await client.fetch(ROLLOUT, max_bytes=8)
    assert len(store.asked) == asked, "and is not even asked for"


async def test_before_the_first_refresh_nothing_is_signed(world: World) -> None:
    with pytest.raises(TrustError, match="nothing was refreshed yet"):
        await world.device()[0].fetch(ROLLOUT, max_bytes=1000)


async def test_what_the_last_good_refresh_said_holds_while_the_store_is_away(world: World) -> None:
    client, store = world.device()
    await reads(client)

    async def away(path: str) -> None:
        raise Unreachable("memory: nobody answers")

    store.hook = away
    with pytest.raises(Unreachable, match="nobody answers"):
        await client.refresh()
    assert (await client.fetch(ROLLOUT, max_bytes=1000))[0] == b"rollout 1"
    store.hook = None
    await client.refresh()


@pytest.mark.parametrize("role", ["snapshot", "targets", "rollouts"])
async def test_metadata_that_is_not_there_is_missing(world: World, role: str) -> None:
    path = world.newest(role)
    del world.store.objects[path]
    with pytest.raises(Missing, match=path):
        await reads(world.device()[0])


@pytest.mark.parametrize("damage", [b"", b"\0" * 400, b"[" * 100_000, b"{}", b'{"signed": 1}'])
async def test_a_cache_that_was_lost_is_fetched_again(world: World, damage: bytes) -> None:
    await reads(world.device()[0])
    for file in (world.path / "device" / "tuf").rglob("*"):
        if file.is_file() and not file.is_symlink():
            file.write_bytes(damage)
    client, store = world.device()
    assert await reads(client) == b"rollout 1"
    assert len(store.asked) > len(POLL)


@pytest.mark.parametrize("place", ["timestamp.json", "snapshot.json"])
async def test_a_pipe_in_the_cache_is_not_waited_for(world: World, place: str) -> None:
    client, _ = world.device()
    assert await reads(client) == b"rollout 1"
    pipe = world.path / "device" / "tuf" / place
    pipe.unlink()
    os.mkfifo(pipe)
    client, _ = world.device()
    reading = asyncio.ensure_future(reads(client))
    done, _ = await asyncio.wait((reading,), timeout=5)
    if not done:  # its thread ends when somebody writes
        os.close(os.open(pipe, os.O_RDWR))
    assert done, "it waits"
    assert reading.result() == b"rollout 1"


async def test_what_a_dead_process_was_writing_is_swept_away(world: World) -> None:
    await reads(world.device()[0])
    left = world.path / "device" / "tuf" / "tmpa1b2c3d4"
    left.write_bytes(b"half of a")
    await reads(world.device()[0])
    assert not left.exists()


async def test_documents_that_nobody_asks_for_any_more_are_not_kept_for_ever(world: World) -> None:
    client, _ = world.device()
    for number in range(70):
        await world.publish("rollouts", ROLLOUT, b"rollout %d" % number)
        await reads(client)
    kept = list((world.path / "device" / "tuf" / "targets").iterdir())
    assert len(kept) == 64
    assert b"rollout 69" in {path.read_bytes() for path in kept}


async def test_a_cache_that_cannot_be_written_is_a_fault_of_the_disk(world: World) -> None:
    (world.path / "device").mkdir()
    (world.path / "device" / "tuf").write_bytes(b"a file where a directory should be")
    with pytest.raises(DiskError, match="tuf: File exists"):
        await world.device()[0].refresh()


async def test_an_answer_that_does_not_come_ends_with_its_time(world: World, tmp_path: Path) -> None:
    for limits, stuck in (
        (TrustLimits(request_s=0.05), "metadata/timestamp.json"),
        (TrustLimits(total_s=0.05), "metadata/2.root.json"),
    ):
        client, store = limited(world, tmp_path / f"{limits.request_s}", limits)

        async def hang(path: str, stuck: str = stuck) -> None:
            if path == stuck:
                await asyncio.Event().wait()

        store.hook = hang
        with pytest.raises(TooSlow, match=r"want it within 0\.05 s"):
            await client.refresh()
        store.hook = None
        assert await reads(client) == b"rollout 1"


async def test_a_document_that_does_not_come_ends_with_its_time(world: World, tmp_path: Path) -> None:
    client, store = limited(world, tmp_path, TrustLimits(total_s=0.5))
    await client.refresh()
    await client.target(ROLLOUT)

    async def hang(path: str) -> None:
        await asyncio.Event().wait()

    store.hook = hang
    with pytest.raises(TooSlow, match=f"{ROLLOUT}: want it within"):
        await client.fetch(ROLLOUT, max_bytes=1000)


async def test_who_is_cancelled_leaves_no_thread_behind_and_nothing_asked(world: World) -> None:
    client, store = world.device()
    reached, ended = asyncio.Event(), asyncio.Event()

    async def hang(path: str) -> None:
        if path == "metadata/timestamp.json":
            reached.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

    store.hook = hang
    running = asyncio.create_task(client.refresh())
    await reached.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert ended.is_set()
    store.hook = None
    asked = len(store.asked)
    await asyncio.sleep(0)
    assert len(store.asked) == asked
    assert await reads(client) == b"rollout 1"


async def test_two_who_ask_at_once_are_served_one_after_the_other(world: World) -> None:
    client, store = world.device()
    at_once, most = 0, 0

    async def count(path: str) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0)
        at_once -= 1

    store.hook = count
    await asyncio.gather(client.refresh(), client.refresh(), client.refresh())
    assert most == 1


async def test_a_store_that_breaks_its_promise_is_a_bug_and_stays_one(world: World) -> None:
    client, store = world.device()

    async def buggy(path: str) -> None:
        raise KeyError(path)

    store.hook = buggy
    with pytest.raises(KeyError):
        await client.refresh()


async def test_a_device_that_was_away_for_many_rotations_follows_them_all(world: World) -> None:
    client, _ = world.device()
    await reads(client)
    roles = ("root", "timestamp", "releases", "root", "snapshot", "targets", "rollouts", "deltas", "root", "root")
    for role in roles:
        repository = await world.opened()
        await repository.rotate(role)
        world.later(days=30)
    await (await world.opened()).refresh()
    await world.publish("rollouts", ROLLOUT, b"rollout 2")
    assert await reads(world.device()[0]) == b"rollout 2"
    assert await reads(world.device("new")[0]) == b"rollout 2"
    cache = world.path / "device" / "tuf"
    shutil.rmtree(cache / "root_history")
    assert await reads(world.device()[0]) == b"rollout 2"


async def test_a_root_that_is_no_root_is_refused(world: World) -> None:
    for root in (b"", b"{}", world.store.objects[world.newest("targets")], world.root[:-10]):
        assert await refused(world.device(root=root or b" ")[0]) is Reason.TRUST_SIGNATURE


def limited(world: World, place: Path, limits: TrustLimits) -> tuple[TrustClient, MemoryStore]:
    store = MemoryStore(world.store.objects)
    place.mkdir(exist_ok=True)
    client = TrustClient(
        store,
        root=world.root,
        cache=place / "tuf",
        floor=FloorFile(world.files, place / "floor.json"),
        now=lambda: world.now.timestamp(),
        limits=limits,
    )
    return client, store
