"""What a child process found out: its report, or why it gave none. Bounded in time; a child that crashes harms nobody."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from edge.children import signal_name

WITHIN_S = 30.0


class Died(Exception):
    """The child gave no report. The message is the last line that it said, or how it ended."""


def probe(what: str, within_s: float = WITHIN_S) -> dict[str, Any]:
    """`what`: "runtime" or "library", as `edge.doctor.probe` has them. Raises Died."""
    command = [sys.executable, "-m", "edge.doctor.probe", what]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=within_s,
            check=False,
            errors="replace",
            text=True,
        )
    except subprocess.TimeoutExpired:
        raise Died(f"no answer within {within_s:g} s") from None
    except OSError as error:
        raise Died(f"{sys.executable}: {error.strerror}") from None
    if done.returncode < 0:
        raise Died(f"killed by {signal_name(-done.returncode)}")
    try:
        report = json.loads(done.stdout)
    except ValueError:
        report = None
    if done.returncode or not isinstance(report, dict):
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        raise Died(said[-1][:500] if said else f"left with {done.returncode}")
    return report
