"""A device with everything that it needs: a store, keys, a server at its socket, and an agent that has done its work."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sync.agent.limits import UpdateLimits
from sync.app import assemble
from sync.config import Config, load_config
from sync.doctor.examine import examine
from sync.doctor.finding import Finding, Level
from sync.domain.digests import digest_of
from sync.domain.layout import blob_path, manifest_name, rollout_name
from sync.domain.release import FORMAT, File, Manifest, Variant, encode_manifest
from sync.domain.rollout import FORMAT as ROLLOUT_FORMAT
from sync.domain.rollout import Candidate, ModelRollout, Probation, Rollout, encode
from sync.fleet.keys import ROLES, KeyRing
from sync.fleet.sign import Repository, Transaction
from sync.stores.directory import DirectoryStore
from tests.fakes.sync.admin import AdminServer, admin_at

MODEL, GROUP = "detector", "line-3"


class Device:
    """`settings`: keys of the configuration, as flags."""

    def __init__(self, path: Path, server: AdminServer) -> None:
        self.path, self.server = path, server
        self.store = DirectoryStore(path / "store")
        self.keys = KeyRing(path / "keys")
        self.settings: dict[str, Any] = {
            "device.id": "cam-1",
            "device.group": GROUP,
            "store.url": str(path / "store"),
            "store.root": str(path / "root.json"),
            "paths.state_dir": str(path / "state"),
            "paths.models_dir": str(path / "models"),
            "paths.admin_uds": str(path / "admin.sock"),
            "paths.ephemeral": "true",  # for tests that run in memory
        }

    @property
    def config(self) -> Config:
        return load_config(None, {}, self.settings)

    async def create(self) -> None:
        for role in ROLES.values():
            self.keys.make(role)
        (self.path / "root.json").write_bytes(await Repository(self.store, self.keys).create(bins={}))
        (self.path / "root.json").chmod(0o644)

    async def release(self, version: int, data: bytes, *, share: bool = True) -> None:
        await self.store.create(blob_path(digest_of(data)), data)
        file = File("model.tflite", digest_of(data), len(data))
        manifest = Manifest(FORMAT, MODEL, version, version, (Variant("cpu", (file,)),), share=share)
        await self.sign("releases", manifest_name(MODEL, version), encode_manifest(manifest))

    async def roll_out(self, stable: int, candidate: Candidate | None = None) -> None:
        model = ModelRollout(stable, candidate, Probation(seconds=0, min_requests=0))
        document = Rollout(ROLLOUT_FORMAT, GROUP, 1, {MODEL: model}, spread_s=0.0)
        await self.sign("rollouts", rollout_name(GROUP), encode(document))

    async def sign(self, role: str, name: str, data: bytes) -> None:
        repository = Repository(self.store, self.keys)
        await repository.open()
        change = Transaction()
        change.put(role, name, data)
        await repository.commit(change)

    async def update(self) -> bool:
        assembled = assemble(self.config, limits=UpdateLimits(watch_s=0.01))
        try:
            return await assembled.agent.once(within_s=30)
        finally:
            await assembled.close()

    async def findings(self, check: str = "") -> list[Finding]:
        return [each for each in await examine(self.config) if check in ("", each.check)]

    async def worst(self, check: str) -> Finding:
        order = [Level.FAIL, Level.WARN, Level.OK]
        return min(await self.findings(check), key=lambda each: order.index(each.level))


@asynccontextmanager
async def device(path: Path) -> AsyncIterator[Device]:
    """With version 1 installed. path: long ones are no names for sockets, and it is given a shorter one."""
    with tempfile.TemporaryDirectory() as short:
        place = Path(short)
        async with admin_at(place / "admin.sock", AdminServer(path / "models")) as server:
            made = Device(path, server)
            made.settings["paths.admin_uds"] = str(place / "admin.sock")
            await made.create()
            await made.release(1, b"weights 1")
            await made.roll_out(1)
            assert await made.update()
            yield made
