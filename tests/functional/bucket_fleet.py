"""An operator with a bucket and the command line, and devices that read from it."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from sync.agent.clock import SystemClock
from sync.agent.download import Downloader
from sync.agent.files import OsFiles
from sync.agent.places import Places
from sync.domain.layout import deltas_name, manifest_name, rollout_name
from sync.domain.ports import ReadStore
from sync.fleet.keys import KeyRing
from sync.fleet.sign import Repository, Transaction
from sync.stores.aws import bucket_of
from sync.stores.catalog import open_for_device
from sync.stores.s3 import S3Limits, S3Store
from sync.trust.client import TrustClient
from sync.trust.documents import SignedDocuments
from sync.trust.floor import FloorFile
from tests.fakes.sync.bucket import Buckets

ROOT = Path(__file__).parents[2]
GROUP = "g"
WITHIN_S = 60.0


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
        store = open_for_device(self.url, environment=self.buckets.environment)
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
