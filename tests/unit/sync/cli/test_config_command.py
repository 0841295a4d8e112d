"""`edge-sync config`: what is wrong with the agent's configuration, and who set what."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from sync.config import Config, load_config, plain
from tests.unit.sync.cli.edge_sync import edge_sync


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "agent.toml"
    path.write_text("[poll]\nevery_s = 60\n")
    return path


def test_a_configuration_that_is_well_is_ok(file: Path) -> None:
    assert edge_sync("config", "check", "--config", file) == (0, "ok\n", "")
    said = edge_sync("config", "check", "--config", file, "--json")
    assert json.loads(said.out) == {"ok": True, "problems": [], "warnings": []}


def test_every_problem_is_a_line_and_a_row(file: Path) -> None:
    file.write_text("[poll]\nevry_s = 60\njitter = 2\n")
    said = edge_sync("config", "check", "--config", file)
    assert (said.code, said.out) == (2, "")
    assert [line.partition(" want")[0] for line in said.errors.splitlines()] == [
        f"error: {file}:2: poll.evry_s: no such key; did you mean poll.every_s?",
        f"error: {file}:3: poll.jitter:",
    ]
    said = edge_sync("config", "check", "--config", file, "--json")
    assert (said.code, len(json.loads(said.out)["problems"])) == (2, 2)
    file.write_text("[poll]\njitter = 2\n")
    (problem,) = json.loads(edge_sync("config", "check", "--config", file, "--json").out)["problems"]
    assert problem.startswith(f"{file}:2: ")


def test_a_variable_that_sets_nothing_is_warned_of(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_SYNC_POLL_EVERY_S", "5")
    for command in (
        ("config", "check"),
        ("config", "show"),
        ("agent", "status", "--set", f"paths.state_dir={file.parent}"),
    ):
        assert "warning: EDGE_SYNC_POLL_EVERY_S" in edge_sync(*command, "--config", file).errors


def test_what_is_shown_can_be_read_back_and_says_who_set_it(file: Path, tmp_path: Path) -> None:
    shown = tmp_path / "shown.toml"
    shown.write_text(edge_sync("config", "show", "--origin", "--config", file).out)
    assert load_config(shown, {}, {}) == load_config(file, {}, {})
    assert f"every_s = 60.0  # {file}:2" in shown.read_text()
    assert tomllib.loads(shown.read_text()).keys() == {each.partition(".")[0] for each in plain(Config())}
    rows = json.loads(edge_sync("config", "show", "--origin", "--json", "--config", file).out)
    assert rows["poll.every_s"] == {"value": 60.0, "origin": f"{file}:2"}
    assert json.loads(edge_sync("config", "show", "--json").out)["poll.jitter"] == 0.2
