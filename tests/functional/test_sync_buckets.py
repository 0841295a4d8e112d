"""From the operator's commands over a bucket to a device; and publishers who are killed in any of their writes."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from sync.agent.download import Downloader
from sync.agent.files import OsFiles
from sync.agent.staging import Places
from sync.app import SystemClock
from sync.domain.errors import Conflict, SyncError
from sync.domain.layout import TIMESTAMP, deltas_name, manifest_name, rollout_name
from sync.domain.ports import ReadStore
from sync.domain.rollout import encode, parse_rollout
from sync.fleet.keys import ROLES, KeyRing
from sync.fleet.rollouts import empty, settings
from sync.fleet.sign import Repository, Transaction
from sync.stores.aws import bucket_of
from sync.stores.catalog import open_store
from sync.stores.s3 import PROBE, S3Limits, S3Store
from sync.stores.web import HttpLimits
from sync.trust.client import TrustClient
from sync.trust.documents import SignedDocuments
from sync.trust.floor import FloorFile
from tests.fakes.sync.bucket import Buckets, buckets
from tests.tflite_models import picking
from tests.waiting import until

pytestmark = pytest.mark.timeout(240)
ROOT = Path(__file__).parents[2]
GROUP = "g"
WITHIN_S = 60.0
HASTY = S3Limits(http=HttpLimits(connect_s=1.0, read_s=1.0, total_s=1.0), attempts=2, pause_s=0.001)


class Device:
    """What it has on its disk stays, whoever opens it again by its name."""

    def __init__(self, store: ReadStore, root: bytes, path: Path) -> None:
        self.store, self.places, files = store, Places(path, path / "models"), OsFiles()
        files.make(path)
        floor = FloorFile(files, path / "floor.json")
        self.client = TrustClient(store, root=root, cache=path / "tuf", floor=floor)
        self.documents = SignedDocuments(self.client)
        self.downloader = Downloader(files, self.places, SystemClock())

    async def takes(self, model: str, version: int) -> dict[str, bytes]:
        """The version's files, verified."""
        manifest, _ = await self.documents.release(model, version)
        (variant,) = manifest.variants
        for file in variant.files:
            await self.downloader.blob(file.digest, file.size, [self.store], min_rate_Bps=0)
        return {file.path: self.places.blob(file.digest).read_bytes() for file in variant.files}


@dataclass(slots=True)
class Fleet:
    buckets: Buckets
    path: Path
    bucket: str

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}/fleet/one"

    def store(self, limits: S3Limits | None = None) -> S3Store:
        return S3Store(bucket_of(self.url, self.buckets.environment), limits=limits)

    async def started(self, *words: str) -> asyncio.subprocess.Process:
        clean = {name: text for name, text in os.environ.items() if not name.startswith(("AWS_", "EDGE_"))}
        mine = {"EDGE_SYNC_STORE": self.url, "EDGE_SYNC_KEYS": str(self.path / "keys"), "NO_PROXY": "127.0.0.1"}
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "sync", *words),
            cwd=ROOT,
            env=clean | self.buckets.environment | mine,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def run(self, *words: str) -> str:
        """What the command printed; it says nothing else, and succeeds."""
        process = await self.started(*words)
        out, errors = await asyncio.wait_for(process.communicate(), WITHIN_S)
        assert (process.returncode, errors.decode()) == (0, "")
        return out.decode()

    async def publish(self, version: int, model: bytes) -> str:
        directory = self.path / f"given-{version}"
        directory.mkdir()
        (directory / "model.tflite").write_bytes(model)
        return await self.run("publish", str(directory), "--name", "m", "--version", str(version))

    def change(self, rollout: bytes, version: int) -> Transaction:
        """A document of each kind."""
        change = Transaction()
        change.put("rollouts", rollout_name(GROUP), rollout)
        change.put("releases", manifest_name("m", version), b"manifest %d" % version)
        change.put("deltas", deltas_name("m", version), b"deltas %d" % version)
        return change

    async def opened(self, store: S3Store) -> Repository:
        repository = Repository(store, KeyRing(self.path / "keys"))
        await repository.open()
        return repository

    async def commit(self, rollout: bytes, version: int) -> None:
        """By a publisher to whom nothing happens."""
        store = self.store()
        try:
            await (await self.opened(store)).commit(self.change(rollout, version))
        finally:
            await store.close()

    @asynccontextmanager
    async def device(self, name: str = "") -> AsyncIterator[Device]:
        """name: "" for one that was never seen."""
        store = open_store(self.url, environment=self.buckets.environment)
        path = self.path / (name or f"device-{os.urandom(4).hex()}")
        try:
            yield Device(store, (self.path / "root.json").read_bytes(), path)
        finally:
            await store.close()

    async def reads(self) -> bytes:
        """What a device believes of the group's rollout."""
        async with self.device() as device:
            await device.client.refresh()
            return (await device.client.fetch(rollout_name(GROUP), max_bytes=10_000))[0]


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
