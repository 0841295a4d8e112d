"""What the device says of itself: the journal and what is around it, as a report. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sync.agent.planner import Device
from sync.domain.journal import Held, Journal, ModelState
from sync.domain.report import ModelReport, Report, Transfer


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a report says beside the models. `meta`: versions of the metadata roles; sizes in bytes."""

    clock_ok: bool = True
    meta: Mapping[str, int] | None = None
    last: Transfer = field(default_factory=Transfer)
    disk_free: int = 0
    mem_avail: int = 0
    agent: str = ""
    edge: str = ""


def report_of(device: Device, journal: Journal, now: float, around: Surroundings) -> Report:
    """now: seconds since the epoch."""
    return Report(
        device=device.id,
        group=device.group,
        seq=journal.report_seq,
        ts=now,
        models={name: _model(state, journal.holds.get(name)) for name, state in journal.models.items()},
        clock_ok=around.clock_ok,
        meta=around.meta or {},
        last=around.last,
        disk_free=around.disk_free,
        mem_avail=around.mem_avail,
        agent=around.agent,
        edge=around.edge,
    )


def _model(state: ModelState, held: Held | None) -> ModelReport:
    def version(of: object) -> int | None:
        return getattr(of, "version", None)

    return ModelReport(
        active=version(state.active),
        previous=version(state.previous),
        candidate=version(state.candidate),
        phase=state.phase.value,
        rollout=state.rollout,
        outcome=state.outcome,
        reason=state.reason,
        detail=state.detail,
        tries=state.tries,
        held=version(held),
    )
