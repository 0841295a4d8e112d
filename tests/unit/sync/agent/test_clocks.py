"""Devices whose clock says 1970, or ten years from now, or changes its mind: from signed documents to what serves.

Whatever it says, what serves goes on; behind, updates arrive all the same; ahead, they wait and the report says why.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from sync.agent.download import Downloader
from sync.agent.facts import Surroundings, report_of
from sync.agent.fetch import BlobFetch
from sync.agent.files import OsFiles
from sync.agent.journal import JournalFile
from sync.agent.loop import Agent, LoopLimits
from sync.agent.outbox import Outbox
from sync.agent.places import Places
from sync.agent.planner import Device, Planner
from sync.agent.reporter import Delivery, Reporter
from sync.agent.staging import Staging
from sync.agent.updater import Updater
from sync.domain.digests import digest_of
from sync.domain.errors import Reason
from sync.domain.journal import ModelState, Phase
from sync.domain.layout import blob_path, manifest_name, rollout_name
from sync.domain.release import FORMAT, File, Manifest, Variant, encode_manifest
from sync.domain.report import Report
from sync.domain.rollout import FORMAT as ROLLOUT_FORMAT
from sync.domain.rollout import Candidate, ModelRollout, Probation, Rollout, encode
from sync.trust.client import TrustClient
from sync.trust.documents import SignedDocuments
from sync.trust.floor import FloorFile
from tests.unit.sync.agent.world import Server, Time
from tests.unit.sync.trust.world import START, World

YEARS_S = 10 * 365.25 * 86400
GROUP = "g"
SPREAD_S = 3600.0


class Rtc(Time):
    """Goes on as time does, and is `jump` seconds off."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = START.timestamp()


class Clocked:
    """`start`: a process of the agent on one device. The operator's clock is right."""

    def __init__(self, path: Path) -> None:
        self.world, self.time, self.path = World(path), Rtc(), path / "device"
        self.path.mkdir()
        self.seq = 0
        self.delivery: Delivery | None = None
        self.limits = LoopLimits()

    async def release(self, version: int, accelerator: str = "cpu") -> None:
        data = b"model %d" % version
        self.world.store.objects[blob_path(digest_of(data))] = data
        variant = Variant(accelerator, (File("model.tflite", digest_of(data), len(data)),), {"accel": (accelerator,)})
        await self._publish(
            "releases",
            manifest_name("m", version),
            encode_manifest(Manifest(FORMAT, "m", version, version, (variant,))),
        )

    async def roll_out(self, stable: int, candidate: int | None = None) -> None:
        self.seq += 1
        running = Candidate(candidate, "r", "running", percent=100.0) if candidate is not None else None
        models = {"m": ModelRollout(stable, running, Probation(60, 0))}
        document = Rollout(ROLLOUT_FORMAT, GROUP, self.seq, models, spread_s=SPREAD_S)
        await self._publish("rollouts", rollout_name(GROUP), encode(document))

    async def _publish(self, role: str, name: str, data: bytes) -> None:
        self.world.now = datetime.fromtimestamp(self.time.seconds, START.tzinfo)
        await self.world.publish(role, name, data)

    def start(self) -> None:
        files, places = OsFiles(), Places(self.path / "state", self.path / "models")
        for directory in (places.state_dir, places.models_dir):
            files.make(directory)
        journal = self.journal = JournalFile(files, places.journal, places.models_dir, now=self.time.now)
        journal.load()
        store = self.world.store
        self.trust = TrustClient(
            store,
            root=self.world.root,
            cache=places.state_dir / "tuf",
            floor=FloorFile(files, places.state_dir / "floor.json"),
            now=self.time.now,
            uptime_s=self.time.monotonic,
        )
        documents = SignedDocuments(self.trust)
        fetch = BlobFetch(files, places, Downloader(files, places, self.time), lambda digest, share: [store])
        staging = Staging(files, places, fetch, self)
        self.server = Server(files, places.models_dir)
        updater = Updater(
            journal=journal,
            files=files,
            models_dir=places.models_dir,
            stage=staging,
            server=self.server,
            clock=self.time,
        )
        device = Device("dev-1", GROUP)
        self.agent = Agent(
            documents=documents,
            planner=Planner(
                device,
                documents,
                memory_mb=lambda: None,
                now=self.time.now,
                local=lambda: START,
            ),
            updater=updater,
            staging=staging,
            reporter=Reporter(Outbox(files, places.state_dir / "outbox"), self.delivery),
            journal=lambda: journal.value,
            report=self.report,
            clock=self.time,
            limits=self.limits,
        )

    async def of(self, model: str, version: int) -> tuple[()]:
        return ()

    def report(self) -> Report:
        around = Surroundings(clock_ok=self.trust.clock_ok)
        return report_of(Device("dev-1", GROUP), self.journal.value, self.time.now(), around)

    async def once(self) -> bool:
        self.start()
        return await self.agent.once(within_s=2 * 86400.0)

    async def after_its_wait(self) -> bool:
        """A poll that notes what is wanted, and one when the device's turn has come at the latest."""
        assert await self.once()
        self.time.seconds += SPREAD_S
        return await self.once()

    @property
    def state(self) -> ModelState:
        return self.journal.value.models.get("m", ModelState())

    def runs(self, version: int) -> bool:
        active = self.state.active
        assert active is not None
        data = (self.path / "models" / "m" / str(active.version) / "model.tflite").read_bytes()
        return active.version == version and data == b"model %d" % version and self.state.phase is Phase.IDLE


@pytest.fixture
async def device(tmp_path: Path) -> Clocked:
    """16 is rolled out to all, and here."""
    made = Clocked(tmp_path)
    await made.world.create()
    await made.release(16)
    await made.roll_out(16)
    return made


def at_1970(device: Clocked) -> float:
    return -device.time.seconds + 60.0


async def test_a_device_that_was_born_in_1970_gets_its_first_version_and_the_next(device: Clocked) -> None:
    device.time.jump = at_1970(device)
    assert await device.once()
    assert device.runs(16)
    device.time.jump = 0.0
    await device.release(17)
    await device.roll_out(16, candidate=17)
    assert await device.after_its_wait()
    assert device.runs(17)
    assert device.report().clock_ok


async def test_a_device_that_wakes_up_in_1970_is_updated_and_says_that_its_clock_is_wrong(device: Clocked) -> None:
    assert await device.once()
    await device.release(17)
    await device.roll_out(16, candidate=17)
    device.time.jump = at_1970(device)
    assert await device.after_its_wait()
    assert device.runs(17)
    assert not device.report().clock_ok


async def test_a_device_that_is_ten_years_ahead_serves_on_and_is_updated_when_its_clock_is_right(
    device: Clocked,
) -> None:
    assert await device.once()
    before = device.journal.value.models
    await device.release(17)
    await device.roll_out(16, candidate=17)
    device.time.jump = YEARS_S
    assert not await device.once()
    assert device.agent.problem is not None
    assert device.agent.problem.reason is Reason.CLOCK_SUSPECT
    assert not device.report().clock_ok
    assert device.journal.value.models == before
    assert device.runs(16)
    device.time.jump = 0.0
    assert await device.after_its_wait()
    assert device.runs(17)


@pytest.mark.parametrize("jump", [-1.0, 1.0], ids=["back to 1970", "ten years ahead"])
@pytest.mark.parametrize("phase", [Phase.STAGING, Phase.SWAPPING, Phase.PROBATION])
async def test_a_clock_that_jumps_within_an_update_changes_nothing_of_it(
    device: Clocked, phase: Phase, jump: float
) -> None:
    assert await device.once()
    await device.release(17)
    await device.roll_out(17)
    assert await device.once()
    device.time.seconds += SPREAD_S  # now it is this device's turn

    class Jumping(Server):
        """The clock jumps when the update has come so far."""

        async def health(self) -> object:  # type: ignore[override]
            if device.state.phase is phase:
                device.time.jump = at_1970(device) if jump < 0 else YEARS_S
            return await super().health()

    device.start()
    device.server.__class__ = Jumping
    began = device.time.seconds
    assert await device.agent.once(within_s=86400.0)
    assert device.time.jump != 0.0
    assert device.runs(17)
    assert 60 <= device.time.seconds - began <= 70, "neither a longer probation nor a shorter one"
    assert device.state.bad == ()
