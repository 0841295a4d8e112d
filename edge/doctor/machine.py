"""The device as files of /proc, /sys and /dev say it is, under a root that a test may put elsewhere.

Rule 1: nothing here raises for what is absent or cannot be read; it is None or empty, and the check words it.
Rule 2: no more than MAX_BYTES of a file are read.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

MAX_BYTES = 1 << 20
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Machine:
    """`access`: whether this user may, as os.access says it."""

    root: Path = Path("/")
    access: Callable[[Path, int], bool] = os.access

    def path(self, *parts: str) -> Path:
        return self.root.joinpath(*parts)

    def text(self, *parts: str) -> str | None:
        """What the file says, stripped; None where it is not there, or not for us."""
        try:
            with self.path(*parts).open("rb") as file:
                return file.read(MAX_BYTES).decode(errors="replace").strip()
        except OSError:
            return None

    def names(self, *parts: str) -> list[str]:
        """What is in a directory, in order."""
        try:
            return sorted(os.listdir(self.path(*parts)))
        except OSError:
            return []


def amount(size: float) -> str:
    """Bytes for people: `512 B`, `1.5 MiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    raise AssertionError
