"""What was seen of the server during one phase of an update, by this process of the agent.

Rule: time counts only between two looks that the server answered, so that neither a clock that jumps nor a server that
is away makes a phase longer or shorter.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from sync.domain.errors import Reason
from sync.domain.journal import Installed, Watched
from sync.domain.ports import ServerHealth, VersionHealth

NOTE_EVERY_S = 60.0
"""How much of a probation's time a crash of the agent may cost."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One look. `known`: whether the server knows the model; `heard`: whether it acts on what it was told last.

    `problem`: what it finds wrong with that. `version`: the one that was looked for.
    """

    server: ServerHealth
    known: bool
    heard: bool
    problem: str
    version: VersionHealth | None


class Witness:
    """`seconds`: for which the server was seen to answer, beyond what the journal has."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._at: float | None = None
        self._last = VersionHealth("ready")

    def look(self, monotonic: float) -> None:
        """The server answers, at `monotonic` seconds."""
        if self._at is not None:
            self.seconds += monotonic - self._at
        self._at = monotonic

    def absent(self) -> None:
        self._at = None

    def watched(self, before: Watched, health: ServerHealth, version: VersionHealth | None) -> Watched:
        """What the journal should have: the same object unless another process serves, or NOTE_EVERY_S have passed.

        Counts begin anew with each process of the server; those of the one before are added up, as they were last seen.
        """
        after = before
        if health.boot != before.boot:
            after = msgspec.structs.replace(
                before,
                boot=health.boot,
                deaths=before.deaths + (health.last_exit != "clean"),
                answered=before.answered + self._last.answered,
                failures=before.failures + self._last.failures,
                non_finite=before.non_finite + self._last.non_finite,
            )
            self._last = VersionHealth("ready")
        if version is not None:
            self._last = version
        if after is before and self.seconds < NOTE_EVERY_S:
            return before
        after = msgspec.structs.replace(after, seconds=after.seconds + self.seconds)
        self.seconds = 0.0
        return after


def version_of(health: ServerHealth, model: str, release: Installed | None) -> VersionHealth | None:
    known = health.models.get(model)
    return known.versions.get(release.version) if known is not None and release is not None else None


def why_it_failed(reason: str) -> Reason:
    """By the words of the server's status."""
    if "not done after" in reason or "timed out" in reason:
        return Reason.SELFTEST_TIMEOUT
    if "self-test" in reason or "golden" in reason:
        return Reason.SELFTEST_FAILED
    return Reason.LOW_MEMORY if "out of memory" in reason or "not enough memory" in reason else Reason.LOAD_FAILED
