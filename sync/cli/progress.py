"""Progress for people, on stderr: a bar on a terminal, else a line when a stage begins, every LINE_S seconds, and at its end.

Rule 1: stdout is the answer's: nothing here writes to it. Rule 2: no control character unless it is a terminal that knows them.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable
from typing import TextIO

from sync.cli.units import say_size
from sync.fleet.progress import Progress, Quiet

LINE_S = 10.0
REDRAW_S = 0.1
CELLS = 30


def shown(*, quiet: bool, stream: TextIO | None = None) -> Progress:
    """What fits the stream, stderr where none is named."""
    if quiet:
        return Quiet()
    where = stream or sys.stderr
    return Bar(where) if where.isatty() and os.environ.get("TERM") != "dumb" else Lines(where)


class _Count:
    """What both show of a stage."""

    def __init__(self, what: str, total: int, in_bytes: bool) -> None:
        self.what, self.total, self.done, self.in_bytes = what, total, 0, in_bytes

    @property
    def share(self) -> float:
        return min(self.done / self.total, 1.0) if self.total else 1.0

    def __str__(self) -> str:
        done, total = (say_size(self.done), say_size(self.total)) if self.in_bytes else (self.done, self.total)
        return f"{done} of {total}"


class Lines:
    def __init__(self, stream: TextIO, now: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._now = stream, now
        self._count: _Count | None = None
        self._said = 0.0

    def begin(self, what: str, total: int, *, in_bytes: bool = False) -> None:
        self.end()
        self._count = _Count(what, total, in_bytes)
        self._said = self._now()

    def step(self, count: int = 1) -> None:
        if self._count is not None:
            self._count.done += count
            if self._now() - self._said >= LINE_S:
                self._say()

    def end(self) -> None:
        if self._count is not None:
            self._say()
            self._count = None

    def _say(self) -> None:
        assert self._count is not None
        self._said = self._now()
        print(f"{self._count.what}: {self._count}", file=self._stream, flush=True)


class Bar:
    def __init__(self, stream: TextIO, now: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._now = stream, now
        self._count: _Count | None = None
        self._drawn = float("-inf")

    def begin(self, what: str, total: int, *, in_bytes: bool = False) -> None:
        self.end()
        self._count = _Count(what, total, in_bytes)
        self._draw()

    def step(self, count: int = 1) -> None:
        if self._count is not None:
            self._count.done += count
            if self._now() - self._drawn >= REDRAW_S:
                self._draw()

    def end(self) -> None:
        if self._count is not None:
            self._draw()
            self._stream.write("\n")
            self._stream.flush()
            self._count = None

    def _draw(self) -> None:
        count = self._count
        assert count is not None
        self._drawn = self._now()
        full = int(count.share * CELLS)
        line = f"{count.what:12} [{'#' * full}{'.' * (CELLS - full)}] {count.share:4.0%}  {count}"
        self._stream.write("\r\x1b[K" + line[: shutil.get_terminal_size().columns - 1])
        self._stream.flush()
