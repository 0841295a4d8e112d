"""What an operator does to a rollout: each a pure function from one document to the next.

Rule 1: every change raises `seq`. Rule 2: what makes no sense is refused with what was wanted: nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from sync.domain.errors import OperatorError
from sync.domain.rollout import FORMAT, PINS_FORMAT, Candidate, ModelRollout, Pin, Pins, Rollout, State


def empty(group: str) -> Rollout:
    return Rollout(FORMAT, group, 0, {})


def started(
    document: Rollout,
    model: str,
    version: int,
    *,
    percent: float,
    rings: Sequence[str] = (),
    window: str = "",
    deadline: str = "",
    today: str,
) -> Rollout:
    """A candidate for a share of the group. today: a date, for its id. Raises OperatorError while another is under way."""
    before = document.models.get(model, ModelRollout())
    other = before.candidate
    if other is not None and other.version != version and other.state in ("running", "paused"):
        raise OperatorError(f"{model}: version {other.version} is {other.state}; promote it or roll it back first")
    if other is not None and other.version == version and other.state == "paused":
        raise OperatorError(f"{model}: version {version} is paused; resume it first")
    if before.stable == version:
        raise OperatorError(f"{model}: version {version} is what the whole group runs")
    number = document.seq + 1
    candidate = Candidate(
        version, f"r-{today}-{number}", "running", percent=percent, rings=tuple(rings), window=window, deadline=deadline
    )
    return _with(document, model, msgspec.structs.replace(before, candidate=candidate))


def brought(
    document: Rollout,
    model: str,
    version: int,
    *,
    percent: float,
    rings: Sequence[str] = (),
    window: str = "",
    deadline: str = "",
    today: str,
) -> Rollout:
    """`started`, or for the candidate that is under way already `widened`. Raises OperatorError."""
    candidate = document.models.get(model, ModelRollout()).candidate
    if candidate is not None and candidate.version == version and candidate.state == "running":
        return widened(document, model, percent, rings=rings, window=window, deadline=deadline)
    return started(
        document, model, version, percent=percent, rings=rings, window=window, deadline=deadline, today=today
    )


def widened(
    document: Rollout, model: str, percent: float, *, rings: Sequence[str] = (), window: str = "", deadline: str = ""
) -> Rollout:
    """The candidate for a larger share, and for these rings too; window, deadline: "" for those that it has. Raises OperatorError."""
    candidate = _candidate(document, model)
    if candidate.state != "running":
        raise OperatorError(f"{model}: version {candidate.version} is {candidate.state}; resume it first")
    if percent < candidate.percent:
        raise OperatorError(
            f"{model}: want at least {candidate.percent:g} %, got {percent:g} %; nobody goes back by that"
        )
    return _changed(
        document,
        model,
        percent=percent,
        rings=tuple(dict.fromkeys((*candidate.rings, *rings))),
        window=window or candidate.window,
        deadline=deadline or candidate.deadline,
    )


def paused(document: Rollout, model: str) -> Rollout:
    return _moved(document, model, "paused", ("running",))


def resumed(document: Rollout, model: str) -> Rollout:
    return _moved(document, model, "running", ("paused",))


def rolled_back(document: Rollout, model: str) -> Rollout:
    """Everybody goes back to stable. Raises OperatorError where there is none."""
    if document.models.get(model, ModelRollout()).stable is None:
        raise OperatorError(f"{model}: there is no stable version to go back to")
    return _moved(document, model, "rolling_back", ("running", "paused", "done"))


def promoted(document: Rollout, model: str) -> Rollout:
    """The candidate is what the whole group runs from now on. Raises OperatorError."""
    candidate = _candidate(document, model)
    if candidate.state == "rolling_back":
        raise OperatorError(f"{model}: version {candidate.version} is being rolled back")
    before = document.models[model]
    return _with(document, model, msgspec.structs.replace(before, stable=candidate.version, candidate=None))


def settings(document: Rollout, model: str | None = None, **changes: Any) -> Rollout:
    """spread_s, min_rate_Bps and pins_ref of the group; of a model `probation` and `swap`."""
    if model is None:
        return msgspec.structs.replace(document, seq=document.seq + 1, **changes)
    before = document.models.get(model, ModelRollout())
    return _with(document, model, msgspec.structs.replace(before, **changes))


def judged(document: Rollout, model: str, **given: float | None) -> Rollout:
    """How new versions of the model are judged: `Probation`'s members, None for what stays as it is."""
    changes = {key: value for key, value in given.items() if value is not None}
    if not changes:
        return document
    known = document.models.get(model, ModelRollout()).probation
    return settings(document, model, probation=msgspec.structs.replace(known, **changes))


def pinned(pins: Pins | None, device: str, model: str, version: int | None, *, after: int = 0) -> Pins:
    """One device to one version; None takes the pin out. Raises OperatorError where there is none to take out.

    after: the number of the rollout document in force: what failed under that, or before, is tried again.
    """
    pins = pins or Pins(PINS_FORMAT, 0, {})
    seq = max(pins.seq, after) + 1
    mine = dict(pins.devices.get(device, {}))
    if version is not None:
        mine[model] = Pin(version, seq)
    elif mine.pop(model, None) is None:
        raise OperatorError(f"{device}: {model} is not pinned")
    devices = {name: each for name, each in {**pins.devices, device: mine}.items() if each}
    return Pins(PINS_FORMAT, seq, devices)


def _candidate(document: Rollout, model: str) -> Candidate:
    found = document.models.get(model)
    if found is None or found.candidate is None:
        raise OperatorError(f"{model}: nothing is being rolled out to group {document.group}")
    return found.candidate


def _moved(document: Rollout, model: str, state: State, before: Sequence[State]) -> Rollout:
    candidate = _candidate(document, model)
    if candidate.state not in before:
        raise OperatorError(f"{model}: version {candidate.version} is {candidate.state}, want {' or '.join(before)}")
    return _changed(document, model, state=state)


def _changed(document: Rollout, model: str, **changes: Any) -> Rollout:
    before: ModelRollout = document.models[model]
    assert before.candidate is not None
    candidate = msgspec.structs.replace(before.candidate, **changes)
    return _with(document, model, msgspec.structs.replace(before, candidate=candidate))


def _with(document: Rollout, model: str, changed: ModelRollout) -> Rollout:
    models: Mapping[str, ModelRollout] = {**document.models, model: changed}
    return msgspec.structs.replace(document, seq=document.seq + 1, models=models)
