"""`edge-sync rollout status`: the document, and what the devices have said, counted."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest

from sync.agent.files import OsFiles
from sync.domain.report import ModelReport, Refusal, Report
from sync.domain.rollout import Candidate
from sync.fleet.reports import ReportDirectory
from tests.unit.sync.cli.edge_sync import Said, edge_sync
from tests.unit.sync.fleet.shop import Shop


@pytest.fixture
def reports(shop: Shop, tmp_path: Path) -> Path:
    """Of six devices, one of them silent for two days."""
    asyncio.run(shop.roll_out(Candidate(2, "r-9", "running", percent=100.0, rings=("canary",)), seq=9))
    kept, now = ReportDirectory(OsFiles(), tmp_path / "reports"), time.time()
    for name, ago_s, model in (
        ("cam-1", 0, ModelReport(active=2, rollout="r-9", outcome="committed")),
        ("cam-2", 0, ModelReport(active=1, rollout="r-9", outcome="failed", reason="health_errors", detail="\x1b[2J")),
        ("cam-3", 0, ModelReport(active=1, rollout="r-9", phase="staging", reason="blocked_disk")),
        ("cam-4", 2 * 86400, ModelReport(active=1)),
        ("cam-5", 0, ModelReport(active=2, rollout="r-9", phase="probation")),
        ("cam-6", 0, ModelReport(active=1, refused=Refusal("no_variant", "no variant \x1b[2J", 2, "r-9"))),
    ):
        kept.take(Report(name, "line-3", 1, now - ago_s, {"detector": model}), now - ago_s)
    return tmp_path / "reports"


def status(shop: Shop, *more: str | Path) -> Said:
    keys = ("--keys", shop.path / "keys", "--store", shop.directory)
    return edge_sync("rollout", "status", *keys, "--group", "line-3", *more)


def test_people_are_told_how_many_are_where_why_some_failed_and_who_is_late(shop: Shop, reports: Path) -> None:
    said = status(shop, "--reports", reports)
    assert said.code == 0
    assert said.out.splitlines() == [
        "line-3: document 9; 6 devices reported, 1 silent for more than 12 h",
        "detector",
        "  candidate 2 (r-9), running for 100 %, rings canary: 6 devices",
        "    not begun         2",
        "    staging           1",
        "    probation         1",
        "    committed         1",
        "    failed            1  health_errors 1",
        "    held up by blocked_disk 1",
        "    not to be taken by 1 device: no_variant 1",
        "    cannot take it: cam-6: no_variant (no variant �[2J)",
        "    straggler: cam-4: silent for 2 d, last not begun",
        "  stable 1: 0 devices",
        "  running 2: 2, 1: 4",
        "pinned, of every group",
        "  cam-1: detector 1",
    ]


def test_programs_are_told_the_same(shop: Shop, reports: Path) -> None:
    told = json.loads(status(shop, "--reports", reports, "--json", "--silent-after", "1h").out)
    assert (told["document"]["seq"], told["devices"], told["silent"]) == (9, 6, 1)
    candidate = told["models"]["detector"]["candidate"]
    assert candidate["where"] == {
        "not_begun": 2, "staging": 1, "swapping": 0, "probation": 1, "rolling_back": 0, "committed": 1, "failed": 1
    }  # fmt: skip
    assert (candidate["failed"], candidate["held"], candidate["under_way"]) == ({"health_errors": 1}, {"blocked_disk": 1}, 2)  # fmt: skip
    (straggler,) = candidate["stragglers"]
    assert straggler["device"] == "cam-4"
    assert straggler["for_s"] == pytest.approx(2 * 86400, abs=60)
    assert told["models"]["detector"]["running"] == {"2": 2, "1": 4}
    assert candidate["refused"] == {"no_variant": 1}
    assert candidate["unable"] == [{"device": "cam-6", "why": "no_variant", "detail": "no variant \x1b[2J"}]


def test_without_reports_it_says_what_the_document_says(shop: Shop) -> None:
    said = status(shop)
    assert said.out.splitlines() == [
        "line-3: document 1",
        "detector",
        "  candidate 2 (r-1), running for 10 %",
        "  stable 1",
        "pinned, of every group",
        "  cam-1: detector 1",
    ]
    assert json.loads(status(shop, "--json").out)["document"]["models"]["detector"]["stable"] == 1


def test_a_group_or_reports_that_are_not_there_are_3(shop: Shop, tmp_path: Path) -> None:
    keys = ("--keys", shop.path / "keys", "--store", shop.directory)
    assert edge_sync("rollout", "status", *keys, "--group", "line-9").code == 3
    assert status(shop, "--reports", tmp_path / "none").code == 3


def test_who_names_no_group_or_another_is_told_which_there_are(shop: Shop) -> None:
    keys = ("--keys", shop.path / "keys", "--store", shop.directory)
    for group in ((), ("--group", "line-9")):
        said = edge_sync("rollout", "status", *keys, *group)
        assert said.code == 3
        assert said.errors.endswith(": nobody has written a rollout for it; want --group, one of line-3\n")


def test_times_of_a_rollout_may_have_units(shop: Shop) -> None:
    keys = ("--keys", shop.path / "keys", "--store", shop.directory, "--group", "line-3")
    assert edge_sync("rollout", "start", "detector", "2", *keys, "--spread", "1h30m", "--probation", "90").code == 0
    document = json.loads(status(shop, "--json").out)["document"]
    assert document["spread_s"] == 5400
    assert document["models"]["detector"]["probation"]["seconds"] == 90
    said = edge_sync("rollout", "start", "detector", "2", *keys, "--spread", "soon")
    assert said.code == 2
    assert "want a duration" in said.errors


def test_a_rollout_may_have_a_deadline_from_which_on_no_window_counts(shop: Shop) -> None:
    keys = ("--keys", shop.path / "keys", "--store", shop.directory, "--group", "line-4")
    start = ("rollout", "start", "detector", "2", *keys)
    assert edge_sync(*start, "--percent", "10", "--window", "22:00-05:00", "--deadline", "2026-12-01T04:00Z").code == 0

    def candidate() -> dict[str, object]:
        said = edge_sync("rollout", "status", *keys, "--json")
        found: dict[str, object] = json.loads(said.out)["document"]["models"]["detector"]["candidate"]
        return found

    assert (candidate()["window"], candidate()["deadline"]) == ("22:00-05:00", "2026-12-01T04:00:00Z")
    assert edge_sync(*start, "--percent", "20").code == 0
    assert (candidate()["percent"], candidate()["deadline"]) == (20, "2026-12-01T04:00:00Z"), "a larger share keeps it"
    assert edge_sync(*start, "--percent", "20", "--deadline", "2026-12-02T04:00Z").code == 0
    assert candidate()["deadline"] == "2026-12-02T04:00:00Z"
    assert "at any hour from 2026-12-02T04:00:00Z on" in edge_sync("rollout", "status", *keys).out
    assert edge_sync(*start, "--percent", "20", "--ring", "lab", "--window", "01:00-02:00").code == 0
    assert (candidate()["rings"], candidate()["window"]) == (["lab"], "01:00-02:00"), "what is named counts for it too"
    said = edge_sync(*start, "--deadline", "2026-12-02T04:00")
    assert said.code == 2
    assert "want an instant with its zone" in said.errors


def test_every_verb_tells_programs_what_it_did(shop: Shop) -> None:
    keys = ("--keys", shop.path / "keys", "--store", shop.directory, "--group", "line-3", "--json")
    states = []
    for verb in ("pause", "resume", "rollback"):
        told = json.loads(edge_sync("rollout", verb, "detector", *keys).out)
        states.append(told["document"]["models"]["detector"]["candidate"]["state"])
    assert states == ["paused", "running", "rolling_back"]
    told = json.loads(edge_sync("rollout", "pin", "cam-7", "detector", "2", *keys).out)
    assert told == {"device": "cam-7", "model": "detector", "pinned": 2}
    assert json.loads(edge_sync("rollout", "unpin", "cam-7", "detector", *keys).out)["pinned"] is None


def test_a_pin_to_a_version_that_was_never_published_is_refused(shop: Shop) -> None:
    keys = ("--keys", shop.path / "keys", "--store", shop.directory, "--group", "line-3")
    said = edge_sync("rollout", "pin", "cam-1", "detector", "9", *keys)
    assert (said.code, said.errors) == (3, "edge-sync: detector@9: is not released\n")
    said = edge_sync("verify", shop.directory, "--root", shop.path / "root.json", "--no-blobs")
    assert "cam-1" not in said.out, "no device was told to want it"


def test_who_is_pinned_is_told_until_he_is_not(shop: Shop) -> None:
    keys = ("--keys", shop.path / "keys", "--store", shop.directory, "--group", "line-3")
    assert json.loads(status(shop, "--json").out)["pins"] == {"cam-1": {"detector": 1}}
    for number in range(21):  # one more than people are told of, with the first
        assert edge_sync("rollout", "pin", f"cam-{number + 10}", "detector", "2", *keys).code == 0
    assert status(shop).out.splitlines()[-2:] == ["  cam-28: detector 2", "  and 2 more"]
    for number in (1, *range(10, 31)):
        assert edge_sync("rollout", "unpin", f"cam-{number}", "detector", *keys).code == 0
    assert json.loads(status(shop, "--json").out)["pins"] == {}
    assert "pinned" not in status(shop).out
