"""What the device says of itself, kept on the disk until somebody has taken it.

Rule 1: a report is made of the journal; that it cannot be delivered changes nothing but the outbox. Rule 2: the outbox is a
ring: of more than `max_waiting` the oldest go. Rule 3: the same report may arrive twice, never half, and
never with a bit that flipped: one that is damaged here is dropped. Rule 4: a report that the collector refuses for ever is
dropped too, for it would hold up all that come after it; it is logged, counted, and the count outlives the process.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import msgspec

from sync.agent.backoff import Backoff
from sync.agent.planner import Device
from sync.domain.durable import replace_durably
from sync.domain.errors import DiskError, Rejected, StoreError
from sync.domain.journal import Journal, ModelState
from sync.domain.ports import Files
from sync.domain.report import ModelReport, Report, Transfer, encode_report
from sync.domain.sealed import seal, unsealed

log = logging.getLogger(__name__)

MAX_OUTBOX = 200

NOTE = "refused"
"""The file's name beside the reports."""

_NAME = re.compile(r"[0-9]{12,}\.json\Z", re.ASCII)


class Delivery(Protocol):
    """Where reports go."""

    async def deliver(self, report: bytes) -> None:
        """Returns when it was taken. Raises StoreError: Rejected for a report that would never be taken."""
        ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a report says beside the models. `meta`: versions of the metadata roles; sizes in bytes."""

    clock_ok: bool = True
    meta: Mapping[str, int] | None = None
    last: Transfer = field(default_factory=Transfer)
    disk_free: int = 0
    mem_avail: int = 0
    agent: str = ""
    edge: str = ""


class RefusedReports(msgspec.Struct, frozen=True):
    """Reports that the collector refused for ever, since the outbox was made. `seq`, `why`: the last one's."""

    count: int = 0
    seq: int = 0
    why: str = ""


class Outbox:
    """Methods block, and raise nothing: a disk that fails costs reports, and is logged. max_waiting: reports that are kept."""

    def __init__(self, files: Files, directory: Path, max_waiting: int = MAX_OUTBOX) -> None:
        self._files, self._directory, self._max_waiting = files, directory, max_waiting
        self._changing = threading.Lock()

    def put(self, seq: int, report: bytes) -> None:
        """In the place of what waits under the same number."""
        try:
            self._files.make(self._directory)
            with self._changing:
                replace_durably(self._files, self._path(seq), seal(report))
            for name in self._names()[: -self._max_waiting]:
                self._files.remove(self._directory / name)
        except (OSError, DiskError) as error:
            log.warning("report %d is lost: %s", seq, error)

    def oldest(self) -> tuple[int, bytes] | None:
        for name in self._names():
            seq = int(name.removesuffix(".json"))
            try:
                return seq, unsealed(self._files.read(self._directory / name))
            except OSError as error:
                log.warning("%s: %s", name, error)
            except ValueError as error:
                log.warning("report %d is damaged, and dropped: %s", seq, error)
                self.taken(seq)
        return None

    def taken(self, seq: int, report: bytes | None = None) -> bool:
        """Whether it is gone. Where another than `report` was put in its place meanwhile, that one stays."""
        try:
            with self._changing:
                if report is None or self._files.read(self._path(seq)) == seal(report):
                    self._files.remove(self._path(seq))
        except FileNotFoundError:
            return True
        except OSError as error:
            log.warning("report %d stays in the outbox: %s", seq, error)
            return False
        return True

    def drop(self, seq: int, report: bytes, why: str) -> bool:
        """It will never be taken: it goes, and is counted. Whether it is gone."""
        log.error("report %d is dropped, for it is refused for ever: %s", seq, why)
        note = RefusedReports(self.refused().count + 1, seq, why)
        try:
            replace_durably(self._files, self._directory / NOTE, seal(msgspec.json.encode(note)))
        except DiskError as error:
            log.warning("that it was dropped is not counted: %s", error.message)
        return self.taken(seq, report)

    def refused(self) -> RefusedReports:
        """None of them where nothing can be read of any."""
        try:
            if self._files.size(self._directory / NOTE) is None:
                return RefusedReports()
            return msgspec.json.decode(unsealed(self._files.read(self._directory / NOTE)), type=RefusedReports)
        except (OSError, ValueError) as error:
            log.warning("how many reports were refused is not known: %s", error)
            return RefusedReports()

    def __len__(self) -> int:
        return len(self._names())

    def _path(self, seq: int) -> Path:
        return self._directory / f"{seq:012d}.json"

    def _names(self) -> list[str]:
        try:
            names = self._files.names(self._directory)
        except OSError:
            return []
        return sorted(name for name in names if _NAME.match(name))


def report_of(device: Device, journal: Journal, now: float, around: Surroundings) -> Report:
    """now: seconds since the epoch."""
    return Report(
        device=device.id,
        group=device.group,
        seq=journal.report_seq,
        ts=now,
        models={name: _model(state) for name, state in journal.models.items()},
        clock_ok=around.clock_ok,
        meta=around.meta or {},
        last=around.last,
        disk_free=around.disk_free,
        mem_avail=around.mem_avail,
        agent=around.agent,
        edge=around.edge,
    )


def _model(state: ModelState) -> ModelReport:
    def version(of: object) -> int | None:
        return getattr(of, "version", None)

    return ModelReport(
        active=version(state.active),
        previous=version(state.previous),
        candidate=version(state.candidate),
        phase=state.phase.value,
        rollout=state.rollout,
        outcome=state.outcome,
        reason=state.reason,
        detail=state.detail,
        tries=state.tries,
    )


class Reporter:
    """retry_s, doubled up to max_retry_s: the longest pauses after a delivery that failed, in seconds; the collector may ask
    for longer ones."""

    def __init__(
        self,
        outbox: Outbox,
        delivery: Delivery | None,
        *,
        retry_s: float = 15.0,
        max_retry_s: float = 3600.0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        chance: random.Random | None = None,
    ) -> None:
        self._outbox, self._delivery, self._sleep = outbox, delivery, sleep
        self._retries = Backoff(retry_s, max_retry_s, chance or random.Random())
        self._retry_after_s = 0.0
        self._news = asyncio.Event()

    async def put(self, report: Report) -> None:
        if self._delivery is not None:
            await asyncio.to_thread(self._outbox.put, report.seq, encode_report(report))
            self._news.set()

    async def run(self) -> None:
        """Deliver, oldest first, until cancelled."""
        while True:
            self._news.clear()
            if await self.flush():
                self._retries.over()
                await self._news.wait()
            else:
                await self._sleep(self._retries.failed_s(self._retry_after_s))

    async def flush(self) -> bool:
        """Whether the outbox is empty now."""
        self._retry_after_s = 0.0
        while self._delivery is not None and (oldest := await asyncio.to_thread(self._outbox.oldest)) is not None:
            seq, report = oldest
            try:
                await self._delivery.deliver(report)
            except Rejected as error:
                gone = await asyncio.to_thread(self._outbox.drop, seq, report, error.message)
            except StoreError as error:
                log.warning("report %d waits: %s", seq, error.message)
                self._retry_after_s = error.retry_after_s
                return False
            else:
                gone = await asyncio.to_thread(self._outbox.taken, seq, report)
            if not gone:  # it would be brought again at once, and again
                return False
        return True
