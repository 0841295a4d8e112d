"""How `edge-sync rollout status` says where a rollout stands, for people and as JSON. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from sync.cli.units import say_duration
from sync.domain.rollout import ModelRollout, Pin, Rollout
from sync.fleet.standing import UNDER_WAY, Course, Standing, Straggler, Unable, Where

MAX_SHOWN = 20
"""Stragglers of a version, devices that cannot take it, and pins, that are named for people; JSON has them all."""

Pinned = dict[str, Mapping[str, Pin]]
"""By device, by model."""


def words(document: Rollout, found: Standing | None, silent_s: float, pins: Pinned) -> list[str]:
    """found: None where no reports were counted. pins: of every group."""
    lines = [f"{document.group}: document {document.seq}"]
    if found is not None:
        lines[0] += (
            f"; {_devices(found.devices)} reported, {found.silent} silent for more than {say_duration(silent_s)}"
        )
    for name, model in sorted(document.models.items()):
        lines.append(name)
        standing = found.models[name] if found is not None else None
        if model.candidate is not None:
            lines.append(f"  {_candidate(model)}" + _of(standing.candidate if standing is not None else None))
            lines += _course(standing.candidate if standing is not None else None)
        if model.stable is not None:
            lines.append(f"  stable {model.stable}" + _of(standing.stable if standing is not None else None))
            lines += _course(standing.stable if standing is not None else None)
        if standing is not None and standing.running:
            runs = sorted(standing.running.items(), key=lambda item: -1 if item[0] is None else item[0], reverse=True)
            told = ", ".join(f"{'nothing' if version is None else version}: {count}" for version, count in runs)
            lines.append(f"  running {told}" + (f"; pinned: {standing.pinned}" if standing.pinned else ""))
        lines += _unable(standing.unable, "cannot take its pin") if standing is not None else ()
        lines += _holding(standing.holding) if standing is not None else ()
    return lines + list(_pins(pins))


def listed(names: Sequence[str]) -> str:
    more = len(names) - MAX_SHOWN
    return ", ".join(names[:MAX_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _pins(pins: Pinned) -> Iterator[str]:
    told = [f"{device}: {name} {pin.version}" for device in sorted(pins) for name, pin in sorted(pins[device].items())]
    if told:
        yield "pinned, of every group"
    yield from (f"  {each}" for each in told[:MAX_SHOWN])
    if (more := len(told) - MAX_SHOWN) > 0:
        yield f"  and {more} more"


def _holding(devices: Mapping[str, int]) -> Iterator[str]:
    """Devices that go nowhere, for a command told them so."""
    for device in sorted(devices)[:MAX_SHOWN]:
        yield f"  held    {device}: version {devices[device]}, by a command beside the store"
    if (more := len(devices) - MAX_SHOWN) > 0:
        yield f"    and {more} more"


def _candidate(model: ModelRollout) -> str:
    candidate = model.candidate
    assert candidate is not None
    rings = f", rings {', '.join(candidate.rings)}" if candidate.rings else ""
    window = f", from {candidate.window}" if candidate.window else ""
    window += f", at any hour from {candidate.deadline} on" if candidate.deadline else ""
    state = candidate.state.replace("_", " ")
    return f"candidate {candidate.version} ({candidate.id}), {state} for {candidate.percent:g} %{rings}{window}"


def _of(course: Course | None) -> str:
    return f": {_devices(course.devices)}" if course is not None else ""


def _devices(count: int) -> str:
    return "1 device" if count == 1 else f"{count} devices"


def _course(course: Course | None) -> Iterator[str]:
    if course is None:
        return
    for where in Where:
        if count := course.where[where]:
            why = course.failed if where is Where.FAILED else Counter[str]()
            yield f"    {where.value.replace('_', ' '):13}{count:>6}" + _reasons(why)
    if course.held:
        yield f"    held up by {_reasons(course.held).strip()}"
    if course.refused:
        yield f"    not to be taken by {_devices(len(course.unable))}:{_reasons(course.refused)[1:]}"
    yield from _unable(course.unable, "cannot take it")
    for one in course.stragglers[:MAX_SHOWN]:
        yield f"    straggler: {_straggler(one)}"
    if (more := len(course.stragglers) - MAX_SHOWN) > 0:
        yield f"    and {more} more"


def _unable(devices: list[Unable], text: str) -> Iterator[str]:
    for one in devices[:MAX_SHOWN]:
        yield f"    {text}: {one.device}: {one.why}" + (f" ({one.detail})" if one.detail else "")
    if (more := len(devices) - MAX_SHOWN) > 0:
        yield f"    and {more} more"


def _straggler(one: Straggler) -> str:
    where = one.where.value.replace("_", " ")
    time = say_duration(one.for_s)
    if one.why == "silent":
        return f"{one.device}: silent for {time}, last {where}"
    return f"{one.device}: {where} for {time}" + (f" ({one.why})" if one.why else "")


def _reasons(counts: Counter[str]) -> str:
    told = ", ".join(
        f"{reason} {count}" for reason, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    )
    return f"  {told}" if told else ""


def as_json(document: Rollout, found: Standing | None, pins: Pinned | None = None) -> dict[str, object]:
    """pins: None where they were not looked at."""
    told: dict[str, object] = {"document": msgspec.to_builtins(document)}
    if pins is not None:
        told["pins"] = {
            device: {name: pin.version for name, pin in sorted(pins[device].items())} for device in sorted(pins)
        }
    if found is not None:
        told["devices"], told["silent"] = found.devices, found.silent
        told["models"] = {
            name: {
                "candidate": _course_as_json(one.candidate),
                "stable": _course_as_json(one.stable),
                "pinned": one.pinned,
                "unable": [each._asdict() for each in one.unable],
                "held": dict(sorted(one.holding.items())),
                "running": {"none" if version is None else str(version): n for version, n in one.running.items()},
            }
            for name, one in found.models.items()
        }
    return told


def _course_as_json(course: Course | None) -> dict[str, object] | None:
    if course is None:
        return None
    return {
        "version": course.version,
        "rollout": course.rollout,
        "devices": course.devices,
        "where": {where.value: course.where[where] for where in Where},
        "under_way": sum(course.where[where] for where in UNDER_WAY),
        "failed": dict(course.failed),
        "held": dict(course.held),
        "refused": dict(course.refused),
        "unable": [each._asdict() for each in course.unable],
        "stragglers": [
            {"device": one.device, "where": one.where.value, "for_s": round(one.for_s), "why": one.why}
            for one in course.stragglers
        ],
    }
