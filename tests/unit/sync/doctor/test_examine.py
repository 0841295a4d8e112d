"""What is well is said to be, what is not is found, and nothing is changed."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest

from sync.agent.board import this_process
from sync.agent.files import OsFiles
from sync.cli.root import exit_code, run
from sync.doctor.examine import examine
from sync.doctor.finding import Finding, Level
from sync.domain.situation import Process, encode_situation, parse_situation
from sync.trust.floor import FloorFile
from tests.unit.sync.doctor.device import GROUP, Device, device

CHECKS = {
    "configuration", "root", "store", "rollout", "clock", "disk", "places", "access", "socket", "server", "told", "journal",
    "floor", "outbox", "agent", "network", "peers", "mqtt", "crash",
}  # fmt: skip


@pytest.fixture
async def d(tmp_path: Path) -> AsyncIterator[Device]:
    async with device(tmp_path) as made:
        yield made


def tree(path: Path) -> dict[str, tuple[int, int, int, bytes]]:
    """Everything below, with modes, owners and times of change."""
    return {
        str(each.relative_to(path)): (
            (found := each.lstat()).st_mode,
            found.st_uid,
            found.st_mtime_ns,
            each.read_bytes() if each.is_file() else b"",
        )
        for each in sorted(path.rglob("*"))
    }


def running(d: Device) -> None:
    """The agent's process is this one."""
    path = Path(d.config.paths.state_dir) / "situation.json"
    path.write_bytes(
        encode_situation(msgspec.structs.replace(parse_situation(path.read_bytes()), process=this_process()))
    )


async def test_all_is_well_on_a_device_that_is_and_nothing_is_changed(d: Device) -> None:
    running(d)
    before, reloads = tree(d.path), d.server.reloads
    findings = await d.findings()
    assert {each.check for each in findings} == CHECKS
    assert [each for each in findings if each.level is Level.FAIL] == []
    assert [each.check for each in findings if each.level is Level.WARN] == []
    assert tree(d.path) == before
    assert d.server.reloads == reloads


async def test_a_device_that_was_never_started_is_left_as_it_is(tmp_path: Path) -> None:
    new = Device(tmp_path, None)  # type: ignore[arg-type]
    await new.create()
    findings = await new.findings()
    assert {each.check for each in findings if each.level is Level.FAIL} == {"server"}
    assert not (tmp_path / "state").exists()
    assert not (tmp_path / "models").exists()


def no_root(d: Device) -> None:
    (d.path / "root.json").unlink()


def root_of_others(d: Device) -> None:
    (d.path / "root.json").write_bytes(b"{}")


def no_store(d: Device) -> None:
    d.settings["store.url"] = "http://127.0.0.1:1/"


def flipped_metadata(d: Device) -> None:
    path = d.path / "store/metadata/timestamp.json"
    path.write_bytes(re.sub(rb'("version": ?)3', rb"\g<1>4", path.read_bytes(), count=1))


def no_token(d: Device) -> None:
    d.settings["store.token_file"] = str(d.path / "none")


def no_server(d: Device) -> None:
    d.settings["paths.admin_uds"] = str(d.path / "none.sock")


def old_server(d: Device) -> None:
    d.server.version = "0.0.9"


def torn_journal(d: Device) -> None:
    (d.path / "state/state.json").write_bytes(b"{")


def torn_floor(d: Device) -> None:
    (d.path / "state/floor.json").write_bytes(b"{")


def lost_file(d: Device) -> None:
    (d.path / "models/detector/1/model.tflite").unlink()


def open_to_all(d: Device) -> None:
    (d.path / "models").chmod(0o777)


@pytest.mark.parametrize(
    ("broken", "check", "text", "code"),
    [
        (no_root, "root", "root.json: no such file", 3),
        (root_of_others, "root", "root.json: root: ", 5),
        (no_store, "store", "127.0.0.1:1", 4),
        (flipped_metadata, "store", "timestamp was signed by 0/1 keys", 5),
        (no_token, "configuration", "store.token_file: .*No such file", 2),
        (no_server, "server", "none.sock: No such file", 4),
        (old_server, "server", "want edge 0.1 or later, got 0.0.9", 1),
        (torn_journal, "journal", "journal: ", 5),
        (torn_floor, "floor", "older metadata than was seen before would have been taken", 5),
        (lost_file, "crash", "version 1 serves.* but .*1/model.tflite is not there", 1),
        (open_to_all, "access", "anybody may change what is in it", 1),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
async def test_what_keeps_updates_away_fails_with_what_to_do_and_a_code(
    d: Device, broken: Callable[[Device], None], check: str, text: str, code: int
) -> None:
    broken(d)
    found = await d.worst(check)
    assert found.level is Level.FAIL
    assert found.do
    assert found.error is not None
    assert exit_code(found.error) == code
    assert re.search(text, found.text), found.text


def no_group(d: Device) -> None:
    d.settings["device.group"] = "others"


def open_token(d: Device) -> None:
    (d.path / "token").write_text("secret")
    (d.path / "token").chmod(0o644)
    d.settings["report.token_file"] = str(d.path / "token")


def patient(d: Device) -> None:
    d.settings["poll.max_s"] = "1e7"


def waiting_report(d: Device) -> None:
    d.settings["report.url"] = "http://127.0.0.1:1/"
    path = d.path / "state/outbox/000000000001.json"
    path.parent.mkdir()
    path.write_bytes(b"{}")
    os.utime(path, (time.time() - 7200, time.time() - 7200))


def lagging_server(d: Device) -> None:
    d.server.behind = 1


def other_server(d: Device) -> None:
    d.server.unknown = {"detector"}


def confused_server(d: Device) -> None:
    d.server.problem = "versions: want a list"


def other_aspired(d: Device) -> None:
    (d.path / "models/detector/aspired.json").write_text("{}")


def lost_floor(d: Device) -> None:
    (d.path / "state/floor.json").unlink()


def put_aside(d: Device) -> None:
    (d.path / "state/state.json.bad").touch()


def open_root(d: Device) -> None:
    (d.path / "root.json").chmod(0o666)


def nowhere_to_look(d: Device) -> None:
    d.settings |= {"network.peers": "use", "network.peer_interfaces": "none0"}


def group_may_write(d: Device) -> None:
    (d.path / "models").chmod(0o770)


@pytest.mark.parametrize(
    ("odd", "check", "text"),
    [
        (no_group, "rollout", "nobody has written a document for the group others"),
        (open_token, "configuration", "others may read or change the token"),
        (patient, "store", "perhaps before this device asks again"),
        (waiting_report, "outbox", "1 reports (2 B) wait, the oldest for 2 h"),
        (lagging_server, "told", "the server acts on generation"),
        (other_server, "told", "detector: the server does not know the model"),
        (confused_server, "told", "versions: want a list"),
        (lost_floor, "floor", "is not there; older metadata"),
        (put_aside, "journal", "a damaged journal was put aside"),
        (open_root, "root", "others than its owner may replace what this device trusts"),
        (nowhere_to_look, "peers", "there is no private address at none0"),
        (group_may_write, "access", "the group may change what is in it"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
async def test_what_may_become_a_trouble_warns(d: Device, odd: Callable[[Device], None], check: str, text: str) -> None:
    odd(d)
    found = await d.worst(check)
    assert found.level is Level.WARN, found
    assert text in found.text
    assert found.do


async def test_what_the_server_is_told_is_held_against_the_journal(d: Device) -> None:
    d.server.unknown = {"detector"}  # whose file it could not read
    (d.path / "models/detector/aspired.json").write_text(
        '{"format": "edge-aspired/1", "generation": 1, "versions": []}'
    )
    found = await d.worst("crash")
    assert (found.level, "not what the journal says" in found.text) == (Level.WARN, True)


async def test_signatures_that_ended_fail_with_who_can_help(d: Device) -> None:
    (found,) = [each for each in await examine(d.config, now=lambda: time.time() + 30 * 86400) if each.check == "store"]
    assert found.level is Level.FAIL
    assert "edge-sync refresh" in found.do
    assert found.error is not None
    assert exit_code(found.error) == 5


async def test_a_clock_behind_what_was_signed_and_seen_is_suspect(d: Device) -> None:
    file = FloorFile(OsFiles(), d.path / "state/floor.json")
    file.write(msgspec.structs.replace(file.load(), time=time.time() + 86400))
    found = await d.worst("clock")
    assert (found.level, found.do) == (Level.FAIL, "set the clock")
    assert "by a clock that signed metadata agreed with" in found.text


async def test_an_agent_that_does_not_run_is_said(d: Device) -> None:
    path = d.path / "state/situation.json"
    gone = msgspec.structs.replace(parse_situation(path.read_bytes()), process=Process(1, 1, "another boot"))
    path.write_bytes(encode_situation(gone))
    found = await d.worst("agent")
    assert (found.level, "does not run" in found.text) == (Level.WARN, True)
    running(d)
    found = await d.worst("agent")
    assert (found.level, "it asked the store at" in found.text) == (Level.OK, True)


def edge_sync(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["edge-sync", *arguments])
    return run()


async def test_the_command_prints_lines_or_json_and_leaves_with_the_first_code(
    d: Device, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [part for key, value in d.settings.items() for part in ("--set", f"{key}={value}")]

    async def ask(*more: str) -> int:
        return await asyncio.to_thread(edge_sync, monkeypatch, "agent", "doctor", *flags, *more)

    assert await ask() == 0
    text = capsys.readouterr().out
    assert "ok    store" in text
    assert text.endswith("0 wrong\n")
    assert await ask("--set", "store.url=http://127.0.0.1:1/", "--json") == 4
    document = json.loads(capsys.readouterr().out)
    assert document["well"] is False
    (failed,) = [row for row in document["checks"] if row["level"] == "fail"]
    assert (failed["check"], failed["reason"]) == ("store", "net_unreachable")
    assert await ask("--set", "no.such=1") == 2
    assert "no such" in capsys.readouterr().out
    assert await asyncio.to_thread(edge_sync, monkeypatch, "agent", "status", *flags) == 0
    assert f"device  cam-1, of the group {GROUP}" in capsys.readouterr().out


def test_only_what_fails_has_an_error() -> None:
    assert Finding("x", Level.OK, "text").error is None
