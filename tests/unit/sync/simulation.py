"""A fleet in one process: real agents, each with its planner, that poll one store by a clock that jumps.

Rule 1: every document was signed, fetched, verified and parsed by the code that a device has; once for all of them, for
what is parsed never changes. Rule 2: what decides is the agent's own code: `want`, `accept`, the transitions of `sync.domain.update`, the
loop and its pauses. Only bytes and servers are missing: what is fetched is here at once, and what is swapped in is healthy.
"""

from __future__ import annotations

import asyncio
import gc
import random
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from sync.agent.journal import JournalFile
from sync.agent.loop import Agent, LoopLimits
from sync.agent.outbox import Outbox
from sync.agent.planner import Device, Planner
from sync.agent.reporter import Reporter
from sync.agent.staging import Staging
from sync.agent.updater import Updater
from sync.domain import update
from sync.domain.deltas import Patch
from sync.domain.digests import Digest, digest_of
from sync.domain.errors import SyncError
from sync.domain.journal import Baseline, Installed, Journal, ModelState
from sync.domain.layout import manifest_name, rollout_name
from sync.domain.release import FORMAT, File, Manifest, Variant, encode_manifest
from sync.domain.report import Report
from sync.domain.rollout import Pin, Rollout, encode
from sync.domain.update import Target
from sync.trust.documents import SignedDocuments
from tests.fakes.sync.files import FaultyFiles
from tests.fakes.sync.jumping import JumpingClock, JumpingLoop
from tests.unit.sync.agent.world import MODELS, Disk, Server, Stages
from tests.unit.sync.trust.world import World

GROUP, MODEL, OLD, NEW = "cameras", "m", 16, 17


def manifest(version: int) -> bytes:
    model = File("model.tflite", digest_of(b"%d" % version), 4_030_304, "application/vnd.edge.tflite")
    return encode_manifest(
        Manifest(FORMAT, MODEL, version, version, (Variant("cpu", (model,), {"accel": ("cpu",)}, 10, 40),))
    )


@dataclass(frozen=True, slots=True)
class Signed:
    """What one device took for true: each rollout document in its turn, and the manifests."""

    rollouts: Sequence[Rollout]
    manifests: Mapping[int, tuple[Manifest, Digest]]


def signed(place: Path, documents: Sequence[Rollout]) -> Signed:
    """Each published in its turn, and fetched by a device."""

    async def work() -> Signed:
        world = World(place)
        await world.create()
        for version in (OLD, NEW):
            await world.publish("releases", manifest_name(MODEL, version), manifest(version))
        device = SignedDocuments(world.device()[0])
        rollouts = []
        for document in documents:
            await world.publish("rollouts", rollout_name(GROUP), encode(document))
            await device.refresh()
            rollouts.append(await device.rollout(GROUP))
        return Signed(rollouts, {version: await device.release(MODEL, version) for version in (OLD, NEW)})

    return asyncio.run(work())


@dataclass(slots=True)
class Store:
    """`down`: what every poll gets, None for an answer. `polls`, `reports`: when, by device, in seconds of the loop."""

    signed: Signed
    rollout: Rollout
    down: SyncError | None = None
    polls: dict[str, list[float]] = field(default_factory=dict)
    reports: dict[str, list[float]] = field(default_factory=dict)

    @property
    def asked(self) -> list[float]:
        return sorted(when for polls in self.polls.values() for when in polls)


class Read:
    """`Documents` of one device."""

    def __init__(self, store: Store, device: str, clock: JumpingClock) -> None:
        self._store, self._clock, self._polls = store, clock, store.polls.setdefault(device, [])

    async def refresh(self) -> None:
        self._polls.append(self._clock.monotonic())
        if self._store.down is not None:
            raise self._store.down

    async def rollout(self, group: str) -> Rollout:
        return self._store.rollout

    async def pins(self, rollout: Rollout, device_id: str) -> Mapping[str, Pin]:
        return {}

    async def release(self, model: str, version: int) -> tuple[Manifest, Digest]:
        return self._store.signed.manifests[version]

    async def patches(self, model: str, version: int) -> Sequence[Patch]:
        return ()


class Updates:
    """In the place of `Updater`: the same transitions one after the other, with nothing to fetch and nothing to watch.

    `began`: when, and to which version.
    """

    def __init__(self, clock: JumpingClock, state: ModelState) -> None:
        self._clock, self._state = clock, state
        self.targets: Mapping[str, Target] = {}
        self.began: list[tuple[float, int]] = []

    def state(self, model: str) -> ModelState:
        return self._state

    async def recover(self) -> None: ...
    async def stop(self) -> None: ...

    async def advance(self, model: str) -> float:
        target, now = self.targets.get(model), self._clock.now()
        if target is not None:
            self._state = update.unwished(self._state, target.wished)
        if target is None or self._runs(target):
            return 3600.0
        self._state = update.seen(self._state, target.wish, now)
        wait_s = update.waits_s(self._state, target.wish, now)
        if wait_s > 0:
            return wait_s
        state = update.staged(update.begin(self._state, target, now), Baseline(), now)
        self._state = update.committed(update.swapped(state, "boot", now), "", now)
        self.began.append((self._clock.monotonic(), target.release.version))
        return 0.0

    def _runs(self, target: Target) -> bool:
        return self._state.active is not None and self._state.active.release == target.release.release


@dataclass(slots=True)
class Member:
    name: str
    updates: Updates
    agent: Agent

    @property
    def version(self) -> int:
        active = self.updates.state(MODEL).active
        assert active is not None
        return active.version


class Fleet:
    """All have OLD at the beginning. Times are the loop's, in seconds."""

    def __init__(self, signed_: Signed, count: int) -> None:
        self.store, self._clock = Store(signed_, signed_.rollouts[0]), JumpingClock()
        self.members = [self._member(f"camera-{number:05}") for number in range(count)]

    def run(self, until_s: float, at: Mapping[float, Callable[[], None]]) -> None:
        """All start at 0. at: what happens when."""
        # Nothing here is garbage before the end, and looking for it takes half of the time.
        gc.disable()
        try:
            with asyncio.Runner(loop_factory=JumpingLoop) as runner:
                runner.run(self._run(until_s, at))
        finally:
            gc.enable()

    def publish(self, number: int) -> None:
        """From now on the store has the document of that number."""
        self.store.rollout = self.store.signed.rollouts[number]

    def have(self, version: int) -> set[str]:
        return {member.name for member in self.members if member.version == version}

    def began(self, version: int) -> dict[str, float]:
        """When, by device; the last time."""
        return {member.name: when for member in self.members for when, what in member.updates.began if what == version}

    async def _run(self, until_s: float, at: Mapping[float, Callable[[], None]]) -> None:
        asyncio.get_running_loop().set_default_executor(AtOnce())
        for when, what in at.items():
            asyncio.get_running_loop().call_at(when, what)
        running = [asyncio.ensure_future(member.agent.run()) for member in self.members]
        await asyncio.sleep(until_s)
        for task in running:
            task.cancel()
        for ended in await asyncio.gather(*running, return_exceptions=True):
            if not isinstance(ended, asyncio.CancelledError):
                raise AssertionError("an agent ended by itself") from ended

    def _member(self, name: str) -> Member:
        updates = Updates(self._clock, before(self.store.signed))
        return Member(name, updates, agent_of(name, self.store, self._clock, updates))


def before(signed_: Signed) -> ModelState:
    """What a device's journal has at the beginning."""
    return ModelState(active=Installed(OLD, signed_.manifests[OLD][1], "cpu", ()))


def agent_of(name: str, store: Store, clock: JumpingClock, updates: Updates | Updater) -> Agent:
    """As `sync.app` assembles it. What chance brings depends on the name alone."""
    documents, device = Read(store, name, clock), Device(name, GROUP)
    planner = Planner(
        device,
        documents,
        memory_mb=lambda: None,
        now=clock.now,
        local=lambda: datetime.fromtimestamp(clock.now(), UTC),
    )
    reports = store.reports.setdefault(name, [])

    def report() -> Report:
        reports.append(clock.monotonic())
        return Report(name, GROUP, 0, 0.0, {})

    return Agent(
        documents=documents,
        planner=planner,
        updater=cast(Updater, updates),
        staging=cast(Staging, NothingStaged()),
        reporter=Reporter(Outbox(FaultyFiles(), Path("/outbox")), None),
        journal=lambda: Journal(models={MODEL: updates.state(MODEL)}),
        report=report,
        clock=clock,
        limits=LoopLimits(),
        chance=random.Random(name),
    )


class NothingStaged:
    """There are no files to collect."""

    def collect(self, kept: object) -> None: ...


class AtOnce(ThreadPoolExecutor):
    """No threads: work is done where it is handed in, so that it takes no time."""

    def submit(self, work: Any, /, *args: Any, **options: Any) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(work(*args, **options))
        return done


def updater(signed_: Signed, clock: JumpingClock, changed: Any) -> Updater:
    """The real one, on a disk in memory and with a server that serves what it is told."""
    disk = Disk()
    journal = JournalFile(disk, Path("/state.json"), MODELS)
    journal.load()
    journal.write({MODEL: before(signed_)}, reports=0)
    return Updater(
        journal=journal,
        files=disk,
        models_dir=MODELS,
        stage=Stages(),
        server=Server(disk),
        clock=clock,
        changed=changed,
    )
