"""The command line as a whole: what it says where it is asked wrongly, or where something is not installed."""

from __future__ import annotations

import importlib
import sys
from importlib.metadata import version

import pytest

from tests.unit.sync.cli.edge_sync import edge_sync


@pytest.fixture
def on_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without what an operator signs with."""
    for name in [name for name in sys.modules if name.startswith(("sync.cli.", "sync.fleet."))]:
        if name != "sync.cli.root":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    for name in [name for name in sys.modules if name.startswith("cryptography.")]:
        monkeypatch.delitem(sys.modules, name)


@pytest.mark.usefixtures("on_a_device")
def test_help_is_given_where_only_the_agent_is_installed() -> None:
    said = edge_sync("--help")
    assert (said.code, said.errors) == (0, "")
    lines = {line.split()[0]: line for line in said.out.partition("Commands:")[2].splitlines() if line.strip()}
    assert "Bring this device what its group runs." in lines["agent"]
    assert "Not installed" in lines["publish"]


@pytest.mark.usefixtures("on_a_device")
@pytest.mark.parametrize("words", [("publish", "models/x/1", "--name", "x"), ("keys", "init"), ("verify", "--help")])
def test_a_command_that_is_not_installed_says_what_brings_it(words: tuple[str, ...]) -> None:
    said = edge_sync(*words)
    assert said.code == 2
    assert said.errors.startswith(f"edge-sync: {words[0]}: wants the package cryptography")
    assert "pip install 'edge-serving[fleet]'" in said.errors


def test_a_package_of_our_own_that_is_missing_is_no_matter_of_what_is_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(name: str) -> None:
        raise ModuleNotFoundError("gone", name="sync.fleet.gone")

    monkeypatch.setattr(importlib, "import_module", broken)
    with pytest.raises(ModuleNotFoundError):
        edge_sync("publish", "--help")


def test_a_command_that_is_nearly_right_is_asked_back_about() -> None:
    assert "no such command 'pubish'; did you mean 'publish'?" in edge_sync("pubish").errors
    said = edge_sync("frobnicate")
    assert (said.code, "there are keys, publish, withdraw, rollout" in said.errors) == (2, True)


def test_it_says_which_version_it_is() -> None:
    assert edge_sync("--version") == (0, f"edge-sync {version('edge-serving')}\n", "")
