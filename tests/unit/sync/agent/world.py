"""A device for the updater: a disk in memory, a server that does what it is told, a clock that is moved by hand."""

from __future__ import annotations

import asyncio
import errno
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edge.domain.layout import parse_aspired
from sync.agent.journal import JournalFile
from sync.agent.limits import UpdateLimits
from sync.agent.updater import Updater
from sync.domain.digests import digest_of
from sync.domain.errors import ServerAbsent, SyncError
from sync.domain.journal import FileRef, Installed, ModelState, Phase
from sync.domain.ports import Files, ModelHealth, ServerHealth, VersionHealth
from sync.domain.rollout import Probation, Wish
from sync.domain.update import Target

MODELS = Path("/models")


class Disk:
    """Files in memory; `broken`: the error number that every write gets."""

    def __init__(self) -> None:
        self.content: dict[Path, bytes] = {}
        self.broken = 0

    def _writable(self, path: Path) -> None:
        if self.broken:
            raise OSError(self.broken, "No space left on device", str(path))

    def read(self, path: Path) -> bytes:
        try:
            return self.content[path]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(path)) from None

    def read_at(self, path: Path, offset: int, count: int) -> bytes:
        return self.read(path)[offset : offset + count]

    def size(self, path: Path) -> int | None:
        return len(self.content[path]) if path in self.content else None

    def names(self, directory: Path) -> Sequence[str]:
        depth = len(directory.parts)
        return sorted(
            {path.parts[depth] for path in self.content if path.is_relative_to(directory) and path != directory}
        )

    def make(self, directory: Path) -> None: ...
    def write_at(self, path: Path, offset: int, data: bytes) -> None:
        self._writable(path)
        old = self.content.get(path, b"")
        self.content[path] = old[:offset] + data + old[offset + len(data) :]

    def truncate(self, path: Path, size: int) -> None:
        self.content[path] = self.content[path][:size]

    def allocate(self, path: Path, size: int) -> None:
        self._writable(path)

    def sync(self, path: Path) -> None: ...
    def sync_directory(self, directory: Path) -> None: ...
    def rename(self, source: Path, target: Path) -> None:
        self.content[target] = self.content.pop(source)

    def link(self, source: Path, target: Path) -> None:
        self.content[target] = self.content[source]

    def same(self, one: Path, other: Path) -> bool:
        return one in self.content and self.content[one] == self.content.get(other)

    def remove(self, path: Path) -> None:
        for each in [each for each in self.content if each.is_relative_to(path)]:
            del self.content[each]

    def free(self, directory: Path) -> int:
        return 1 << 30

    def total(self, directory: Path) -> int:
        return 1 << 32


class Time:
    def __init__(self) -> None:
        self.seconds = 1_000_000.0
        self.jump = 0.0

    def now(self) -> float:
        return self.seconds + self.jump

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        await asyncio.sleep(0)


class Server:
    """Serves what `aspired.json` says, except versions in `broken`, which fail with that reason.

    `acts_on`: what it has read instead.
    """

    def __init__(self, disk: Files, models_dir: Path = MODELS) -> None:
        self._disk, self._models_dir = disk, models_dir
        self.broken: dict[int, str] = {}
        self.figures: dict[int, VersionHealth] = {}
        self.boot, self.last_exit, self.absent = "b1", "clean", False
        self.never: set[int] = set()
        self.acts_on: ModelHealth | None = None

    def restart(self, last_exit: str = "killed") -> None:
        self.boot, self.last_exit, self.figures = self.boot + "+", last_exit, {}

    async def health(self) -> ServerHealth:
        if self.absent:
            raise ServerAbsent("/run/edge/admin.sock: no such file")
        if self.acts_on is not None:
            return ServerHealth(self.boot, last_exit=self.last_exit, models={"m": self.acts_on})
        try:
            told = parse_aspired(self._disk.read(self._models_dir / "m" / "aspired.json"))
        except OSError:
            return ServerHealth(self.boot, last_exit=self.last_exit)
        wanted = {*told.versions, told.fallback} - {None}
        versions = {int(version): self._version(int(version)) for version in wanted if version is not None}
        return ServerHealth(self.boot, "0.1.0", self.last_exit, {"m": ModelHealth(told.generation, "", versions)})

    def _version(self, version: int) -> VersionHealth:
        if version in self.broken:
            return VersionHealth("failed", self.broken[version])
        return VersionHealth("loading") if version in self.never else self.figures.get(version, VersionHealth("ready"))


@dataclass
class Stages:
    """Notes what it was asked to bring; `errors` are raised one after the other first."""

    brought: list[int] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)
    errors: list[SyncError] = field(default_factory=list)
    urgent: list[bool] = field(default_factory=list)

    async def bring(
        self, model: str, release: Installed, bases: list[Installed], *, min_rate_Bps: int, urgent: bool
    ) -> None:
        self.urgent.append(urgent)
        if self.errors:
            raise self.errors.pop(0)
        self.brought.append(release.version)

    async def keep(self, model: str, release: Installed) -> None:
        if self.errors:
            raise self.errors.pop(0)
        self.kept.append(release.version)


def release(version: int) -> Installed:
    data = b"%d" % version
    return Installed(
        version, digest_of(b"manifest" + data), "cpu", (FileRef("model.tflite", digest_of(data), len(data)),)
    )


class World:
    """`restart`: the agent's process ends, and another begins with what is on the disk."""

    def __init__(self) -> None:
        self.disk, self.time = Disk(), Time()
        self.server, self.stage = Server(self.disk), Stages()
        self.reports: list[ModelState] = []
        self.limits, self.chance = UpdateLimits(), random.Random(1)
        self.restart()

    def restart(self) -> None:
        journal = JournalFile(self.disk, Path("/state.json"), MODELS, now=self.time.now)
        journal.load()
        self.journal = journal
        self.updater = Updater(
            journal=journal,
            files=self.disk,
            models_dir=MODELS,
            stage=self.stage,
            server=self.server,
            clock=self.time,
            changed=lambda _, state: self.reports.append(state),
            limits=self.limits,
            chance=self.chance,
        )

    @property
    def state(self) -> ModelState:
        return self.updater.state("m")

    @property
    def serving(self) -> tuple[int, ...]:
        return parse_aspired(self.disk.read(MODELS / "m" / "aspired.json")).versions

    def want(
        self, version: int, *, wait_s: float = 0.0, rollout: str = "r", pin_seq: int | None = None, **probation: float
    ) -> None:
        judged = Probation(**{"seconds": 600.0, "min_requests": 50, **probation})  # type: ignore[arg-type]
        wish = Wish(version, rollout, wait_s, pin_seq)
        self.updater.targets = {"m": Target(release(version), wish, 7, judged, "beside")}

    def told(self) -> int | None:
        """The version that the server is to serve."""
        try:
            return next(iter(self.serving), None)
        except OSError:
            return None

    async def until(self, *phases: Phase, within: int = 3000) -> None:
        """Advance, letting time pass, until the model is in one of the phases."""
        for _ in range(within):
            wait_s = await self.updater.advance("m")
            if self.state.phase in phases:
                return
            await self.time.sleep(wait_s)
        raise AssertionError(f"still in {self.state.phase}: {self.state.reason} {self.state.detail}")

    async def run(self, seconds: float) -> None:
        end = self.time.seconds + seconds
        while self.time.seconds < end:
            wait_s = await self.updater.advance("m")
            await self.time.sleep(min(wait_s, end - self.time.seconds) if wait_s else 0)

    async def installed(self, version: int) -> None:
        """The version is committed, and nothing is under way."""
        self.want(version)
        await self.until(Phase.STAGING)
        await self.until(Phase.IDLE)
        assert self.state.active is not None
        assert self.state.active.version == version
