"""Where `edge-sync` finds its configuration, and what it says where there is none."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from sync.cli import configured
from tests.unit.sync.cli.edge_sync import edge_sync


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of somebody without any settings, on a device without any."""
    for name in [name for name in os.environ if name.startswith(("EDGE_SYNC_", "XDG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(configured, "SYSTEM_CONFIG", tmp_path / "etc/edge-sync.toml")
    return tmp_path


def write(path: Path, device: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'[device]\nid = "{device}"\n[paths]\nstate_dir = "{path.parent}/state"\n')
    return path


def shown() -> str:
    device: str = json.loads(edge_sync("config", "show", "--json").out)["device.id"]
    return device


def test_the_first_file_that_there_is_is_read_and_no_other(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(home / "etc/edge-sync.toml", "systems")
    assert shown() == "systems"
    write(home / ".config/edge/edge-sync.toml", "users")
    assert shown() == "users"
    monkeypatch.setenv("XDG_CONFIG_HOME", str(write(home / "xdg/edge/edge-sync.toml", "xdgs").parents[1]))
    assert shown() == "xdgs"
    monkeypatch.setenv("EDGE_SYNC_CONFIG", str(write(home / "mine.toml", "variables")))
    assert shown() == "variables"
    given = write(home / "given.toml", "flags")
    assert json.loads(edge_sync("config", "show", "--json", "--config", given).out)["device.id"] == "flags"
    assert edge_sync("agent", "status").out.startswith("device  variables, ")


def test_a_file_that_was_named_and_is_not_there_is_no_reason_to_take_another(home: Path) -> None:
    write(home / "etc/edge-sync.toml", "systems")
    said = edge_sync("agent", "status", "--config", home / "nowhere.toml")
    assert (said.code, said.out) == (2, "")
    assert "nowhere.toml: cannot be read" in said.errors


@pytest.mark.parametrize("command", ["status", "once", "run"])
def test_without_any_configuration_nothing_is_said_of_the_device_but_where_one_was_looked_for(
    home: Path, command: str
) -> None:
    said = edge_sync("agent", command)
    assert (said.code, said.out) == (2, "")
    places = f"{home}/.config/edge/edge-sync.toml or {home}/etc/edge-sync.toml"
    assert said.errors == (f"edge-sync: configuration: none was found: want --config, $EDGE_SYNC_CONFIG, {places}\n")
    checked = edge_sync("config", "check")
    assert (checked.code, checked.out) == (
        0,
        f"ok: the defaults, for none was found: want --config, $EDGE_SYNC_CONFIG, {places}\n",
    )
    assert edge_sync("agent", "doctor").code == 2


def test_a_flag_or_a_variable_is_a_configuration(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert edge_sync("agent", "status", "--set", f"paths.state_dir={home}").code == 0
    monkeypatch.setenv("EDGE_SYNC_PATHS__STATE_DIR", str(home))
    assert edge_sync("agent", "status").code == 0
