"""From documents to where a model should go, and when: windows and deadlines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import pytest

from sync.agent.planner import Device, Plan, Planner
from sync.domain.deltas import Patch
from sync.domain.digests import Digest, digest_of
from sync.domain.journal import ModelState
from sync.domain.release import File, Manifest, Variant
from sync.domain.rollout import Candidate, ModelRollout, Pin, Rollout
from tests.unit.sync.agent.world import release

NOON = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)


class Documents:
    def __init__(self, rollout: Rollout, pins: Mapping[str, Pin] | None = None) -> None:
        self._rollout, self._pins = rollout, pins or {}

    async def refresh(self) -> None: ...
    async def rollout(self, group: str) -> Rollout:
        return self._rollout

    async def pins(self, rollout: Rollout, device_id: str) -> Mapping[str, Pin]:
        return self._pins

    async def release(self, model: str, version: int) -> tuple[Manifest, Digest]:
        file = File("model.tflite", digest_of(b"%d" % version), 1)
        manifest = Manifest("edge-model/1", model, version, version, (Variant("cpu", (file,)),))
        return manifest, digest_of(b"manifest%d" % version)

    async def patches(self, model: str, version: int) -> Sequence[Patch]:
        return ()


async def plan(candidate: Candidate, *, pins: Mapping[str, Pin] | None = None) -> Plan:
    pins_ref = "rollouts/pins/<bin>.json" if pins else ""
    rollout = Rollout("edge-rollout/1", "g", 1, {"m": ModelRollout(16, candidate)}, pins_ref=pins_ref)
    documents = Documents(rollout, pins)
    planner = Planner(Device("d", "g"), documents, memory_mb=lambda: None, now=NOON.timestamp, local=lambda: NOON)
    return await planner.plan({"m": ModelState(active=release(16))})


@pytest.mark.parametrize(
    ("deadline", "urgent"), [("", False), ("2026-07-01T12:00:01Z", False), ("2026-07-01T12:00:00Z", True)]
)
async def test_a_rollout_is_urgent_from_its_deadline_on(deadline: str, urgent: bool) -> None:
    planned = await plan(Candidate(17, "r", "running", percent=100, deadline=deadline))
    target = planned.targets["m"]
    assert (target.wish.version, target.urgent) == (17, urgent)


async def test_a_deadline_of_one_version_makes_no_other_urgent() -> None:
    candidate = Candidate(17, "r", "running", percent=100, deadline="2026-07-01T00:00:00Z")
    planned = await plan(candidate, pins={"m": Pin(15, 1)})
    assert (planned.targets["m"].wish.version, planned.targets["m"].urgent) == (15, False)


async def test_a_candidate_that_its_window_keeps_back_is_told_with_its_hour_and_stable_is_the_target() -> None:
    planned = await plan(Candidate(17, "r", "running", percent=100, window="22:00-05:00"))
    assert planned.targets["m"].wish.version == 16
    refusal = planned.refusals["m"]
    assert (refusal.reason.value, refusal.message) == ("deferred", "m@17 may begin at 22:00")


@pytest.mark.parametrize(
    ("candidate", "wished"),
    [
        (Candidate(17, "r", "running", percent=100), {"", "r"}),
        (Candidate(17, "r", "running", percent=100, window="22:00-05:00"), {"", "r"}),
        (Candidate(17, "r", "paused", percent=100), {""}),
        (Candidate(17, "r", "running", percent=0), {""}),
    ],
)
async def test_a_rollout_that_is_held_back_by_its_window_is_wished_and_one_that_is_paused_is_not(
    candidate: Candidate, wished: set[str]
) -> None:
    assert (await plan(candidate)).targets["m"].wished == frozenset(wished)
