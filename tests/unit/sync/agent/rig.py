"""A device whose disk may fail, with the real staging and downloads: two versions of a model, and a patch between them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from edge.domain.layout import AspiredFile, parse_aspired
from sync.agent.download import Downloader
from sync.agent.fetch import BlobFetch
from sync.agent.journal import JournalFile
from sync.agent.loop import kept
from sync.agent.places import Places
from sync.agent.staging import Staging
from sync.agent.updater import Updater
from sync.delta.encode import make_patch
from sync.domain.deltas import Patch
from sync.domain.digests import digest_of
from sync.domain.errors import DiskError
from sync.domain.journal import FileRef, Installed, ModelState, Phase
from sync.domain.layout import blob_path
from sync.domain.rollout import Probation, Wish
from sync.domain.update import Target
from tests.fakes.sync.files import FaultyFiles
from tests.fakes.sync.store import MemoryStore
from tests.unit.sync.agent.world import Server, Time

STATE, MODELS = Path("/var/state"), Path("/var/models")
FIRST = random.Random(1).randbytes(4000)
SECOND = FIRST[:1000] + b"something else" + FIRST[1014:]
CONTENT = {
    16: {"model.tflite": FIRST, "labels.txt": b"cat\ndog\n"},
    17: {"model.tflite": SECOND, "labels.txt": b"cat\ndog\n"},
}
MODEL_17 = digest_of(SECOND)
_PATCH = make_patch(FIRST, SECOND, search=lambda old, new: None)
assert _PATCH is not None
PATCH = Patch("cpu", "model.tflite", digest_of(FIRST), MODEL_17, digest_of(_PATCH), len(_PATCH))


def release(version: int) -> Installed:
    files = tuple(FileRef(path, digest_of(data), len(data)) for path, data in CONTENT[version].items())
    return Installed(version, digest_of(b"manifest %d" % version), "cpu", files)


class Rig:
    """`start`: a new process of the agent. `states`: all that it went through. `offered`: patches."""

    def __init__(self) -> None:
        self.files, self.places, self.time = FaultyFiles(), Places(STATE, MODELS), Time()
        blobs = [_PATCH, *(data for files in CONTENT.values() for data in files.values())]
        self.store = MemoryStore({blob_path(digest_of(data)): data for data in blobs if data is not None})
        self.offered: Sequence[Patch] = (PATCH,)
        self.states: list[ModelState] = []
        self.files.make(STATE)
        self.files.make(MODELS / "m")
        self.start()

    async def of(self, model: str, version: int) -> Sequence[Patch]:
        return self.offered

    def start(self) -> None:
        self.journal = JournalFile(self.files, self.places.journal, MODELS, now=self.time.now)
        self.journal.load()
        downloader = Downloader(self.files, self.places, self.time)
        self.fetch = BlobFetch(self.files, self.places, downloader, lambda digest, share: [self.store])
        self.staging = Staging(self.files, self.places, self.fetch, self)
        self.server = Server(self.files, MODELS)
        self.updater = Updater(
            journal=self.journal,
            files=self.files,
            models_dir=MODELS,
            stage=self.staging,
            server=self.server,
            clock=self.time,
            changed=lambda _, state: self.states.append(state),
            chance=random.Random(1),
        )

    def want(self, version: int) -> None:
        target = Target(release(version), Wish(version, "r"), 7, Probation(60, 0), "beside")
        self.updater.targets = {"m": target}

    @property
    def state(self) -> ModelState:
        return self.updater.state("m")

    @property
    def told(self) -> AspiredFile:
        return parse_aspired(self.files.read(MODELS / "m" / "aspired.json"))

    async def advance(self) -> float:
        """As the loop does it."""
        try:
            return await self.updater.advance("m")
        except DiskError:
            return self.updater.backed_off("m")

    async def run(self, seconds: float) -> None:
        end = self.time.seconds + seconds
        while self.time.seconds < end:
            await self.time.sleep(await self.advance())

    async def until(self, version: int, within: int = 500) -> None:
        """The version is committed."""
        for _ in range(within):
            wait_s = await self.advance()
            state = self.state
            if state.phase is Phase.IDLE and state.active is not None and state.active.version == version:
                self.collect()
                return
            await self.time.sleep(wait_s)
        raise AssertionError(f"no end: {self.state}")

    def collect(self) -> None:
        self.staging.collect(lambda: kept(self.journal.value))

    async def installed(self) -> None:
        """16 serves, and nothing is counted yet."""
        self.want(16)
        await self.until(16)
        self.files.count, self.files.log = 0, []
        self.states.clear()
        self.store.taken()

    def check(self, *versions: int) -> None:
        """These are there, whole."""
        for version in versions:
            for path, data in CONTENT[version].items():
                assert self.files.read(MODELS / "m" / str(version) / path) == data, f"{version}/{path}"

    def blobs_asked(self) -> list[str]:
        return [path for path, _ in self.store.asked if path.startswith("blobs/")]
