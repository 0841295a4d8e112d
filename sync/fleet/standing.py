"""How a rollout stands: the group's document beside what its devices have said. Pure.

Rule 1: a device counts once, by its latest report. Rule 2: what it should run is what the device itself computes from the
document (`want`); of its rings and pins, which the document does not know, its own report tells. Rule 3: committed is what
was judged and stayed, never what was only downloaded. Rule 4: who should have come further by now is a straggler, named with
where it is, since when, and why. Rule 5: who says that it cannot take what it should is named with why, and is no straggler.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from sync.domain.errors import Reason
from sync.domain.journal import Phase
from sync.domain.report import ModelReport, Refusal, Report
from sync.domain.rollout import ModelRollout, Rollout, want
from sync.fleet.reports import DeviceLog

SILENT_S = 12 * 3600.0
"""Two heartbeats that did not come."""
POLL_S = 6 * 3600.0
"""Within which every device that is well asks the store once."""
WINDOW_S = 86400.0
"""Within which every maintenance window comes once."""
SLACK_S = 3600.0


class Where(Enum):
    """Of a device on its way to a version."""

    NOT_BEGUN = "not_begun"
    STAGING = Phase.STAGING.value
    SWAPPING = Phase.SWAPPING.value
    PROBATION = Phase.PROBATION.value
    ROLLING_BACK = Phase.ROLLING_BACK.value
    COMMITTED = "committed"
    FAILED = "failed"


UNDER_WAY = (Where.STAGING, Where.SWAPPING, Where.PROBATION, Where.ROLLING_BACK)


class Straggler(NamedTuple):
    """for_s: seconds for which it has been there, or silent. why: "silent", or the reason that it says, or ""."""

    device: str
    where: Where
    for_s: float
    why: str


class Unable(NamedTuple):
    """A device that does not take what it should. why: the reason that it says; detail: in its words."""

    device: str
    why: str
    detail: str


@dataclass(slots=True)
class Course:
    """One version and the devices that should run it. `failed`, `held`, `refused`: by reason, of those that failed, wait, or
    cannot take it, who are `unable`."""

    version: int
    rollout: str = ""
    devices: int = 0
    where: Counter[Where] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    held: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    unable: list[Unable] = field(default_factory=list)
    stragglers: list[Straggler] = field(default_factory=list)


@dataclass(slots=True)
class ModelStanding:
    """`candidate`, `stable`: None where the document names none. `pinned`: devices that go their own way; `unable`: those that
    cannot take what they are pinned to. `holding`: devices that were told beside the store to stay at a version.

    `running`: devices by the version that they run, None for none.
    """

    candidate: Course | None = None
    stable: Course | None = None
    pinned: int = 0
    unable: list[Unable] = field(default_factory=list)
    holding: dict[str, int] = field(default_factory=dict)
    running: Counter[int | None] = field(default_factory=Counter)


@dataclass(slots=True)
class Standing:
    """`devices`: of the group, of which `silent` were not heard of lately."""

    devices: int = 0
    silent: int = 0
    models: dict[str, ModelStanding] = field(default_factory=dict)


def standing(rollout: Rollout, logs: Iterable[DeviceLog], now: float, *, silent_s: float = SILENT_S) -> Standing:
    """now: seconds since the epoch, by the collector's clock."""
    mine = [log for log in logs if log.latest.report.group == rollout.group]
    found = Standing(len(mine), sum(now - log.latest.received > silent_s for log in mine))
    for name, model in rollout.models.items():
        found.models[name] = _Count(rollout, name, model, mine, now, silent_s).run()
    return found


class _Count:
    def __init__(
        self, rollout: Rollout, name: str, model: ModelRollout, logs: list[DeviceLog], now: float, silent_s: float
    ) -> None:
        self._rollout, self._name, self._model = rollout, name, model
        self._logs, self._now, self._silent_s = logs, now, silent_s
        self._first = _first_heard(name, logs)
        candidate = model.candidate
        self._found = ModelStanding(
            candidate=Course(candidate.version, candidate.id) if candidate is not None else None,
            stable=Course(model.stable) if model.stable is not None else None,
        )

    def run(self) -> ModelStanding:
        for log in self._logs:
            report = log.latest.report.models.get(self._name, ModelReport())
            self._found.running[report.active] += 1
            if (refused := report.refused) is not None and refused.rollout == "pin":
                self._found.unable.append(Unable(log.device, refused.reason, refused.detail))
            if report.rollout == "pin":
                self._found.pinned += 1
            elif report.held is not None:
                self._found.holding[log.device] = report.held
            elif (course := self._course(log.device, report)) is not None:
                self._take(course, log, report)
        for course in (self._found.candidate, self._found.stable):
            if course is not None:
                course.stragglers.sort(key=lambda one: (-one.for_s, one.device))
        return self._found

    def _course(self, device: str, report: ModelReport) -> Course | None:
        candidate = self._model.candidate
        if candidate is not None and candidate.state != "rolling_back":
            refused = report.refused.rollout if report.refused is not None else ""
            begun = candidate.id in (report.rollout, refused)  # by a ring, say
            wishes = want(device, frozenset(), self._rollout, self._name, active=report.active)
            if begun or any(wish.rollout == candidate.id for wish in wishes):
                return self._found.candidate
        return self._found.stable

    def _take(self, course: Course, log: DeviceLog, report: ModelReport) -> None:
        where = _where(report, course)
        course.devices += 1
        course.where[where] += 1
        if where is Where.FAILED:
            course.failed[report.reason or "unknown"] += 1
        elif report.reason and where in UNDER_WAY:
            course.held[report.reason] += 1
        refusal = _refusal(course, log.latest.report, report) if where is Where.NOT_BEGUN else None
        if refusal is not None and refusal.reason == Reason.DEFERRED.value:
            course.held[refusal.reason] += 1
        elif refusal is not None:
            course.refused[refusal.reason] += 1
            course.unable.append(Unable(log.device, refusal.reason, refusal.detail))
        if (straggler := self._straggler(course, log, report, where, refusal)) is not None:
            course.stragglers.append(straggler)

    def _straggler(
        self, course: Course, log: DeviceLog, report: ModelReport, where: Where, refusal: Refusal | None
    ) -> Straggler | None:
        if where in (Where.COMMITTED, Where.FAILED):
            return None
        candidate = self._model.candidate
        may_begin = candidate is None or course.rollout == "" or candidate.state == "running"
        if where is Where.NOT_BEGUN and not may_begin:
            return None
        silence_s = self._now - log.latest.received
        if silence_s > self._silent_s:
            return Straggler(log.device, where, silence_s, "silent")
        if refusal is not None and refusal.reason != Reason.DEFERRED.value:
            return None
        since = _since(log, self._name) if where in UNDER_WAY else self._first.get(course.rollout)
        if since is None or self._now - since <= self._patience_s(where):
            return None
        why = refusal.reason if refusal is not None else report.reason
        return Straggler(log.device, where, self._now - since, why)

    def _patience_s(self, where: Where) -> float:
        """Seconds after which a device should be further."""
        if where is Where.NOT_BEGUN:
            windowed = self._model.candidate is not None and self._model.candidate.window
            return self._rollout.spread_s + POLL_S + SLACK_S + (WINDOW_S if windowed else 0)
        return 2 * (self._rollout.spread_s + self._model.probation.seconds) + SLACK_S


def _where(report: ModelReport, course: Course) -> Where:
    if report.phase != Phase.IDLE.value:
        known = {where.value: where for where in UNDER_WAY}
        return known.get(report.phase, Where.STAGING)
    if report.active == course.version:
        return Where.COMMITTED
    operators = report.reason == Reason.ROLLED_BACK_OPERATOR.value
    if report.outcome in ("failed", "rolled_back") and report.rollout == course.rollout and not operators:
        return Where.FAILED
    return Where.NOT_BEGUN


def _refusal(course: Course, report: Report, model: ModelReport) -> Refusal | None:
    """Why it does not begin with this version, or with any."""
    refused = model.refused
    if refused is not None and (refused.version, refused.rollout) == (course.version, course.rollout):
        return refused
    return report.problem


def _since(log: DeviceLog, model: str) -> float:
    """When its update was first heard of, as far back as its reports go."""
    since = log.latest.received
    rollout = log.latest.report.models[model].rollout
    for kept in reversed(log.kept):
        report = kept.report.models.get(model)
        if report is None or report.phase == Phase.IDLE.value or report.rollout != rollout:
            break
        since = kept.received
    return since


def _first_heard(model: str, logs: Iterable[DeviceLog]) -> Mapping[str, float]:
    """By rollout, when the first device spoke of it."""
    first: dict[str, float] = {}
    for log in logs:
        for kept in log.kept:
            report = kept.report.models.get(model)
            if report is not None and report.rollout:
                first[report.rollout] = min(first.get(report.rollout, kept.received), kept.received)
    return first
