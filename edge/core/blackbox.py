"""Who was running when the process died.

A file of one byte for each instance, mapped into memory: set before a run, cleared after it. The kernel keeps
the page when the process is killed, so the next start can tell which model's code was under way. It costs a store
to memory a run and no system call.

Rule: a mark says "was running", never "is guilty"; `edge.core.deaths` judges.
"""

from __future__ import annotations

import contextlib
import json
import logging
import mmap
import os
from pathlib import Path

from edge.domain.models import ModelId
from edge.files import open_regular

log = logging.getLogger(__name__)

RECORD_BYTES = 256
MAX_RECORDS = 256


class Mark:
    """One instance's record. A mark without a file marks nothing."""

    __slots__ = ("_at", "_box", "_map")

    def __init__(self, box: BlackBox | None = None, at: int = 0) -> None:
        self._box, self._at = box, at
        self._map = box.map if box is not None else bytearray(1)

    def set(self) -> None:
        self._map[self._at] = 1

    def clear(self) -> None:
        self._map[self._at] = 0

    def release(self) -> None:
        if self._box is not None:
            self._box.release(self._at)
            self._box, self._map, self._at = None, bytearray(1), 0


class BlackBox:
    """`found` holds what ran when the last process ended, as name@version and fingerprint."""

    def __init__(self, path: Path) -> None:
        """Raises OSError."""
        self.found = _read(path)
        size = RECORD_BYTES * MAX_RECORDS
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.ftruncate(handle, 0)
            os.ftruncate(handle, size)
            # Storing to a page that the disk has no room for would kill the process: claim the room now.
            os.posix_fallocate(handle, 0, size)
            self.map = mmap.mmap(handle, size)
        finally:
            os.close(handle)
        self._free = list(range(MAX_RECORDS - 1, -1, -1))

    def mark(self, model: ModelId, fingerprint: str) -> Mark:
        """A record for one instance; more than MAX_RECORDS go unmarked."""
        if not self._free:
            return Mark()
        at = self._free.pop() * RECORD_BYTES
        text = json.dumps([model.name, model.version, fingerprint]).encode()[: RECORD_BYTES - 2]
        self.map[at : at + RECORD_BYTES] = b"\0" + text.ljust(RECORD_BYTES - 1, b"\0")
        return Mark(self, at)

    def release(self, at: int) -> None:
        self.map[at] = 0
        self._free.append(at // RECORD_BYTES)

    def close(self) -> None:
        with contextlib.suppress(BufferError):
            self.map.close()


def _read(path: Path) -> list[tuple[ModelId, str]]:
    try:
        with open_regular(path) as file:
            data = file.read(RECORD_BYTES * MAX_RECORDS)
    except OSError:
        return []
    found = []
    for at in range(0, len(data), RECORD_BYTES):
        if data[at] != 1:
            continue
        try:
            name, version, fingerprint = json.loads(data[at + 1 : at + RECORD_BYTES].rstrip(b"\0"))
            found.append((ModelId(str(name), int(version)), str(fingerprint)))
        except (ValueError, TypeError):
            log.warning("%s: an unreadable record at byte %d is ignored", path, at)
    return found
