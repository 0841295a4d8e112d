"""What the core measures of a version, as it sees it; `edge.telemetry` keeps it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Window:
    """A version's recent past. Times of the run alone, in seconds."""

    requests: int = 0
    failures: int = 0
    non_finite: int = 0
    run_p50_s: float = 0.0
    run_p99_s: float = 0.0


class Meter(Protocol):
    """One version's counters. Called on the event loop, once for each request."""

    def answered(self, protocol: str, total_s: float, queue_s: float, run_s: float, *, finite: bool) -> None: ...

    def failed(self, protocol: str, code: str, total_s: float, *, by_model: bool) -> None:
        """`by_model`: the version is to blame, and not the client or the load."""
        ...

    def window(self) -> Window: ...


class NoMeter:
    """Measures nothing."""

    def answered(self, protocol: str, total_s: float, queue_s: float, run_s: float, *, finite: bool) -> None: ...
    def failed(self, protocol: str, code: str, total_s: float, *, by_model: bool) -> None: ...
    def window(self) -> Window:
        return Window()
