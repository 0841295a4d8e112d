"""What the core measures of a version, as it sees it; `edge.telemetry` keeps it."""

from __future__ import annotations

from typing import Protocol

from edge.telemetry.window import Recent, Totals


class Meter(Protocol):
    """One version's counters. Called on the event loop, once for each request and each event."""

    def answered(self, protocol: str, total_s: float, queue_s: float, run_s: float, *, finite: bool) -> None: ...

    def failed(self, protocol: str, code: str, total_s: float, *, by_model: bool) -> None:
        """`by_model`: the version is to blame, and not the client or the load."""
        ...

    def ran(self, rows: int) -> None:
        """A run that requests may share was of so many rows, without those that only fill it up."""
        ...

    def looked_up(self, *, hit: bool) -> None:
        """Whether an answer was there already. Only where answers are kept."""
        ...

    def keeps(self, nbytes: int) -> None:
        """Answers take so many bytes now."""
        ...

    @property
    def requests(self) -> int: ...
    def window(self) -> Recent: ...
    def totals(self) -> Totals: ...


class RouteMeter(Protocol):
    """Of one model: where requests that named no version went, and what came of the copies. On the event loop."""

    def routed(self, side: str, version: int) -> None:
        """`side` as the weights name it, "" where none of them was ready."""
        ...

    def shadowed(self, version: int, result: str, run_s: float | None = None, told: str = "") -> None:
        """A copy for `version` (0: for none that is ready) has come to `result`. run_s: how long the version ran, if it
        did; told: for people."""
        ...

    @property
    def difference(self) -> str:
        """What was told of the last answer that differed."""
        ...
