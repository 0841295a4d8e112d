"""What is counted of one model's weights and of its shadow.

Rule: sets of labels are bounded, though versions come and go: of the oldest, the counts are forgotten.
"""

from __future__ import annotations

from typing import TypeVar

from edge.telemetry.metrics import Histogram

MAX_SERIES = 256
"""Of each metric, for each model."""
MAX_TOLD = 300
"""Characters of what is told for people."""

K = TypeVar("K")
V = TypeVar("V")


class RoutingCounts:
    """`sides` by (side, version), `results` by (shadow's version, result), `seconds` by the shadow's version.

    `difference`: what was told of the last copy of which there was anything to tell.
    """

    def __init__(self) -> None:
        self.sides: dict[tuple[str, int], int] = {}
        self.results: dict[tuple[int, str], int] = {}
        self.seconds: dict[int, Histogram] = {}
        self.difference = ""

    def routed(self, side: str, version: int) -> None:
        try:
            self.sides[side, version] += 1
        except KeyError:
            _forget(self.sides)
            self.sides[side, version] = 1

    def shadowed(self, version: int, result: str, run_s: float | None = None, told: str = "") -> None:
        key = (version, result)
        if key not in self.results:
            _forget(self.results)
        self.results[key] = self.results.get(key, 0) + 1
        if run_s is not None:
            if version not in self.seconds:
                _forget(self.seconds)
                self.seconds[version] = Histogram()
            self.seconds[version].observe(run_s)
        if told:
            self.difference = f"version {version}: {result}: {told}"[:MAX_TOLD]


def _forget(known: dict[K, V]) -> None:
    if len(known) >= MAX_SERIES:
        del known[next(iter(known))]
