"""What a device cannot take reaches the operator: once when it is news, with its reason, and until it is over."""

from __future__ import annotations

from pathlib import Path

import pytest

from sync.agent.refusals import Refusals
from sync.cli.standing import words
from sync.domain.errors import DocumentError, Reason, SyncError, TrustError, Unreachable
from sync.domain.layout import rollout_name
from sync.domain.report import ModelReport, Refusal, Report, parse_report
from sync.fleet.reports import DeviceLog, Kept, checked
from sync.fleet.standing import standing
from tests.unit.sync.agent.test_clocks import GROUP, Clocked

NO_VARIANT = Refusal("no_variant", "m@17: no variant (tpu) runs on cpu", 17, "r")


class Collector:
    def __init__(self) -> None:
        self.got: list[Report] = []

    async def deliver(self, report: bytes) -> None:
        self.got.append(checked(parse_report(report)))


class Device(Clocked):
    """`polls`: so many, a quarter of an hour apart, and what was reported at them."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.delivery = self.collector = Collector()

    async def polls(self, times: int = 1) -> list[Report]:
        before = len(self.collector.got)
        for _ in range(times):
            await self.agent.poll()
            await self.agent._reporter.flush()
            self.time.seconds += 900
        return self.collector.got[before:]


@pytest.fixture
async def device(tmp_path: Path) -> Device:
    """It runs 16; 17 is for others' hardware."""
    made = Device(tmp_path)
    await made.world.create()
    await made.release(16)
    await made.release(17, accelerator="edgetpu")
    await made.roll_out(16)
    assert await made.once()
    return made


async def test_a_version_without_a_build_for_the_device_is_reported_once_and_when_it_is_over(device: Device) -> None:
    await device.roll_out(16, candidate=17)
    (report,) = await device.polls(4)
    refused = report.models["m"].refused
    assert refused is not None
    assert (refused.reason, refused.version, refused.rollout) == ("no_variant", 17, "r")
    assert report.models["m"].active == 16
    await device.roll_out(16)
    (after,) = await device.polls(3)
    assert after.models["m"].refused is None


async def test_who_begins_anew_says_it_once_more(device: Device) -> None:
    await device.roll_out(16, candidate=17)
    assert len(await device.polls(2)) == 1
    device.start()
    assert len(await device.polls(2)) == 1


async def test_a_document_that_is_signed_and_not_understood_is_reported_once(device: Device) -> None:
    await device._publish(
        "rollouts", rollout_name(GROUP), b'{"format": "edge-rollout/2", "group": "g", "seq": 9, "models": {}}'
    )
    (report,) = await device.polls(3)
    assert report.problem is not None
    assert report.problem.reason == "incompatible"
    assert "edge-rollout/2" in report.problem.detail
    await device.roll_out(16)
    (after,) = await device.polls(2)
    assert after.problem is None


async def test_the_operator_sees_how_many_cannot_take_it_and_who_and_why(device: Device) -> None:
    await device.roll_out(16, candidate=17)
    (report,) = await device.polls(2)
    rollout = await device.agent._documents.rollout(GROUP)
    said = words(rollout, standing(rollout, [DeviceLog("dev-1", (Kept(report.ts, report),))], report.ts), 43200, {})
    assert "    not to be taken by 1 device: no_variant 1" in said
    (named,) = [line for line in said if "cannot take it: dev-1: no_variant (" in line]
    assert "edgetpu" in named


def test_other_words_for_the_same_refusal_are_no_news() -> None:
    refusals = Refusals()
    assert refusals.planned({"m": Refusal("low_memory", "want 900 MiB, 512 are free", 17, "r")})
    assert not refusals.planned({"m": Refusal("low_memory", "want 900 MiB, 498 are free", 17, "r")})
    assert "498" in str(refusals.on(Report("d", "g", 1, 0.0, {})).models["m"]), "what is reported next is what is now"


@pytest.mark.parametrize(
    "other",
    [
        Refusal("low_memory", "", 17, "r"),
        Refusal("no_variant", "", 18, "r"),
        Refusal("no_variant", "", 17, "r-2"),
        None,
    ],
)
def test_another_reason_version_or_rollout_is_news_and_so_is_its_end(other: Refusal | None) -> None:
    refusals = Refusals()
    refusals.planned({"m": NO_VARIANT})
    assert refusals.planned({"m": other} if other is not None else {})


@pytest.mark.parametrize(
    ("error", "news"),
    [
        (Unreachable("no route"), False),
        (DocumentError("rollout: want"), True),
        (TrustError("expired", Reason.TRUST_EXPIRED), True),
    ],
)
def test_a_store_that_is_away_is_not_what_the_device_refuses(error: SyncError, news: bool) -> None:
    refusals = Refusals()
    refusals.planned({"m": NO_VARIANT})
    assert refusals.failed(error) is news
    assert not refusals.failed(error)
    report = refusals.on(Report("d", "g", 1, 0.0, {"m": ModelReport(active=16), "x": ModelReport()}))
    assert (report.problem is not None) is news
    assert report.models["m"] == ModelReport(active=16, refused=NO_VARIANT), "what was planned before still stands"
    assert report.models["x"] == ModelReport()
