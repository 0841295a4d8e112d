"""Small things that are to be known again after a restart: one file each in the state directory, whole or not there."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

from edge.core.durable import replace_durably
from edge.files import open_regular

log = logging.getLogger(__name__)

MAX_KEPT_BYTES = 1 << 20


class Keepsakes:
    """Implements edge.domain.ports.Keepsakes. A key may be any text."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def recall(self, key: str) -> bytes | None:
        try:
            with open_regular(self._file(key)) as file:
                data = file.read(MAX_KEPT_BYTES + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            log.warning("%s: what was kept of it cannot be read: %s", key, error)
            return None
        return data if len(data) <= MAX_KEPT_BYTES else None

    def keep(self, key: str, data: bytes) -> None:
        try:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            replace_durably(self._file(key), data)
        except OSError as error:
            log.warning("%s: it cannot be kept for the next start: %s", key, error)

    def _file(self, key: str) -> Path:
        return self._directory / hashlib.sha256(key.encode()).hexdigest()[:32]
