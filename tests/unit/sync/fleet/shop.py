"""A real store in a directory, with real documents: two versions of a model, a patch between them, a rollout and a pin."""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sync.domain.deltas import Deltas, Patch, encode_deltas
from sync.domain.digests import digest_of
from sync.domain.layout import blob_path, deltas_name, manifest_name, rollout_name
from sync.domain.ports import WriteStore
from sync.domain.release import FORMAT, File, Manifest, Variant, encode_manifest
from sync.domain.rollout import FORMAT as ROLLOUT_FORMAT
from sync.domain.rollout import PINS_FORMAT, Candidate, ModelRollout, Pin, Pins, Rollout, encode, pin_bin
from sync.fleet.keys import ROLES, KeyRing
from sync.fleet.sign import Repository, Transaction
from sync.stores.directory import DirectoryStore

NOW = datetime(2026, 11, 20, 10, tzinfo=UTC)
OLD, NEW, PATCH = b"old model " * 100, b"new model " * 120, b"a patch"
MODEL, GROUP = "detector", "line-3"


class Shop:
    """`now` is the operator's clock. `stopped`: seconds since the epoch that all files get as their time, None for real."""

    def __init__(self, path: Path, now: datetime = NOW, store: WriteStore | None = None) -> None:
        self.path, self.now = path, now
        self.directory = path / "store"
        self.store: WriteStore = store or DirectoryStore(self.directory)
        self.keys = KeyRing(path / "keys")
        self.root = b""

    async def create(self) -> None:
        for role in ROLES.values():
            self.keys.make(role)
        self.root = await self.repository().create(bins={"rollouts": 1, "releases": 1})

    async def fill(self) -> None:
        """Versions 1 and 2, a patch, a rollout, a pin."""
        await self.release(1, OLD)
        await self.release(2, NEW, patch=PATCH)
        await self.roll_out(Candidate(2, "r-1", "running", percent=10.0))
        await self.sign("rollouts", self.pins_name, encode(Pins(PINS_FORMAT, 1, {"cam-1": {MODEL: Pin(1, 1)}})))

    @property
    def pins_name(self) -> str:
        return f"rollouts/pins/{pin_bin('cam-1')}.json"

    def repository(self, store: WriteStore | None = None) -> Repository:
        return Repository(store or self.store, self.keys, now=lambda: self.now)

    async def sign(self, role: str, name: str, data: bytes | None) -> None:
        repository = self.repository()
        await repository.open()
        change = Transaction()
        change.put(role, name, data)
        await repository.commit(change)

    async def refresh(self) -> None:
        repository = self.repository()
        await repository.open()
        await repository.refresh()

    async def rotate(self, role: str) -> None:
        repository = self.repository()
        await repository.open()
        await repository.rotate(role)

    async def release(
        self, version: int, data: bytes, *, patch: bytes | None = None, base: bytes = OLD, min_counter: int = 0
    ) -> None:
        await self.put_blob(data)
        file = File("model.tflite", digest_of(data), len(data))
        manifest = Manifest(FORMAT, MODEL, version, version, (Variant("cpu", (file,)),), min_counter)
        await self.sign("releases", manifest_name(MODEL, version), encode_manifest(manifest))
        if patch is not None:
            await self.put_blob(patch)
            one = Patch("cpu", "model.tflite", digest_of(base), digest_of(data), digest_of(patch), len(patch))
            await self.sign("deltas", deltas_name(MODEL, version), encode_deltas(Deltas((one,))))

    async def roll_out(self, candidate: Candidate | None, *, stable: int = 1, seq: int = 1) -> None:
        pins = "rollouts/pins/<bin>.json"
        document = Rollout(ROLLOUT_FORMAT, GROUP, seq, {MODEL: ModelRollout(stable, candidate)}, pins_ref=pins)
        await self.sign("rollouts", rollout_name(GROUP), encode(document))

    async def put_blob(self, data: bytes) -> str:
        path = blob_path(digest_of(data))
        await self.store.create(path, data)
        return path

    def blob(self, data: bytes) -> Path:
        return self.directory / blob_path(digest_of(data))

    def metadata(self, role: str) -> Path:
        """The last version's file."""
        if role == "timestamp":
            return self.directory / "metadata/timestamp.json"
        found = (self.directory / "metadata").glob(f"*.{role}.json")
        return max(found, key=lambda path: int(path.name.split(".")[0]))

    def target(self, name: str) -> Path:
        """The only document of the name."""
        folder, _, last = name.rpartition("/")
        (found,) = (self.directory / "targets" / folder).glob(f"*.{last}")
        return found

    def later(self, **time: float) -> None:
        self.now += timedelta(**time)

    def date(self, when: datetime, paths: Iterable[Path] | None = None) -> None:
        """Files' times of change; of all where none are named."""
        for path in paths if paths is not None else [each for each in self.directory.rglob("*") if each.is_file()]:
            os.utime(path, (when.timestamp(), when.timestamp()))


def tree(directory: Path) -> dict[str, bytes]:
    """Every file below, but the store's lock."""
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def flip(path: Path, at: int = -20) -> None:
    """One bit of a file."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
