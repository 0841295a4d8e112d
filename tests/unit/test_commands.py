"""What every command of both programs has in common: --json where it prints data, --quiet where it does something, exit codes."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from edge.cli import main as edge_main
from edge.cli.root import cli as edge
from sync.cli.root import cli as edge_sync
from tests.unit.sync.cli.edge_sync import Said
from tests.unit.sync.cli.edge_sync import edge_sync as run_edge_sync

NO_DATA = {
    "edge serve": "runs until it is told to stop, and logs",
    "edge demo": "tells a story",
    "edge completion": "prints a script",
    "edge config init": "writes a file",
    "edge import-config": "prints a file",
    "edge config schema": "prints JSON as it is",
    "edge models load": "does something",
    "edge models unload": "does something",
    "edge-sync agent run": "runs until it is told to stop, and logs",
    "edge-sync completion": "prints a script",
}
"""The only commands without --json, and why."""
ONLY_DATA = {
    "edge models ls", "edge models show", "edge predict", "edge version", "edge config show", "edge config schema",
    "edge serve", "edge demo", "edge completion", "edge discover", "edge mqtt watch",
    "edge-sync keys show", "edge-sync rollout status", "edge-sync agent status", "edge-sync config show",
    "edge-sync agent run", "edge-sync agent once", "edge-sync collect", "edge-sync completion",
}  # fmt: skip
"""The only commands without --quiet: nobody calls them but for what they say, or they are services."""


def walk(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            inner = command.get_command(click.Context(command), name)
            assert inner is not None
            yield from walk(inner, f"{path} {name}")


ALL = dict([*walk(edge, "edge"), *walk(edge_sync, "edge-sync")])
GROUPS = [path for path, command in ALL.items() if isinstance(command, click.Group)]
LEAVES = [path for path, command in ALL.items() if not isinstance(command, click.Group)]


def options(path: str) -> set[str]:
    return {name for parameter in ALL[path].params for name in parameter.opts}


def run(path: str, *more: str) -> Said:
    program, *words = path.split()
    if program == "edge-sync":
        return run_edge_sync(*words, *more)
    out, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors), pytest.raises(SystemExit) as left:
        edge_main([*words, *more])
    assert isinstance(left.value.code, int)
    return Said(left.value.code, out.getvalue(), errors.getvalue())


@pytest.fixture(autouse=True)
def _nobodys_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("EDGE_CONFIG", "/dev/null")
    for name in ("EDGE_URL", "EDGE_SYNC_CONFIG", "EDGE_SYNC_STORE", "EDGE_SYNC_KEYS", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("path", LEAVES)
def test_a_command_that_prints_data_prints_it_as_json_too(path: str) -> None:
    assert ("--json" in options(path)) is (path not in NO_DATA)


@pytest.mark.parametrize("path", LEAVES)
def test_a_command_that_does_or_checks_something_can_be_quiet(path: str) -> None:
    assert ("--quiet" in options(path)) is (path not in ONLY_DATA)


def test_the_exceptions_are_commands_that_there_are() -> None:
    assert set(LEAVES) >= {*NO_DATA, *ONLY_DATA}


@pytest.mark.parametrize("path", ALL)
def test_help_leaves_with_0_and_an_option_that_there_is_not_with_2(path: str) -> None:
    said = run(path, "--help")
    assert (said.code, said.errors) == (0, "")
    said = run(path, "--jsno")
    assert (said.code, said.out) == (2, "")
    assert "No such option" in said.errors


@pytest.mark.parametrize("path", [path for path in LEAVES if "--json" in options(path)])
def test_an_option_that_is_nearly_right_is_asked_back_about(path: str) -> None:
    assert "'--json'" in run(path, "--jsno").errors


@pytest.mark.parametrize("path", GROUPS)
def test_a_command_that_is_nearly_right_is_asked_back_about(path: str) -> None:
    name = next(each.removeprefix(f"{path} ") for each in ALL if each.startswith(f"{path} "))
    said = run(path, name[:-1] + "xx"[: 1 + (len(name) < 3)])
    assert (said.code, said.out) == (2, "")
    assert name in said.errors
    assert "did you mean" in said.errors.lower()


@pytest.mark.parametrize("path", [path for path in LEAVES if "--url" in options(path)])
def test_a_server_that_does_not_answer_is_4_and_nothing_is_printed(path: str, tmp_path: Path) -> None:
    words = ["name" for each in ALL[path].params if isinstance(each, click.Argument) and each.name == "name"]
    if path == "edge predict":
        (tmp_path / "request.json").write_text("{}")
        words.append(str(tmp_path / "request.json"))
    said = run(path, *words, "--url", "127.0.0.1:1")
    assert (said.code, said.out) == (4, "")
    assert "127.0.0.1:1" in said.errors


@pytest.mark.parametrize("path", [path for path in LEAVES if "--config" in options(path)])
def test_a_configuration_that_is_not_there_is_2_or_what_the_doctor_says(path: str, tmp_path: Path) -> None:
    said = run(path, "--config", str(tmp_path / "none.toml"))
    assert said.code == (1 if path == "edge doctor" else 2)
    assert "none.toml" in said.out + said.errors


@pytest.mark.parametrize("path", ["edge version", "edge config check", "edge config show", "edge-sync config check"])
def test_json_is_all_that_is_printed_where_it_is_asked_for(path: str) -> None:
    said = run(path, "--json")
    assert said.code == 0
    json.loads(said.out)


@pytest.mark.parametrize("path", ["edge config check", "edge-sync config check"])
def test_quiet_says_nothing_of_what_is_well_and_all_of_what_is_wrong(path: str, tmp_path: Path) -> None:
    assert run(path, "--quiet") == (0, "", "")
    file = tmp_path / "wrong.toml"
    file.write_text("[nothing]\nx = 1\n")
    said = run(path, "--quiet", "--config", str(file))
    assert (said.code, said.out) == (2, "")
    assert f"{file}:2" in said.errors


@pytest.mark.parametrize("program", ["edge", "sync"])
def test_an_interrupt_is_130(program: str) -> None:
    code = (
        f"import sys, {program}.cli.root as root\n"
        "import click\n"
        "@click.command()\n"
        "def interrupted(): raise KeyboardInterrupt\n"
        "group = type(root.cli)\n"
        "group.get_command = lambda *_: interrupted\n"
        f"from {program}.cli import main\n"
        f"sys.argv = ['{program}', 'config']\n"
        "sys.exit(main())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stderr
