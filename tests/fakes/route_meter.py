"""Counts where requests and copies went."""

from __future__ import annotations

from collections import Counter


class FakeRouteMeter:
    def __init__(self) -> None:
        self.sides: Counter[tuple[str, int]] = Counter()
        self.results: Counter[tuple[int, str]] = Counter()
        self.difference = ""

    def routed(self, side: str, version: int) -> None:
        self.sides[side, version] += 1

    def shadowed(self, version: int, result: str, run_s: float | None = None, told: str = "") -> None:
        self.results[version, result] += 1
        self.difference = told or self.difference
