"""What devices say is kept once, in order, within bounds, and before anybody is told so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.agent.files import OsFiles
from sync.domain.errors import DiskError, DocumentError
from sync.domain.report import ModelReport, Refusal, Report, encode_report, parse_report
from sync.fleet.reports import MAX_DETAIL_CHARS, MAX_KEPT, MAX_MODELS, DeviceLog, Kept, ReportDirectory, checked, taken
from tests.fakes.sync.files import FaultyFiles, PowerCut, Survival

NOW = 1_800_000_000.0


def report(seq: int = 1, ts: float = NOW, *, device: str = "cam-1", phase: str = "idle", **more: Any) -> Report:
    return Report(device, "line-3", seq, ts, {"detector": ModelReport(active=1, phase=phase)}, **more)


def heard(*reports: tuple[Report, float]) -> DeviceLog:
    log = DeviceLog("cam-1")
    for one, at in reports:
        log = taken(log, Kept(at, one)) or log
    return log


def numbers(log: DeviceLog) -> list[tuple[int, float]]:
    return [(one.report.seq, one.report.ts - NOW) for one in log.kept]


def test_reports_are_kept_in_order() -> None:
    log = heard(*[(report(seq, NOW + seq), NOW + seq) for seq in range(1, 4)])
    assert numbers(log) == [(1, 1), (2, 2), (3, 3)]


def test_the_same_report_again_changes_nothing_however_late() -> None:
    log = heard((report(1), NOW), (report(2, NOW + 5), NOW + 5))
    assert taken(log, Kept(NOW + 99, report(1))) is None
    assert taken(log, Kept(NOW + 99, report(2, NOW + 5))) is None


def test_one_that_comes_late_takes_its_place_and_hides_no_later_one() -> None:
    log = heard((report(1), NOW), (report(3, NOW + 30), NOW + 30), (report(2, NOW + 20), NOW + 40))
    assert numbers(log) == [(1, 0), (2, 20), (3, 30)]


def test_a_heartbeat_has_the_number_of_what_it_repeats_and_takes_its_place() -> None:
    log = heard((report(1), NOW), (report(1, NOW + 60), NOW + 60))
    assert numbers(log) == [(1, 60)]
    assert taken(log, Kept(NOW + 70, report(1, NOW + 30))) is None, "an earlier one that comes later"


def test_a_device_that_lost_its_memory_begins_anew() -> None:
    log = heard((report(40), NOW), (report(1, NOW + 60, phase="staging"), NOW + 60))
    assert log.latest.report.seq == 1
    log = heard((report(40), NOW), (report(1, 5.0, clock_ok=False), NOW + 60))
    assert log.latest.report.seq == 1, "its clock says 1970, and that it is not to be believed"


def test_a_clock_that_was_ahead_hides_nothing_once_it_is_right() -> None:
    ahead = report(4, NOW + 10 * 365 * 86400)
    log = heard((ahead, NOW), (report(4, NOW + 60), NOW + 60))
    assert numbers(log) == [(4, 60)]


def test_of_a_talkative_device_the_oldest_go() -> None:
    log = heard(*[(report(seq, NOW + seq), NOW + seq) for seq in range(1, MAX_KEPT + 10)])
    assert [one.report.seq for one in log.kept] == list(range(10, MAX_KEPT + 10))
    assert taken(log, Kept(NOW + 999, report(2, NOW + 2))) is None, "a late one does not push out a later one"


@given(st.permutations([report(seq, NOW + seq) for seq in range(1, 7)]), st.randoms())
def test_in_whatever_order_and_however_often_they_come_the_latest_is_the_last(order: list[Report], dice: Any) -> None:
    log = DeviceLog("cam-1")
    for number, one in enumerate([*order, *order]):
        log = taken(log, Kept(NOW + 100 + number, one)) or log
        assert len({each.report.seq for each in log.kept}) == len(log.kept)
    assert log.latest.report.seq == 6
    assert [one.report.seq for one in log.kept] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"device": ""}, "device"), ({"device": "../../etc/passwd"}, "device"), ({"device": "a/b"}, "device"),
        ({"device": ".."}, "device"), ({"device": "cam\x00"}, "device"), ({"device": "cam\n"}, "device"),
        ({"device": "x" * 129}, "device"), ({"device": "cämera"}, "device"), ({"group": "\x1b[2J"}, "group"),
        ({"seq": -1}, "seq"), ({"seq": 10**30}, "seq"), ({"seq": 1.5}, "seq"), ({"seq": "1"}, "seq"),
        ({"ts": -1}, "ts"), ({"ts": 1e300}, "ts"), ({"ts": 10**400}, "ts"), ({"disk_free": -5}, "disk_free"),
        ({"disk_free": 10**40}, "disk_free"), ({"disk_free": 10**400}, "disk_free"), ({"models": {"../x": {}}}, "models"), ({"models": []}, "models"),
        ({"models": {f"m{number}": {} for number in range(MAX_MODELS + 1)}}, "models"),
        ({"models": {"m": {"active": -1}}}, "m.active"), ({"models": {"m": {"tries": 10**20}}}, "m.tries"),
        ({"models": {"m": {"reason": "<script>"}}}, "m.reason"), ({"models": {"m": {"phase": "x" * 99}}}, "m.phase"),
        ({"models": {"m": {"rollout": "x" * 200}}}, "m.rollout"), ({"meta": {"r" * 200: 1}}, "meta"),
        ({"meta": {f"r{number}": 1 for number in range(99)}}, "meta"), ({"meta": {"root": -3}}, "meta.root"),
        ({"models": {"m": {"refused": {"reason": "<b>"}}}}, "m.refused.reason"), ({"problem": {"reason": ""}}, "problem.reason"),
        ({"models": {"m": {"refused": {"reason": "low_memory", "version": -1}}}}, "m.refused.version"),
        ({"models": {"m": {"refused": {"reason": "low_memory", "rollout": "x" * 200}}}}, "m.refused.rollout"),
        ({"last": {"bytes_full": -1}}, "last.bytes_full"), ({"format": "edge-report/9"}, "format"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_and_named(change: dict[str, Any], names: str) -> None:
    document = msgspec.to_builtins(report()) | change
    with pytest.raises(DocumentError, match=names):
        checked(parse_report(json.dumps(document).encode()))


@pytest.mark.parametrize("data", [b"", b"x", b"[]", b"null", b"{}", b"[" * 100_000, b'{"a":' * 50_000, b"\xff\xfe", b'{"ts":NaN}'])  # fmt: skip
def test_what_is_no_report_is_refused(data: bytes) -> None:
    with pytest.raises(DocumentError):
        checked(parse_report(data))


def test_what_is_longer_than_a_person_reads_is_cut() -> None:
    long = report()
    long = msgspec.structs.replace(long, models={"m": ModelReport(detail="x" * 100_000)}, agent="y" * 9999)
    long = msgspec.structs.replace(long, problem=Refusal("clock_suspect", "z" * 100_000))
    kept = checked(long)
    assert kept.problem == Refusal("clock_suspect", "z" * MAX_DETAIL_CHARS)
    assert (len(kept.models["m"].detail), len(kept.agent)) == (MAX_DETAIL_CHARS, 128)


def test_what_an_agent_sends_is_taken() -> None:
    sent = report(7, meta={"root": 1, "timestamp": 4}, disk_free=1 << 40)
    assert checked(parse_report(encode_report(sent))) == sent


def test_what_was_taken_is_there_for_the_next_process(tmp_path: Path) -> None:
    first = ReportDirectory(OsFiles(), tmp_path)
    assert first.take(report(1), NOW)
    assert first.take(report(2, NOW + 1, device="cam-2"), NOW + 1)
    assert not first.take(report(1), NOW + 9)
    second = ReportDirectory(OsFiles(), tmp_path)
    assert sorted(second.devices()) == ["cam-1", "cam-2"]
    assert sorted(log.latest.report.seq for log in second.logs()) == [1, 2]


def test_a_file_that_is_damaged_costs_that_device_its_past_and_nobody_else(tmp_path: Path) -> None:
    reports = ReportDirectory(OsFiles(), tmp_path)
    reports.take(report(1), NOW)
    reports.take(report(1, device="cam-2"), NOW)
    (damaged,) = (tmp_path / "devices").glob("*/cam-1.json")
    damaged.write_bytes(b"\0" * 50)
    assert [log.device for log in reports.logs()] == ["cam-2"]
    assert reports.take(report(2), NOW)
    assert len(list(reports.logs())) == 2


@pytest.mark.parametrize("survival", list(Survival))
def test_what_was_said_to_be_taken_survives_a_crash_at_any_operation(survival: Survival) -> None:
    place = Path("/reports")
    for cut_at in range(40):
        files = FaultyFiles()
        reports = ReportDirectory(files, place)
        reports.take(report(1), NOW)
        files.cut_at = files.count + cut_at
        said = 1
        try:
            for seq in (2, 3):
                reports.take(report(seq, NOW + seq), NOW)
                said = seq
        except PowerCut:
            files.crash(survival)
            found = ReportDirectory(files, place).of("cam-1")
            assert found is not None
            assert found.latest.report.seq in (said, said + 1)
        else:
            break
    assert cut_at >= 8


def test_a_disk_that_fails_is_said(tmp_path: Path) -> None:
    files = FaultyFiles(errors=dict.fromkeys(range(50), 28))
    with pytest.raises(DiskError):
        ReportDirectory(files, Path("/reports")).take(report(1), NOW)
