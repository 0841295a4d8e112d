"""What an update took: its bytes by where they came from, and its times. For reports; nothing is decided by it.

Rule 1: told of every transition, and only then: an update's figures are there when its files are, or it has ended. Rule 2: bytes are
counted for the device: of updates that fetch at one moment, each has also what the others fetched.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from sync.domain.journal import ModelState, Phase
from sync.domain.report import Transfer

Fetched = Callable[[], tuple[int, int, int]]
"""Bytes so far: of whole files, of patches, from neighbours."""


class _Mark(NamedTuple):
    """Where a phase began."""

    phase: Phase | None
    fetched: tuple[int, int, int]
    at: float


class Tally:
    """`last`: of the update that moved last. monotonic: seconds.

    An update that an earlier process has begun is counted from the start of this one.
    """

    def __init__(self, fetched: Fetched, monotonic: Callable[[], float]) -> None:
        self._fetched, self._monotonic = fetched, monotonic
        self._start = _Mark(None, fetched(), monotonic())
        self._marks: dict[str, _Mark] = {}
        self._transfers: dict[str, Transfer] = {}
        self.last = Transfer()

    def changed(self, model: str, state: ModelState) -> None:
        """A transition that was just made."""
        before = self._marks.get(model, self._start)
        if state.phase is before.phase:
            return
        mark = self._marks[model] = _Mark(state.phase, self._fetched(), self._monotonic())
        passed_ms = round((mark.at - before.at) * 1000)
        if state.phase is Phase.SWAPPING or before.phase is Phase.STAGING:
            full, delta, peer = (now - then for now, then in zip(mark.fetched, before.fetched, strict=True))
            self._transfers[model] = Transfer(full, delta, peer, ms_download=passed_ms)
        elif state.phase is Phase.PROBATION or before.phase is Phase.SWAPPING:
            known = self._transfers.get(model, Transfer())
            self._transfers[model] = msgspec.structs.replace(known, ms_test=passed_ms)
        self.last = self._transfers.get(model, self.last)
