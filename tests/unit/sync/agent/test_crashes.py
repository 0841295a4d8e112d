"""The power goes before every operation of an update, and again during the recovery; whatever survives, the device serves.

After each crash: the journal can be read, every version that the server is told to serve or to fall back to lies there
whole (or is still the old one), and the update comes to its end. The same with an error in place of the crash. What the
order of writes is for is shown by leaving single steps out: then these tests find out.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from edge.domain.layout import parse_aspired
from sync.agent.blobs import install_blob
from sync.agent.journal import JournalFile
from sync.agent.loop import kept
from sync.agent.places import Places
from sync.agent.staging import Staging
from sync.agent.updater import Updater
from sync.domain.deltas import Patch
from sync.domain.digests import Digest, digest_of, hex_of
from sync.domain.errors import DiskError, DiskFull, SyncError
from sync.domain.journal import FileRef, Installed, ModelState, Phase
from sync.domain.layout import blob_path
from sync.domain.rollout import Probation, Wish
from sync.domain.update import Target
from tests.fakes.sync.files import FaultyFiles, PowerCut, Survival
from tests.unit.sync.agent.rig import PATCH, Rig
from tests.unit.sync.agent.world import Server, Time

STATE, MODELS = Path("/var/state"), Path("/var/models")
CONTENT = {
    version: {"model.tflite": b"model %d " % version * 50, "labels.txt": b"labels %d" % version} for version in (16, 17)
}


@pytest.fixture(autouse=True)
def _no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of runs: what would go to a thread is done at once."""

    async def at_once(work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return work(*args, **kwargs)

    monkeypatch.setattr(asyncio, "to_thread", at_once)


def release(version: int) -> Installed:
    files = tuple(FileRef(path, digest_of(data), len(data)) for path, data in CONTENT[version].items())
    return Installed(version, digest_of(b"manifest %d" % version), "cpu", files)


BLOBS = {digest_of(data): data for files in CONTENT.values() for data in files.values()}


class Fetch:
    """Brings every blob in two pieces."""

    def __init__(self, files: FaultyFiles, places: Places) -> None:
        self._files, self._places = files, places

    async def blob(self, digest: Digest, size: int, *, share: bool, min_rate_Bps: int, urgent: bool = False) -> None:
        part, data = self._places.tmp / f"{hex_of(digest)}.part", BLOBS[digest]
        try:
            if (self._files.size(part) or 0) > 0:
                self._files.remove(part)
            self._files.write_at(part, 0, data[:100])
            self._files.write_at(part, 100, data[100:])
        except OSError as error:
            raise (DiskFull(size, 0) if error.errno == errno.ENOSPC else DiskError(str(error))) from None
        install_blob(self._files, part, self._places.blob(digest), digest, size)

    async def patched(
        self, patch: Patch, base: Path, file: FileRef, *, min_rate_Bps: int, urgent: bool = False
    ) -> None:
        raise NotImplementedError


class NoPatches:
    async def of(self, model: str, version: int) -> list[Patch]:
        return []


class Device:
    """What outlives a process of the agent: the disk, and the server's belief."""

    def __init__(self) -> None:
        self.files = FaultyFiles()
        self.places = Places(STATE, MODELS)
        self.time = Time()
        self.files.make(STATE)
        self.files.make(MODELS / "m")

    def start(self) -> None:
        journal = JournalFile(self.files, self.places.journal, MODELS)
        journal.load()
        self.journal = journal
        self.staging = Staging(self.files, self.places, Fetch(self.files, self.places), NoPatches())
        self.server = Server(self.files, MODELS)
        self.updater = Updater(
            journal=journal,
            files=self.files,
            models_dir=MODELS,
            stage=self.staging,
            server=self.server,
            clock=self.time,
        )

    async def update(self, version: int) -> ModelState:
        """Start a process, and let it bring the model to the version."""
        self.start()
        target = Target(release(version), Wish(version, "r"), 7, Probation(60, 0), "beside")
        self.updater.targets = {"m": target}
        await self.updater.recover()
        for _ in range(400):
            wait_s = await self.updater.advance("m")
            state = self.updater.state("m")
            done = state.phase is Phase.IDLE and state.active is not None and state.active.version == version
            if done and state.outcome:
                self.staging.collect(lambda: kept(self.journal.value))
                return state
            await self.time.sleep(wait_s)
        raise AssertionError(f"no end: {state}")

    def check(self) -> None:
        """What must be so after any crash, with nobody running but the server."""
        for name in self.files.names(self.places.blobs):
            assert digest_of(self.files.read(self.places.blobs / name)) == f"sha256:{name}", "a blob that lies"
        told = parse_aspired(self.files.read(MODELS / "m" / "aspired.json"))
        whole = [version for version in CONTENT if self._is_whole(version)]
        assert set(told.versions) <= set(whole), f"told to serve {told.versions}, of which {whole} are there"
        assert told.fallback is None or told.fallback in whole

    def _is_whole(self, version: int) -> bool:
        directory = MODELS / "m" / str(version)
        return all(
            self.files.size(directory / path) is not None and self.files.read(directory / path) == data
            for path, data in CONTENT[version].items()
        )


async def installed() -> Device:
    """A device that serves 16."""
    device = Device()
    await device.update(16)
    for path in list(device.files._names):
        device.files.sync(path)
    device.files.crash(Survival.ALL)
    device.files.count, device.files.log = 0, []
    return device


async def operations() -> int:
    device = await installed()
    await device.update(17)
    return device.files.count


async def crash_at(cut: int, survival: Survival, forget: set[str], seed: int = 0) -> Device:
    device = await installed()
    device.files.forget = forget
    device.files.cut_at = cut
    with pytest.raises(PowerCut):
        await device.update(17)
    device.files.crash(survival, seed, undone)
    return device


def undone(directory: Path) -> bool:
    """The blobs' names and the versions': a journal that came through must not name what did not."""
    return directory == STATE / "blobs" or (directory.is_relative_to(MODELS / "m") and directory != MODELS / "m")


async def recover(device: Device) -> None:
    device.check()
    state = await device.update(17)
    assert state.active == release(17)
    assert state.previous == release(16)
    device.check()
    assert device._is_whole(17)
    assert sorted(device.files.names(MODELS / "m")) == ["16", "17", "aspired.json"], "no garbage is left"


@pytest.mark.parametrize("survival", Survival, ids=lambda each: each.name.lower())
async def test_a_power_cut_before_any_operation_loses_nothing(survival: Survival) -> None:
    for cut in range(await operations()):
        await recover(await crash_at(cut, survival, set()))


@pytest.mark.slow
@pytest.mark.parametrize("survival", Survival, ids=lambda each: each.name.lower())
async def test_a_second_power_cut_during_the_recovery_loses_nothing(survival: Survival) -> None:
    total = await operations()
    for first in range(0, total, 2):
        for second in range(first % 3, total, 3):
            device = await crash_at(first, survival, set(), seed=first)
            device.check()
            device.files.count, device.files.cut_at = 0, second
            try:
                await device.update(17)
            except PowerCut:
                device.files.crash(survival, second, undone)
            device.files.cut_at = None
            await recover(device)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO], ids=["a full disk", "an error"])
async def test_an_error_at_any_operation_leaves_the_old_version_and_the_update_goes_on_when_it_is_over(
    code: int,
) -> None:
    for number in range(await operations()):
        device = await installed()
        device.files.errors = {number: code}
        try:
            await device.update(17)
        except SyncError:
            device.check()
        device.files.errors = {}
        await recover(device)


@contextmanager
def _violations(found: list[str]) -> Iterator[None]:
    try:
        yield
    except (AssertionError, SyncError, OSError, KeyError, ValueError) as error:
        found.append(str(error))


@pytest.mark.parametrize("step", ["sync", "sync_directory"])
async def test_a_step_that_is_left_out_is_found_out(step: str) -> None:
    found: list[str] = []
    for survival in (Survival.NONE, Survival.TORN, Survival.GARBAGE, Survival.SOME_RENAMES_UNDONE):
        for cut in range(await operations()):
            with _violations(found):
                try:
                    device = await crash_at(cut, survival, {step}, seed=cut)
                except pytest.fail.Exception:
                    continue
                device.files.forget = set()
                await recover(device)
    assert found, f"nobody needs {step}"


async def test_a_blob_that_is_not_verified_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def trusting(files: FaultyFiles, part: Path, blob: Path, digest: Digest, size: int) -> None:
        files.rename(part, blob)
        files.sync_directory(blob.parent)

    monkeypatch.setitem(Fetch.blob.__globals__, "install_blob", trusting)
    found: list[str] = []
    for cut in range(await operations()):
        with _violations(found):
            try:
                device = await crash_at(cut, Survival.TORN, set(), seed=cut)
            except pytest.fail.Exception:
                continue
            await recover(device)
    assert found


async def test_a_journal_that_is_written_in_its_place_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def in_place(files: FaultyFiles, path: Path, data: bytes) -> None:
        if files.size(path) is not None:
            files.truncate(path, 0)
        files.write_at(path, 0, data)
        files.sync(path)
        files.sync_directory(path.parent)

    monkeypatch.setitem(JournalFile._replace.__globals__, "replace_durably", in_place)
    found: list[str] = []
    for survival in (Survival.ALL, Survival.TORN):
        for cut in range(await operations()):
            with _violations(found):
                await recover(await crash_at(cut, survival, set(), seed=cut))
    assert found


@pytest.mark.parametrize("survival", Survival, ids=lambda each: each.name.lower())
async def test_a_power_cut_before_any_operation_of_an_update_by_a_patch_loses_nothing(survival: Survival) -> None:
    cut = 0
    while True:
        rig = Rig()
        await rig.installed()
        for path in list(rig.files._names):
            rig.files.sync(path)
        rig.files.count, rig.files.cut_at = 0, cut
        rig.want(17)
        try:
            await rig.until(17)
        except PowerCut:
            rig.files.crash(survival, cut)
        else:
            break
        rig.start()
        rig.check(16, *rig.told.versions)
        rig.want(17)
        await rig.updater.recover()
        await rig.until(17)
        rig.check(16, 17)
        assert list(rig.files.names(rig.places.tmp)) == []
        cut += 1
    assert cut > 30
    assert rig.blobs_asked() == [blob_path(PATCH.digest)]
