"""The command `edge-sync` in this process: what it prints, and its exit code."""

from __future__ import annotations

import contextlib
import io
import sys
from pathlib import Path
from typing import NamedTuple

from sync.cli.root import run


class Said(NamedTuple):
    code: int
    out: str
    errors: str


def edge_sync(*args: str | Path) -> Said:
    """Not from within a running event loop: the command has its own."""
    out, errors = io.StringIO(), io.StringIO()
    before, sys.argv = sys.argv, ["edge-sync", *map(str, args)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
            code = run()
    finally:
        sys.argv = before
    return Said(code, out.getvalue(), errors.getvalue())
