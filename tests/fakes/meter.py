"""A meter that counts requests and measures nothing else."""

from __future__ import annotations

from edge.telemetry.window import Recent, Totals


class FakeMeter:
    requests = 0

    def answered(self, protocol: str, total_s: float, queue_s: float, run_s: float, *, finite: bool) -> None:
        self.requests += 1

    def failed(self, protocol: str, code: str, total_s: float, *, by_model: bool) -> None:
        self.requests += 1

    def ran(self, rows: int) -> None: ...
    def looked_up(self, *, hit: bool) -> None: ...
    def keeps(self, nbytes: int) -> None: ...

    def window(self) -> Recent:
        return Recent()

    def totals(self) -> Totals:
        return Totals()
