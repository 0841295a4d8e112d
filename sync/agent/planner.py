"""From signed documents to where each model should go.

Rule 1: `sync.domain` decides; this module fetches what the decision needs. Rule 2: a wish that cannot be fulfilled is
passed over for the next one, and why is told; a document that cannot be had now changes nothing that was planned before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from sync.domain.deltas import Patch
from sync.domain.digests import Digest
from sync.domain.errors import Deferred, DocumentError, Missing, SyncError, Unsuitable
from sync.domain.journal import ModelState, Phase
from sync.domain.release import Manifest
from sync.domain.report import Refusal
from sync.domain.rollout import Pin, Probation, Rollout, Wish, is_overdue, may_begin, opens_in_s, want
from sync.domain.update import Target, accept


@dataclass(frozen=True, slots=True)
class Device:
    """Who this is. `accelerators`: what it has, e.g. ("cpu", "edgetpu")."""

    id: str
    group: str
    rings: frozenset[str] = frozenset()
    accelerators: Sequence[str] = ("cpu",)


class Documents(Protocol):
    """What the keys' holders have signed, as of the last refresh. Each raises StoreError, TrustError, DocumentError."""

    async def refresh(self) -> None:
        """Take in what is new; what is expired or older than what was seen is refused."""
        ...

    async def rollout(self, group: str) -> Rollout: ...
    async def pins(self, rollout: Rollout, device_id: str) -> Mapping[str, Pin]:
        """By model; empty where the device has none."""
        ...

    async def release(self, model: str, version: int) -> tuple[Manifest, Digest]:
        """With the digest of the manifest's bytes. Raises Missing for a version that was never released."""
        ...

    async def patches(self, model: str, version: int) -> Sequence[Patch]: ...


@dataclass(slots=True)
class Plan:
    """By model: where to go, and why not to where it was wished; `refused`: the same for reports."""

    targets: dict[str, Target] = field(default_factory=dict)
    refusals: dict[str, SyncError] = field(default_factory=dict)
    refused: dict[str, Refusal] = field(default_factory=dict)


class Planner:
    """memory_mb: MiB that may be used now, None for no bound. local: the time in the device's zone."""

    def __init__(
        self,
        device: Device,
        documents: Documents,
        *,
        memory_mb: Callable[[], int | None],
        now: Callable[[], float],
        local: Callable[[], datetime],
    ) -> None:
        self._device, self._documents = device, documents
        self._memory_mb, self._now, self._local = memory_mb, now, local

    async def plan(self, states: Mapping[str, ModelState]) -> Plan:
        """Of every model that the group's document names. Raises StoreError, TrustError, DocumentError."""
        rollout = await self._documents.rollout(self._device.group)
        pins = await self._documents.pins(rollout, self._device.id) if rollout.pins_ref else {}
        plan = Plan()
        for model in {*rollout.models, *pins}:
            await self._plan_model(plan, model, rollout, pins.get(model), states.get(model, ModelState()))
        return plan

    async def _plan_model(self, plan: Plan, model: str, rollout: Rollout, pin: Pin | None, state: ModelState) -> None:
        active = state.active.version if state.active is not None else None
        device = self._device
        wishes = want(device.id, device.rings, rollout, model, pin=pin, active=active)
        for wish in wishes:
            try:
                target = await self._target(model, wish, rollout, state)
            except (Unsuitable, DocumentError, Missing, Deferred) as error:
                refusal = Refusal(error.reason.value, error.message, wish.version, wish.rollout)
                plan.refusals.setdefault(model, error)
                plan.refused.setdefault(model, refusal)
            else:
                plan.targets[model] = target._replace(wished=frozenset(each.rollout for each in wishes))
                return

    async def _target(self, model: str, wish: Wish, rollout: Rollout, state: ModelState) -> Target:
        """Raises Unsuitable, DocumentError, Missing; Deferred for a candidate that its window keeps back."""
        document = rollout.models.get(model)
        candidate = document.candidate if document is not None else None
        if candidate is not None and wish.rollout != candidate.id:
            candidate = None
        if candidate is not None and state.phase is Phase.IDLE:
            runs_it = state.active is not None and state.active.version == candidate.version
            if not runs_it and not may_begin(candidate, local := self._local()):
                text = f"{model}@{candidate.version} may begin at {candidate.window.partition('-')[0]}"
                raise Deferred(text, opens_in_s(candidate.window, local))
        recalled = document.candidate if document is not None else None
        manifest, digest = await self._documents.release(model, wish.version)
        swap = document.swap if document is not None else "beside"
        release = accept(
            wish,
            manifest,
            digest,
            state,
            model=model,
            accelerators=self._device.accelerators,
            memory_mb=self._memory_mb() if swap == "beside" else None,
            now=self._now(),
        )
        return Target(
            release=release,
            wish=wish,
            seq=rollout.seq,
            probation=document.probation if document is not None else Probation(),
            swap=swap,
            min_rate_Bps=rollout.min_rate_Bps,
            min_counter=manifest.min_counter,
            urgent=candidate is not None and is_overdue(candidate, self._local()),
            recalled=recalled.version if recalled is not None and recalled.state == "rolling_back" else None,
        )
