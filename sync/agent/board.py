"""The agent's notice board: `situation.json`, which `agent status` and `agent doctor` read.

Rule 1: it is written when it would say something else, replaced by rename, and never synced: it wears no flash, and a crash may
lose it. Rule 2: that it cannot be written changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from sync.domain.errors import DiskError, DocumentError, SyncError
from sync.domain.ports import Clock, Files
from sync.domain.situation import (
    MAX_SITUATION_BYTES,
    Process,
    SeenBroker,
    SeenNeighbours,
    Situation,
    Trouble,
    Wanted,
    encode_situation,
    parse_situation,
)
from sync.domain.update import Target

log = logging.getLogger(__name__)

SOON_S = 60.0
"""A wait that is shorter is not worth a write."""
FOLLOW_S = 60.0
"""Between two looks at what changes without a poll or a transition."""
KERNELS_BOOT = Path("/proc/sys/kernel/random/boot_id")


class Board:
    """signed: when the first of the signatures ends, in seconds since the epoch, and whether the clock is believed.

    neighbours: how many there are; None where nobody looks for them. broker: of MQTT; None where there is none.
    """

    def __init__(
        self,
        files: Files,
        path: Path,
        clock: Clock,
        signed: Callable[[], tuple[float, bool]],
        neighbours: Callable[[], SeenNeighbours] | None = None,
        broker: Callable[[], SeenBroker] | None = None,
    ) -> None:
        self._files, self._path, self._clock, self._signed = files, path, clock, signed
        self._neighbours, self._broker = neighbours, broker
        self._lock = asyncio.Lock()
        self.value = Situation(process=this_process())

    async def polled(
        self, problem: SyncError | None, refusals: Mapping[str, SyncError], targets: Mapping[str, Target]
    ) -> None:
        """A poll is over; after one that failed, refusals and targets are those of the one before."""
        signed_until, clock_ok = self._signed()
        await self._put(
            msgspec.structs.replace(
                self.value,
                polled_at=self._clock.now(),
                problem=_trouble(problem) if problem is not None else None,
                signed_until=signed_until,
                clock_ok=clock_ok,
                wanted={name: Wanted(to.wish.version, to.wish.rollout) for name, to in targets.items()},
                refused={name: _trouble(error) for name, error in refusals.items()},
            )
        )

    async def polls_in(self, wait_s: float) -> None:
        await self._put(msgspec.structs.replace(self.value, next_poll_at=self._clock.now() + wait_s))

    async def acts_in(self, model: str, wait_s: float) -> None:
        at = self._clock.now() + wait_s if wait_s > SOON_S else 0.0
        await self._put(msgspec.structs.replace(self.value, acts_at={**self.value.acts_at, model: at}))

    async def follow(self) -> None:
        """Neighbours and the broker come and go by themselves: for ever, or not at all where nobody looks for them."""
        while self._neighbours is not None or self._broker is not None:
            await self._clock.sleep(FOLLOW_S)
            await self._put(self.value)

    async def _put(self, situation: Situation) -> None:
        if self._neighbours is not None:
            situation = msgspec.structs.replace(situation, neighbours=self._neighbours())
        if self._broker is not None:
            situation = msgspec.structs.replace(situation, broker=self._broker())
        if situation == self.value:
            return
        self.value = msgspec.structs.replace(situation, written_at=self._clock.now())
        async with self._lock:
            await asyncio.to_thread(self._write, encode_situation(self.value))

    def _write(self, data: bytes) -> None:
        fresh = self._path.with_name(self._path.name + ".tmp")
        try:
            self._files.remove(fresh)
            self._files.write_at(fresh, 0, data)
            self._files.rename(fresh, self._path)
        except OSError as error:
            log.debug("%s: %s", self._path, error.strerror)


def read_situation(files: Files, path: Path) -> Situation | None:
    """None where there is none, or none that makes sense. Blocks. Raises DiskError where it may not be read."""
    try:
        size = files.size(path)
        return parse_situation(files.read(path)) if size is not None and size <= MAX_SITUATION_BYTES else None
    except DocumentError:
        return None
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DiskError(f"{path}: cannot be read: {error.strerror}") from None


def this_process() -> Process:
    return Process(os.getpid(), _ticks(os.getpid()), _boot())


def is_running(process: Process) -> bool:
    """Whether it is still that one. Blocks."""
    return bool(process.pid) and process == Process(process.pid, _ticks(process.pid), _boot())


def _ticks(pid: int) -> int:
    """When the process began, in ticks since the kernel did; -1 where there is none."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(after_name[19])
    except (OSError, ValueError, IndexError):
        return -1


def _boot() -> str:
    try:
        return KERNELS_BOOT.read_text().strip()
    except OSError:
        return ""


def _trouble(error: SyncError) -> Trouble:
    return Trouble(error.reason.value, error.message)
