"""Every device of the group counts once, where it is; who failed is counted by why, and who is late is named."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.cli.standing import as_json, words
from sync.domain.errors import Reason
from sync.domain.journal import Installed, ModelState
from sync.domain.report import ModelReport, Refusal, Report
from sync.domain.rollout import FORMAT, Candidate, ModelRollout, Probation, Rollout, State, Wish, bucket
from sync.domain.update import seen
from sync.fleet.reports import DeviceLog, Kept
from sync.fleet.standing import Standing, Straggler, Unable, Where, standing

NOW = 1_800_000_000.0
HOUR, DAY = 3600.0, 86400.0
ID = "r-2026-11-20-1"


def document(percent: float = 100.0, state: State = "running", **more: Any) -> Rollout:
    candidate = Candidate(2, ID, state, percent=percent, **more)
    model = ModelRollout(1, candidate, Probation(seconds=600.0))
    return Rollout(FORMAT, "line-3", 7, {"detector": model}, spread_s=1800.0)


def device(name: str, at: float = NOW, *, group: str = "line-3", **model: Any) -> DeviceLog:
    return device_of(name, (at, ModelReport(**model)), group=group)


def device_of(name: str, *reports: tuple[float, ModelReport], group: str = "line-3") -> DeviceLog:
    kept = [Kept(at, Report(name, group, seq, at, {"detector": model})) for seq, (at, model) in enumerate(reports)]
    return DeviceLog(name, tuple(kept))


def counted(rollout: Rollout, *logs: DeviceLog) -> Standing:
    return standing(rollout, logs, NOW)


COMMITTED: dict[str, Any] = {"active": 2, "previous": 1, "rollout": ID, "outcome": "committed"}


@pytest.mark.parametrize(
    ("model", "where"),
    [
        ({}, Where.NOT_BEGUN),
        ({"active": 1}, Where.NOT_BEGUN),
        ({"active": 1, "rollout": ID}, Where.NOT_BEGUN),
        ({"active": 1, "rollout": "r-before", "outcome": "failed", "reason": "load_failed"}, Where.NOT_BEGUN),
        ({"active": 1, "rollout": ID, "phase": "staging"}, Where.STAGING),
        ({"active": 1, "rollout": ID, "phase": "swapping"}, Where.SWAPPING),
        ({"active": 2, "rollout": ID, "phase": "probation"}, Where.PROBATION),
        ({"active": 1, "rollout": ID, "phase": "rolling_back", "outcome": "rolled_back"}, Where.ROLLING_BACK),
        (COMMITTED, Where.COMMITTED),
        ({**COMMITTED, "outcome": "committed_idle"}, Where.COMMITTED),
        ({"active": 2, "rollout": ""}, Where.COMMITTED),
        ({"active": 1, "rollout": ID, "outcome": "failed", "reason": "selftest_failed"}, Where.FAILED),
        ({"active": 1, "rollout": ID, "outcome": "rolled_back", "reason": "health_errors"}, Where.FAILED),
        ({"active": 1, "rollout": ID, "outcome": "rolled_back", "reason": "rolled_back_operator"}, Where.NOT_BEGUN),
        ({"active": 1, "rollout": ID, "phase": "a_phase_of_tomorrow"}, Where.STAGING),
    ],
)  # fmt: skip
def test_a_device_is_where_its_latest_report_says(model: dict[str, Any], where: Where) -> None:
    found = counted(document(), device("cam-1", **model)).models["detector"].candidate
    assert found is not None
    assert found.where == Counter({where: 1})


def test_failures_are_counted_by_why_and_waits_by_what_for() -> None:
    failed: dict[str, Any] = {"active": 1, "rollout": ID, "outcome": "failed"}
    found = counted(
        document(),
        device("a", reason="health_errors", **failed),
        device("b", reason="health_errors", **failed),
        device("c", reason="load_failed", **failed),
        device("d", active=1, rollout=ID, phase="staging", reason="blocked_disk"),
        device("e", **COMMITTED),
    ).models["detector"]
    assert found.candidate is not None
    assert found.candidate.failed == {"health_errors": 2, "load_failed": 1}
    assert found.candidate.held == {"blocked_disk": 1}
    assert found.candidate.where == {Where.FAILED: 3, Where.STAGING: 1, Where.COMMITTED: 1}
    assert found.running == {1: 4, 2: 1}


def test_who_the_candidate_is_not_for_counts_with_the_stable_version() -> None:
    names = [f"cam-{number}" for number in range(200)]
    found = counted(document(percent=25.0), *[device(name, active=1) for name in names]).models["detector"]
    wanted = sum(bucket(ID, name) < 0.25 for name in names)
    assert 20 < wanted < 80
    assert found.candidate is not None
    assert found.stable is not None
    assert (found.candidate.devices, found.stable.devices) == (wanted, 200 - wanted)
    assert found.stable.where == {Where.COMMITTED: 200 - wanted}


def test_a_device_of_a_ring_is_known_by_what_it_does() -> None:
    found = counted(document(percent=0.0, rings=("canary",)), device("cam-1", rollout=ID, active=1, phase="staging"))
    course = found.models["detector"].candidate
    assert course is not None
    assert course.where == {Where.STAGING: 1}


def test_other_groups_and_pinned_devices_are_not_in_its_way() -> None:
    found = counted(
        document(),
        device("a", group="line-4", active=1),
        device("b", active=5, rollout="pin"),
        device("c", **COMMITTED),
    )
    assert found.devices == 2
    model = found.models["detector"]
    assert (model.pinned, model.candidate and model.candidate.devices) == (1, 1)


def test_while_it_is_rolled_back_everybody_is_on_the_way_to_the_stable_version() -> None:
    found = counted(
        document(state="rolling_back"), device("a", **COMMITTED), device("b", active=1), device("c", active=1, phase="staging")
    ).models["detector"]  # fmt: skip
    assert found.stable is not None
    assert found.stable.where == {Where.NOT_BEGUN: 1, Where.COMMITTED: 1, Where.STAGING: 1}
    assert found.candidate is not None
    assert found.candidate.devices == 0


def stragglers(*logs: DeviceLog, rollout: Rollout | None = None) -> list[Straggler]:
    course = counted(rollout or document(), *logs).models["detector"].candidate
    assert course is not None
    return course.stragglers


def test_who_was_not_heard_of_lately_is_a_straggler_unless_it_is_done() -> None:
    found = stragglers(
        device("gone", NOW - DAY, active=1, rollout=ID, phase="staging"),
        device("done", NOW - DAY, **COMMITTED),
        device("gave up", NOW - DAY, active=1, rollout=ID, outcome="failed", reason="load_failed"),
        device("here", NOW - HOUR, active=1, rollout=ID, phase="staging"),
    )
    assert found == [Straggler("gone", Where.STAGING, DAY, "silent")]


def test_who_is_under_way_for_too_long_is_one_with_the_reason_that_it_says() -> None:
    staging = ModelReport(active=1, rollout=ID, phase="staging")
    stuck = ModelReport(active=1, rollout=ID, phase="staging", reason="blocked_disk")
    found = stragglers(
        device_of("stuck", (NOW - 9 * HOUR, ModelReport(active=1)), (NOW - 8 * HOUR, staging), (NOW - HOUR, stuck)),
        device_of("quick", (NOW - 9 * HOUR, ModelReport(active=1)), (NOW - 2 * HOUR, staging), (NOW - HOUR, stuck)),
    )
    assert found == [Straggler("stuck", Where.STAGING, 8 * HOUR, "blocked_disk")]


def test_who_is_well_and_has_not_begun_long_after_the_first_did_is_one() -> None:
    first = device("first", NOW - 9 * HOUR, **COMMITTED)
    idle = device("idle", NOW - HOUR, active=1)
    assert stragglers(first, idle) == [Straggler("idle", Where.NOT_BEGUN, 9 * HOUR, "")]
    assert stragglers(idle) == [], "nobody has begun: nobody is late"
    assert stragglers(first, idle, rollout=document(window="22:00-05:00")) == [], "it waits for the night"
    assert stragglers(first, idle, rollout=document(state="paused")) == [], "it may not begin"


NO_VARIANT = Refusal("no_variant", "m@2: no variant", 2, ID)


def test_who_cannot_take_it_is_counted_and_named_with_why_and_is_no_straggler() -> None:
    first = device("first", NOW - 9 * HOUR, **COMMITTED)
    low = Refusal("low_memory", "want 900 MiB", 2, ID)
    unable = [device(name, NOW - HOUR, active=1, refused=why) for name, why in (("a", NO_VARIANT), ("b", low))]
    found = counted(document(), first, *unable).models["detector"].candidate
    assert found is not None
    assert found.refused == {"no_variant": 1, "low_memory": 1}
    assert found.unable == [Unable("a", "no_variant", "m@2: no variant"), Unable("b", "low_memory", "want 900 MiB")]
    assert (found.where[Where.NOT_BEGUN], found.stragglers) == (2, [])


def test_who_waits_for_its_hour_is_held_up_and_can_take_it() -> None:
    night = Refusal("deferred", "may begin at 22:00", 2, ID)
    found = counted(document(), device("a", active=1, refused=night)).models["detector"].candidate
    assert found is not None
    assert (found.held, found.refused, found.unable) == ({"deferred": 1}, {}, [])


def test_a_refusal_of_another_rollout_says_nothing_of_this_one() -> None:
    before = Refusal("no_variant", "", 2, "r-before")
    found = counted(document(), device("a", active=1, refused=before)).models["detector"].candidate
    assert found is not None
    assert (found.refused, found.where) == ({}, {Where.NOT_BEGUN: 1})


def test_who_can_follow_no_document_can_take_no_version() -> None:
    log = device("a", active=1)
    report = msgspec.structs.replace(log.latest.report, problem=Refusal("clock_suspect", "1970"))
    found = counted(document(), DeviceLog("a", (Kept(NOW, report),))).models["detector"].candidate
    assert found is not None
    assert found.unable == [Unable("a", "clock_suspect", "1970")]


def test_a_device_of_a_ring_that_cannot_take_it_counts_with_the_candidate() -> None:
    found = counted(document(percent=0.0, rings=("canary",)), device("a", active=1, refused=NO_VARIANT))
    course = found.models["detector"].candidate
    assert course is not None
    assert course.refused == {"no_variant": 1}


def test_who_cannot_take_its_pin_is_named() -> None:
    pin = Refusal("incompatible", "below the floor", 1, "pin")
    model = counted(document(), device("a", refused=pin, **COMMITTED)).models["detector"]
    assert model.unable == [Unable("a", "incompatible", "below the floor")]
    assert model.candidate is not None
    assert model.candidate.where == {Where.COMMITTED: 1}


def test_the_one_that_is_late_for_longest_comes_first() -> None:
    found = stragglers(*[device(f"cam-{hours}", NOW - hours * HOUR, active=1) for hours in (20, 40, 30)])
    assert [one.device for one in found] == ["cam-40", "cam-30", "cam-20"]


def test_a_report_between_two_rollouts_does_not_say_of_the_new_one_what_became_of_the_old() -> None:
    """What the agent notes when it hears of a new wish."""
    failed = ModelState(active=Installed(1, "", "cpu", ()), rollout="r-0", outcome="failed", reason=Reason.LOAD_FAILED.value)  # type: ignore[arg-type]  # fmt: skip
    noted = seen(failed, Wish(2, ID, 60.0), NOW)
    assert (noted.rollout, noted.outcome, noted.reason) == (ID, "", "")
    again = seen(failed, Wish(2, "r-0"), NOW)
    assert again.outcome == "failed", "the same wish: it is still what became of it"


MODELS = st.builds(
    ModelReport,
    active=st.sampled_from([None, 1, 2, 3]),
    phase=st.sampled_from(["idle", "staging", "swapping", "probation", "rolling_back", "strange"]),
    rollout=st.sampled_from(["", ID, "r-0", "pin"]),
    outcome=st.sampled_from(["", "committed", "failed", "rolled_back", "strange"]),
    reason=st.sampled_from(["", "load_failed", "rolled_back_operator"]),
    refused=st.sampled_from([None, NO_VARIANT, Refusal("deferred", "", 1, ""), Refusal("low_memory", "", 2, "pin")]),
)


@given(
    st.lists(st.lists(st.tuples(st.floats(0, 2 * NOW), MODELS), min_size=1, max_size=4), max_size=12),
    st.sampled_from(["running", "paused", "done", "rolling_back"]),
    st.floats(0, 100),
)
def test_whatever_devices_say_each_counts_once(logs: Any, state: State, percent: float) -> None:
    devices = [device_of(f"cam-{number}", *reports) for number, reports in enumerate(logs)]
    found = counted(document(percent, state), *devices).models["detector"]
    courses = [course for course in (found.candidate, found.stable) if course is not None]
    assert found.pinned + sum(course.devices for course in courses) == len(devices)
    for course in courses:
        assert sum(course.where.values()) == course.devices
        assert sum(course.failed.values()) == course.where[Where.FAILED]
        assert sum(course.refused.values()) == len(course.unable) <= course.where[Where.NOT_BEGUN]
        assert len(course.stragglers) <= course.devices


def test_a_device_that_is_held_is_named_and_is_no_straggler() -> None:
    rollout = document()
    found = counted(rollout, device("cam-1", NOW - DAY, active=1, held=1), device("cam-2", **COMMITTED))
    model = found.models["detector"]
    assert model.holding == {"cam-1": 1}
    assert model.candidate is not None
    assert (model.candidate.devices, model.candidate.stragglers) == (1, [])
    told = words(rollout, found, HOUR, {})
    assert "  held    cam-1: version 1, by a command beside the store" in told
    assert as_json(rollout, found)["models"]["detector"]["held"] == {"cam-1": 1}  # type: ignore[index]
