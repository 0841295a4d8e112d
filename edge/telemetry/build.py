"""What this program is, and which run of it: for `edge version`, the protocols, the metrics and the status."""

from __future__ import annotations

from dataclasses import dataclass

import edge


def version() -> str:
    """Not from the installed package's metadata: to read those imports a parser of e-mail, on every start."""
    return edge.__version__


@dataclass(frozen=True, slots=True)
class Boot:
    """Who is speaking. `boot_id` is new at each start; `started` is a Unix time in seconds.

    `last_exit`: how the process before this one ended: "clean", "killed" (a power cut too), "crashed" (by a fatal
    signal), or "unknown" without a state directory.
    """

    boot_id: str
    version: str
    started: float
    last_exit: str = "unknown"
