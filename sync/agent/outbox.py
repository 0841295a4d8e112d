"""Reports on the disk, until somebody has taken them.

Rule 1: a ring: of more than `max_waiting` the oldest go. Rule 2: the same report may be brought twice, never half, and never with a
bit that flipped: one that is damaged here is dropped. Rule 3: one that is refused for ever is logged and counted, and the count
outlives the process.
"""

from __future__ import annotations

import logging
import re
import threading
from pathlib import Path

import msgspec

from sync.domain.durable import replace_durably
from sync.domain.errors import DiskError
from sync.domain.ports import Files
from sync.domain.sealed import seal, unsealed

log = logging.getLogger(__name__)

MAX_OUTBOX = 200
"""Reports that wait."""
NOTE = "refused"
"""The file's name beside the reports."""

_NAME = re.compile(r"[0-9]{12,}\.json\Z", re.ASCII)


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
