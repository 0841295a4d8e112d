"""Whether what is on disk may still be being written."""

from __future__ import annotations

import time
from collections.abc import Collection
from pathlib import Path

SETTLE_S = 1.0


class Stillness:
    """Remembers since when each path has been as it is now; what has been so for `settle_s` stands still."""

    def __init__(self, settle_s: float) -> None:
        self._settle_s = settle_s
        self._seen: dict[Path, tuple[str, float]] = {}

    def holds(self, path: Path, fingerprint: str, newest: float) -> bool:
        """`newest`: the latest of the files' own times, Unix time in seconds.

        Those decide where the clock can be believed, else what was seen.
        """
        now = time.monotonic()
        last, since = self._seen.get(path, ("", now))
        if last != fingerprint:
            since = now
        self._seen[path] = (fingerprint, since)
        return now - since >= self._settle_s or time.time() - newest >= self._settle_s

    def forget_all_but(self, paths: Collection[Path]) -> None:
        """What is not there any more need not be remembered."""
        self._seen = {path: seen for path, seen in self._seen.items() if path in paths}
