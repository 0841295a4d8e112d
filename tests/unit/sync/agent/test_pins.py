"""What pins do beside a rollout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from sync.agent.planner import Device, Planner
from sync.domain import update
from sync.domain.deltas import Patch
from sync.domain.digests import Digest, digest_of
from sync.domain.errors import Reason, Unsuitable
from sync.domain.journal import Baseline, ModelState
from sync.domain.release import FORMAT, File, Manifest, Variant, encode_manifest
from sync.domain.rollout import Pin, Pins, Rollout
from sync.fleet import rollouts

DEVICE = "dev-1"


class Signed:
    """Documents as they lie in a store: versions of model `m`, each of one file."""

    def __init__(self) -> None:
        self.document = rollouts.promoted(
            rollouts.started(rollouts.empty("g"), "m", 1, percent=100, today="2026-11-20"), "m"
        )
        self.pinned: Pins | None = None

    def pin(self, version: int) -> None:
        self.pinned = rollouts.pinned(self.pinned, DEVICE, "m", version, after=self.document.seq)
        if not self.document.pins_ref:
            self.document = rollouts.settings(self.document, pins_ref="rollouts/pins/<bin>.json")

    async def refresh(self) -> None: ...

    async def rollout(self, group: str) -> Rollout:
        return self.document

    async def pins(self, rollout: Rollout, device_id: str) -> Mapping[str, Pin]:
        return self.pinned.devices.get(device_id, {}) if self.pinned else {}

    async def release(self, model: str, version: int) -> tuple[Manifest, Digest]:
        files = (File("model.tflite", digest_of(str(version).encode()), 1),)
        manifest = Manifest(FORMAT, model, version, version, (Variant("cpu", files),))
        return manifest, digest_of(encode_manifest(manifest))

    async def patches(self, model: str, version: int) -> Sequence[Patch]:
        return ()


def planner(signed: Signed) -> Planner:
    return Planner(
        Device(DEVICE, "g"), signed, memory_mb=lambda: None, now=lambda: 0.0, local=lambda: datetime.now(UTC)
    )


async def failing(signed: Signed, state: ModelState) -> ModelState:
    """The state after the planned version was tried, and failed."""
    target = (await planner(signed).plan({"m": state})).targets["m"]
    tried = update.staged(update.begin(state, target, 0.0), Baseline(), 0.0)
    return update.back(update.failed(tried, Reason.SELFTEST_FAILED, "", 0.0), 0.0)


async def goes_to(signed: Signed, state: ModelState) -> int:
    return (await planner(signed).plan({"m": state})).targets["m"].release.version


async def test_a_pin_that_is_set_after_a_version_failed_has_it_tried_again() -> None:
    signed = Signed()
    signed.document = rollouts.started(signed.document, "m", 2, percent=100, today="2026-11-20")
    state = await failing(signed, ModelState())
    assert await goes_to(signed, state) == 1
    signed.pin(2)
    assert await goes_to(signed, state) == 2


async def test_a_pinned_version_that_failed_is_not_tried_again_before_it_is_pinned_anew() -> None:
    signed = Signed()
    signed.pin(1)
    signed.pin(2)
    state = await failing(signed, ModelState())
    assert await goes_to(signed, state) == 1
    plan = await planner(signed).plan({"m": state})
    assert isinstance(plan.refusals["m"], Unsuitable)
    signed.pin(2)
    assert await goes_to(signed, state) == 2
