"""Completion in the shells themselves: what Tab offers behind a word."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.functional.server import Running, serving
from tests.functional.zoo import DIGITS

WITHIN_S = 90.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    path = tmp_path_factory.mktemp("completion")
    models = (
        "--model",
        f"digits={DIGITS / '2' / 'model.tflite'}",
        "--model",
        f"detector={DIGITS / '1' / 'model.tflite'}",
    )
    with serving(path, *models) as running:
        yield running


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """With both commands on the PATH, and nobody's settings."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, module in (("edge", "edge"), ("edge-sync", "sync")):
        script = programs / name
        script.write_text(f'#!/bin/sh\nexec {sys.executable} -m {module} "$@"\n')
        script.chmod(0o755)
    kept = {key: value for key, value in os.environ.items() if not key.startswith("EDGE_")}
    root = Path(__file__).parents[2]
    paths = {"PATH": f"{programs}:{kept['PATH']}", "PYTHONPATH": str(root), "HOME": str(tmp_path)}
    return kept | paths | {"EDGE_CONFIG": "/dev/null", "EDGE_URL": "http://127.0.0.1:1"}


def said(environment: dict[str, str], *command: str) -> list[str]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=WITHIN_S, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.split()


def in_bash(bash: str, environment: dict[str, str], line: str) -> list[str]:
    program = line.split()[0]
    function = f"_{program.replace('-', '_')}_completion"
    words = [*line.split(), *([""] if line.endswith(" ") else [])]
    script = (
        f"source <({program} completion bash)\nCOMP_WORDS=({' '.join(word or repr('') for word in words)})\n"
        f"COMP_CWORD={len(words) - 1}\ncomplete -p {program} >/dev/null\n{function} {program}\n"
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    return said(environment, bash, "--norc", "-c", script)


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("edge mod", ["models"]),
        ("edge models un", ["unload"]),
        ("edge doctor --js", ["--json"]),
        ("edge-sync rollout sta", ["start", "status"]),
        ("edge-sync agent do", ["doctor"]),
    ],
)
def test_bash_offers_commands_and_options(
    bash: str, environment: dict[str, str], line: str, offered: list[str]
) -> None:
    assert in_bash(bash, environment, line) == offered


@pytest.mark.parametrize("program", ["edge", "edge-sync"])
def test_where_the_program_cannot_be_run_a_tab_says_nothing(
    bash: str, environment: dict[str, str], tmp_path: Path, program: str
) -> None:
    function = f"_{program.replace('-', '_')}_completion"
    broken = tmp_path / "broken"
    broken.write_text("#!/nowhere/python\n")
    broken.chmod(0o755)
    script = f"source <({program} completion bash)\nCOMP_WORDS=({program} '')\nCOMP_CWORD=1\n{function} {broken}\n"
    assert said(environment, bash, "--norc", "-c", script) == []
    for shell in ("zsh", "fish"):
        done = subprocess.run(
            [program, "completion", shell],
            capture_output=True,
            text=True,
            timeout=WITHIN_S,
            check=True,
            env=environment,
        )
        assert f"{program} 2>/dev/null)" in done.stdout


def test_bash_offers_the_models_of_the_server(bash: str, environment: dict[str, str], server: Running) -> None:
    environment["EDGE_URL"] = server.url
    assert in_bash(bash, environment, "edge predict d") == ["detector", "digits"]
    assert in_bash(bash, environment, "edge models show dig") == ["digits"]


def test_without_a_server_bash_offers_what_is_configured(
    bash: str, environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "models" / "half").mkdir(parents=True)
    (tmp_path / "models" / ".trash").mkdir()
    (tmp_path / "edge.toml").write_text('repository.path = "models"\n[models.word]\npath = "w"\n')
    environment["EDGE_CONFIG"] = str(tmp_path / "edge.toml")
    assert in_bash(bash, environment, "edge predict ") == ["half", "word"]


def test_bash_offers_the_models_of_a_store_that_is_a_directory(
    bash: str, environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "store/targets/models/detector/3").mkdir(parents=True)
    environment["EDGE_SYNC_STORE"] = str(tmp_path / "store")
    assert in_bash(bash, environment, "edge-sync rollout promote de") == ["detector"]
    assert in_bash(bash, environment, "edge-sync withdraw ") == ["detector"]


@pytest.mark.parametrize("program", ["edge", "edge-sync"])
def test_zsh_takes_the_script_and_is_offered_commands(zsh: str, environment: dict[str, str], program: str) -> None:
    script = f'autoload -U compinit; compinit -D -u; eval "$({program} completion zsh)"; print $_comps[{program}]'
    assert said(environment, zsh, "-f", "-c", script) == [f"_{program.replace('-', '_')}_completion"]
    variable = f"_{program.upper().replace('-', '_')}_COMPLETE"
    asked = environment | {variable: "zsh_complete", "COMP_WORDS": f"{program} conf", "COMP_CWORD": "1"}
    assert said(asked, program)[:2] == ["plain", "config"]


@pytest.mark.parametrize("program", ["edge", "edge-sync"])
def test_fish_takes_the_script_and_offers_commands(fish: str, environment: dict[str, str], program: str) -> None:
    script = f"{program} completion fish | source; complete -C '{program} conf'"
    assert said(environment, fish, "--no-config", "-c", script)[0] == "config"
