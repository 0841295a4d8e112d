"""What the core measures of a version, as it sees it; `edge.telemetry` keeps it."""

from __future__ import annotations

from typing import Protocol

from edge.telemetry.window import Recent, Totals


class Meter(Protocol):
    """One version's counters. Called on the event loop, once for each request."""

    def answered(self, protocol: str, total_s: float, queue_s: float, run_s: float, *, finite: bool) -> None: ...

    def failed(self, protocol: str, code: str, total_s: float, *, by_model: bool) -> None:
        """`by_model`: the version is to blame, and not the client or the load."""
        ...

    def window(self) -> Recent: ...
    def totals(self) -> Totals: ...
