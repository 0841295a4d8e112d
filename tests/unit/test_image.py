"""The image's files fit each other and this package. That it builds and runs is shown by tests/functional/test_image.py."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deploy import processors, slim
from deploy.requirements import RUNTIMES, constraints, requirements, write
from edge.cli.root import cli
from sync.cli.root import cli as edge_sync

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "docker.md").read_text()
DOCKERFILE = re.sub(r"\\\n", " ", (ROOT / "Dockerfile.arm64").read_text())
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())
SCRIPTS = {"edge": cli, "edge-sync": edge_sync}


def words_of(instruction: str) -> list[str]:
    """The words behind the last one of the image itself, which follows the last FROM."""
    stage = re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)[-1]
    return re.findall(rf"^{instruction} (.+)$", stage, re.MULTILINE)[-1:]


def exec_form(instruction: str) -> list[str]:
    (text,) = words_of(instruction)
    found: list[str] = ast.literal_eval(text[text.index("[") :])
    return found


def parse(words: list[str]) -> None:
    """Raises for a command or an option that is not there."""
    command: click.Command = SCRIPTS[words[0]]
    rest = words[1:]
    while isinstance(command, click.Group):
        inner = command.get_command(click.Context(command), rest[0])
        assert inner is not None, words
        command, rest = inner, rest[1:]
    command.make_parser(click.Context(command)).parse_args(rest)


def test_the_image_starts_and_is_asked_for_its_health_by_commands_that_there_are() -> None:
    parse(exec_form("ENTRYPOINT") + exec_form("CMD"))
    parse(exec_form("HEALTHCHECK"))


def test_the_image_runs_as_somebody_who_is_nobody_on_its_host() -> None:
    (user,) = words_of("USER")
    assert re.fullmatch(r"(\d+):\1", user)
    assert 10_000 <= int(user.split(":")[0]) < 60_000


def test_the_image_names_no_index() -> None:
    assert not re.search(r"://|index-url|find-links|\.org|\.com", DOCKERFILE)


def test_what_the_image_copies_is_there_and_is_let_in() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    let_in = [line[1:] for line in lines if line.startswith("!")]
    copied = [
        source
        for words in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
        for source in shlex.split(words)[:-1]
    ]
    assert {*copied, "deploy/coral"} == {*let_in}
    assert all((ROOT / each).exists() for each in copied)
    packaged = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert {*packaged["packages"], *packaged.get("force-include", {})} <= {*copied}
    assert "*" in lines


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_each_package_of_a_device_is_one_that_is_pinned(runtime: str, tmp_path: Path) -> None:
    write(runtime, tmp_path)
    pins = {
        canonicalize_name(Requirement(line).name) for line in (tmp_path / "constraints.txt").read_text().splitlines()
    }
    wanted = [Requirement(line) for line in (tmp_path / "requirements.txt").read_text().splitlines()]
    assert {canonicalize_name(each.name) for each in wanted} <= pins
    builders = [Requirement(line) for line in (tmp_path / "build.txt").read_text().splitlines()]
    assert all(str(each.specifier).startswith("==") for each in builders)


def test_a_device_has_the_one_runtime_or_the_other() -> None:
    arm64 = {"platform_machine": "aarch64", "python_version": "3.11"}
    names = {
        runtime: {
            each.name: str(each.specifier)
            for each in map(Requirement, requirements(runtime))
            if each.marker is None or each.marker.evaluate(arm64)
        }
        for runtime in RUNTIMES
    }
    assert "ai-edge-litert" in names["litert"]
    assert "tflite-runtime" not in names["litert"]
    assert "ai-edge-litert" not in names["tflite"]
    assert names["tflite"]["numpy"] == "==1.26.4"
    assert names["litert"].keys() - names["tflite"].keys() == {"ai-edge-litert"}
    assert all("tensorflow" not in line for runtime in RUNTIMES for line in requirements(runtime))
    assert (
        constraints()[0]
        == tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["uv"]["constraint-dependencies"]
    )


def test_what_a_device_never_opens_goes_and_this_package_stays(tmp_path: Path) -> None:
    gone = ["numpy/lib/tests/test_io.py", "numpy/__init__.pyi", "simdjson/simdjson.cpp", "ml_dtypes/finfo.py"]
    kept = ["numpy/__init__.py", "edge/tests/x.py", "edge/x.pyi", "sync/x.h", "pillow.libs/libjpeg.so", "attr/py.typed"]
    for each in gone + kept:
        file = tmp_path / each
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(bytes(1000))
    assert slim.slim(tmp_path) >= 4000
    assert sorted(str(each.relative_to(tmp_path)) for each in tmp_path.rglob("*") if each.is_file()) == sorted(kept)


def test_a_boards_processors_are_as_many_wherever_they_are_read(tmp_path: Path) -> None:
    processors.describe(tmp_path)
    described = (tmp_path / "proc" / "cpuinfo").read_text().count("processor\t:")
    assert described == len(list((tmp_path / "sys/devices/system/cpu").glob("cpu[0-9]*"))) == processors.CORES
    assert (tmp_path / "sys/devices/system/cpu/possible").read_text() == f"0-{described - 1}\n"


def test_the_services_are_the_images_with_its_volumes_and_commands_that_there_are() -> None:
    volumes = set(exec_form("VOLUME"))
    entry, command = exec_form("ENTRYPOINT"), exec_form("CMD")
    assert set(COMPOSE["services"]) == {"edge", "agent"}
    for service in COMPOSE["services"].values():
        parse(service.get("entrypoint", entry) + service.get("command", command))
        mounted = dict(each.split(":")[:2][::-1] for each in service["volumes"])
        assert volumes <= mounted.keys()
        assert {mounted[each] for each in volumes} == set(COMPOSE["volumes"])
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]


def test_both_services_meet_in_the_same_volumes() -> None:
    server, agent = ({*COMPOSE["services"][name]["volumes"]} for name in ("edge", "agent"))
    assert server <= agent
    assert agent - server == {"/etc/edge:/etc/edge:ro"}


def test_what_keeps_the_image_from_being_built_is_said_at_once_all_of_it(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "deploy.build_image", "--base", "debootstrap", "--place", tmp_path / "image"],
        env=os.environ | {"PATH": str(tmp_path)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 77
    assert "there is no buildah" in done.stderr
    assert "there is no debootstrap" in done.stderr
    assert not (tmp_path / "image").exists()


def test_no_package_for_the_edge_tpu_is_kept_in_the_repository() -> None:
    ignored = (ROOT / "deploy" / "coral" / ".gitignore").read_text().split()
    assert any(fnmatch("libedgetpu1-std_16.0_arm64.deb", each) for each in ignored)


def test_the_guide_names_every_argument_of_the_image_with_its_default_and_no_other() -> None:
    given = dict(re.findall(r"^ARG (\w+)=(\S+)$", DOCKERFILE, re.MULTILINE))
    assert dict(re.findall(r"^\| `([A-Z]+)` \| `([^`]+)` \|", GUIDE, re.MULTILINE)) == given


def test_the_guide_names_every_option_of_the_script_and_no_other() -> None:
    script = [str(ROOT / "deploy" / "build-image"), "--help"]
    options = set(
        re.findall(r"--[a-z-]+", subprocess.run(script, check=True, stdout=subprocess.PIPE, text=True).stdout)
    )
    part = GUIDE[GUIDE.index("### Without a daemon") : GUIDE.index("## Run it")]
    assert set(re.findall(r"(?<=[` ])--[a-z-]+", part)) == options - {"--help"}


@pytest.mark.parametrize("words", re.findall(r"`?(edge(?:-sync)? (?:health|agent) [^`\n']+)", GUIDE))
def test_a_command_in_a_container_that_the_guide_names_is_one_that_there_is(words: str) -> None:
    parse(shlex.split(words))


def test_files_that_the_guide_names_are_there() -> None:
    named = set(re.findall(r"(?<![\w/.-])deploy/[\w.-]+", GUIDE)) | {
        f"docs/{each}" for each in re.findall(r"\]\(([\w./-]+)", GUIDE)
    }
    assert {"deploy/build-image", "deploy/coral", "docs/fleet.md"} <= named
    assert [each for each in named if not (ROOT / each.partition("#")[0]).exists()] == []
