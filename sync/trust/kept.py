"""Documents that were verified before, so that a poll with nothing new fetches none. Blocks.

Rule 1: a cache, and nothing more: what is read is verified again, and what cannot be kept is fetched again. Rule 2: bounded:
what was not asked for lately goes.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path

from tuf.api.exceptions import LengthOrHashMismatchError
from tuf.api.metadata import TargetFile

from sync.domain.digests import Digest, hex_of

log = logging.getLogger(__name__)

MAX_KEPT = 64
"""Documents."""


class KeptDocuments:
    def __init__(self, directory: Path, *, most: int = MAX_KEPT) -> None:
        self._directory, self._most = directory, most
        self._used: dict[str, None] = {}  # the one that was used last is last

    def read(self, digest: Digest, target: TargetFile) -> bytes | None:
        """The document, if it is here and still what was signed."""
        path = self._directory / hex_of(digest)
        try:
            if path.stat().st_size != target.length:
                return None
            data = path.read_bytes()
            target.verify_length_and_hashes(data)
        except (OSError, LengthOrHashMismatchError):
            return None
        self._use(path.name)
        return data

    def keep(self, digest: Digest, data: bytes) -> None:
        """Verified bytes. Costs no more than a download later where it fails."""
        path = self._directory / hex_of(digest)
        fresh = path.with_suffix(".tmp")
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            fresh.write_bytes(data)
            fresh.replace(path)
            self._use(path.name)
            self._prune()
        except OSError as error:
            log.warning("%s: cannot be kept: %s", path, error)

    def _use(self, name: str) -> None:
        self._used.pop(name, None)
        self._used[name] = None

    def _prune(self) -> None:
        there = {path.name: path for path in self._directory.iterdir()}
        order = [name for name in there if name not in self._used] + [name for name in self._used if name in there]
        for name in order[: max(0, len(there) - self._most)]:
            with suppress(FileNotFoundError):
                there[name].unlink()
            self._used.pop(name, None)
