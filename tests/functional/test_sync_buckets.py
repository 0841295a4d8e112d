"""From the operator's commands over a bucket to a device; and publishers who are killed in any of their writes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sync.domain.digests import digest_of
from sync.domain.errors import Conflict, Missing, SyncError
from sync.domain.layout import TIMESTAMP, blob_path, manifest_name, rollout_name
from sync.domain.rollout import encode, parse_rollout
from sync.fleet.keys import ROLES, KeyRing
from sync.fleet.rollouts import empty, settings
from sync.fleet.sign import Repository, Transaction
from sync.stores.s3 import PROBE, S3Limits
from sync.stores.web import HttpLimits
from tests.fakes.sync.bucket import Buckets, buckets
from tests.functional.bucket_fleet import GROUP, WITHIN_S, Fleet
from tests.tflite_models import picking
from tests.waiting import until

pytestmark = pytest.mark.timeout(600)
HASTY = S3Limits(http=HttpLimits(connect_s=1.0, read_s=1.0, total_s=1.0), attempts=2, pause_s=0.001)


@pytest.fixture(scope="module")
def _buckets() -> Iterator[Buckets]:
    with buckets() as serving:
        yield serving


@pytest.fixture
def fleet(_buckets: Buckets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return Fleet(_buckets, tmp_path, _buckets.fresh())


@pytest.fixture
async def signed(fleet: Fleet) -> Fleet:
    """With a repository, and a rollout in it."""
    ring = KeyRing(fleet.path / "keys")
    for role in ROLES.values():
        ring.make(role)
    store = fleet.store()
    repository = Repository(store, ring)
    (fleet.path / "root.json").write_bytes(await repository.create())
    change = Transaction()
    change.put("rollouts", rollout_name(GROUP), b"old")
    await repository.commit(change)
    await store.close()
    return fleet


async def test_what_an_operator_publishes_to_a_bucket_a_device_takes_and_verifies(fleet: Fleet) -> None:
    one, two = picking((10.0, 11.0, 12.0)), picking((20.0, 21.0, 22.0))
    assert "an empty store, signed" in await fleet.run("keys", "init", "--root", str(fleet.path / "root.json"))
    assert "m@1 (cpu): published" in await fleet.publish(1, one)
    assert "m@1 goes to 100 %" in await fleet.run("rollout", "start", "m", "1", "--group", GROUP)
    await fleet.run("rollout", "promote", "m", "--group", GROUP)
    async with fleet.device("device") as device:
        await device.documents.refresh()
        assert (await device.documents.rollout(GROUP)).models["m"].stable == 1
        assert await device.takes("m", 1) == {"model.tflite": one}
        fleet.buckets.asked.clear()
        await device.documents.refresh()
        polled = [headers.get("If-None-Match") for method, path, headers in fleet.buckets.asked if TIMESTAMP in path]
        assert len(polled) == 1
        assert polled[0], "an idle poll brings no body"
        assert "m@2 (cpu): published" in await fleet.publish(2, two)
        await fleet.run("rollout", "start", "m", "2", "--group", GROUP, "--percent", "10")
        await device.documents.refresh()
        candidate = (await device.documents.rollout(GROUP)).models["m"].candidate
        assert candidate is not None
        assert (candidate.version, candidate.percent) == (2, 10.0)
        assert await device.takes("m", 2) == {"model.tflite": two}
    async with fleet.device("device") as device:  # started again
        await device.documents.refresh()
        assert await device.takes("m", 2) == {"model.tflite": two}
    assert '"role": "timestamp"' in await fleet.run("keys", "show", "--json")


async def test_what_is_flipped_in_a_bucket_is_believed_by_no_device(fleet: Fleet) -> None:
    model = picking()
    await fleet.run("keys", "init", "--root", str(fleet.path / "root.json"))
    await fleet.publish(1, model)
    store = fleet.store()
    paths = [path async for path, _, _ in store.walk("") if ".root." not in path and ".deltas." not in path]
    assert len(paths) > 6
    for path in paths:
        good = await store.get(path, max_bytes=1 << 20)
        fleet.buckets.overwrite(fleet.bucket, f"fleet/one/{path}", bytes([good[0] ^ 1]) + good[1:])
        async with fleet.device() as device:
            try:
                await device.documents.refresh()
                taken = await device.takes("m", 1)
            except SyncError:
                taken = {}
            assert taken in ({}, {"model.tflite": model}), path
            if "blobs" in path or path in (TIMESTAMP, manifest_name("m", 1)):
                assert taken == {}
        fleet.buckets.overwrite(fleet.bucket, f"fleet/one/{path}", good)
    await store.close()


def dying(writes: int, how: str) -> Callable[[str, str], str]:
    """So many writes are done, and then nobody hears of the publisher, or he of anybody, again."""
    left = writes

    def behave(method: str, path: str) -> str:
        nonlocal left
        if method == "PUT" and left > 0:
            left -= 1
            return "lost" if left == 0 and how == "after" else ""
        return "cut" if left == 0 else ""

    return behave


def stuck(writes: int, how: str, reached: threading.Event) -> Callable[[str, str], str]:
    """The bucket does so many writes, and is slow with the next; those to try it out are none."""
    left = writes

    def behave(method: str, path: str) -> str:
        nonlocal left
        if method != "PUT" or path.endswith(PROBE):
            return ""
        left -= 1
        if left == -1:
            reached.set()
            return how
        return ""

    return behave


@pytest.mark.parametrize("how", ["before", "after"])
async def test_a_publisher_who_is_gone_between_any_two_writes_leaves_the_old_state_or_the_new_one(
    signed: Fleet, how: str
) -> None:
    """`after`: the last write arrives, and he does not hear of it."""
    for writes in range(30):
        await signed.commit(b"old %d" % writes, writes)
        store = signed.store(HASTY)
        await store.create("blobs/before", b"")  # so that the bucket was tried out
        repository = await signed.opened(store)
        signed.buckets.behave = dying(writes, how)
        try:
            await repository.commit(signed.change(b"new %d" % writes, writes + 100))
            gone = False
        except SyncError:
            gone = True
        signed.buckets.behave = lambda method, path: ""
        await store.close()
        assert await signed.reads() in ([b"old %d" % writes] if gone else []) + [b"new %d" % writes]
        if not gone:
            break
    assert 6 < writes < 29
    await signed.commit(b"last", 1000)
    assert await signed.reads() == b"last"


async def test_what_a_publisher_left_behind_hinders_nobody(signed: Fleet) -> None:
    store = signed.store()
    for number in range(3):
        for role in ("rollouts", "releases", "snapshot"):
            await store.create(f"metadata/{2 + number}.{role}.json", b"left")
    await store.close()
    await signed.commit(b"new", 1)
    assert await signed.reads() == b"new"


async def test_of_two_publishers_at_once_one_is_told(signed: Fleet) -> None:
    stores = [signed.store() for _ in range(4)]
    repositories = [Repository(store, KeyRing(signed.path / "keys")) for store in stores]
    await asyncio.gather(*(repository.open() for repository in repositories))

    async def commit(number: int) -> bool:
        change = Transaction()
        change.put("rollouts", rollout_name(GROUP), b"by %d" % number)
        try:
            await repositories[number].commit(change)
        except Conflict:
            return False
        return True

    done = await asyncio.gather(*map(commit, range(4)))
    assert sum(done) == 1
    assert await signed.reads() == b"by %d" % done.index(True)
    for store in stores:
        await store.close()


@pytest.mark.parametrize("how", ["hang", "drop"])
async def test_a_publisher_killed_in_any_of_his_writes_leaves_the_old_state_or_the_new_one(
    signed: Fleet, how: str
) -> None:
    """SIGKILL while the bucket works on a write, which is done, or not, when the publisher is gone."""
    killed = 0
    while True:
        await signed.commit(encode(settings(empty(GROUP), spread_s=float(killed))), killed)
        reached = threading.Event()
        signed.buckets.release.clear()
        signed.buckets.behave = stuck(killed, how, reached)
        process = await signed.started("rollout", "start", "m", "0", "--group", GROUP)
        talk = asyncio.ensure_future(process.communicate())
        await until(lambda: reached.is_set() or talk.done(), within_s=WITHIN_S)  # noqa: B023 - it ends in this round
        if reached.is_set():
            process.kill()
        _, errors = await talk
        signed.buckets.behave = lambda method, path: ""
        signed.buckets.release.set()
        await until(lambda: not signed.buckets.working)
        models = parse_rollout(await signed.reads()).models
        if not reached.is_set():
            assert (process.returncode, errors) == (0, b"")
            assert models["m"].candidate is not None
            break
        killed += 1
        assert not models or models["m"].candidate is not None
    assert killed > 3


async def test_what_is_withdrawn_from_a_bucket_gc_frees_and_nothing_else(fleet: Fleet) -> None:
    await fleet.run("keys", "init", "--root", str(fleet.path / "root.json"))
    models = {version: picking((10.0 * version, 1.0)) for version in (1, 2, 3)}
    for version, model in models.items():
        await fleet.publish(version, model)
    await fleet.run("rollout", "start", "m", "3", "--group", GROUP)
    async with fleet.device("device") as device:
        await device.documents.refresh()
        assert await device.takes("m", 1) == {"model.tflite": models[1]}
        told = await fleet.run("withdraw", "m", "--keep", "1", "--quiet")
        assert told.startswith("m@1: is withdrawn\nm: `edge-sync gc` frees ")
        store = fleet.store()
        for days in (40, 20):
            paths = [path async for path, _, _ in store.walk("")]
            for path in paths:
                fleet.buckets.age(fleet.bucket, f"fleet/one/{path}", days * 86400)
            await fleet.run("refresh")
        await fleet.run("gc", "--quiet")
        left = {path async for path, _, _ in store.walk("blobs")}
        await store.close()
        assert left == {blob_path(digest_of(model)) for version, model in models.items() if version != 1}
        await fleet.run("verify", fleet.url, "--root", str(fleet.path / "root.json"), "--quiet")
        await device.documents.refresh()
        with pytest.raises(Missing):
            await device.takes("m", 1)
        assert await device.takes("m", 2) == {"model.tflite": models[2]}
