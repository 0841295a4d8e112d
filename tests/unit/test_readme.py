"""What README and the guide tell somebody to type exists: commands, options, files, links."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from msgspec.structs import fields

from edge.cli.root import cli
from edge.config import keys
from sync import config as agent
from sync.cli.root import cli as edge_sync

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
GUIDE = (ROOT / "docs" / "developing.md").read_text()
DISCOVERY = (ROOT / "docs" / "discovery.md").read_text()
FLEET = (ROOT / "docs" / "fleet.md").read_text()
TROUBLE = "".join((ROOT / "docs" / f"{name}.md").read_text() for name in ("troubleshooting", "coral", "raspberry-pi"))
TREES = ("benchmarks", "deploy", "docs", "edge", "examples", "sync", "systemd", "tests")


def commands(text: str, program: str = "edge") -> list[str]:
    """Every `edge …`, in blocks and in backticks, without comments."""
    lines = [line.strip() for line in text.splitlines() if line.startswith("    ")]
    lines += re.findall(r"`([^`\n]+)`", text)
    parts = [part for line in lines for part in re.split(r"&&", line)]
    found = [part.strip().removeprefix(".uv/bin/uv run ").removeprefix("--no-dev ") for part in parts]
    return [part for part in found if part.startswith(f"{program} ")]


def known_options(command: click.Command) -> set[str]:
    names = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            inner = command.get_command(click.Context(command), name)
            assert inner is not None
            names |= known_options(inner)
    return names


@pytest.mark.parametrize("line", sorted({*commands(README), *commands(TROUBLE), *commands(DISCOVERY)}))
def test_a_command_of_the_readme_is_one_that_there_is(line: str) -> None:
    parse(cli, line)


@pytest.mark.parametrize(
    "line", sorted({*commands(README, "edge-sync"), *commands(FLEET, "edge-sync"), *commands(TROUBLE, "edge-sync")})
)
def test_a_command_for_fleets_is_one_that_there_is(line: str) -> None:
    parse(edge_sync, line)


@pytest.mark.parametrize("line", commands(FLEET))
def test_a_command_of_the_server_that_the_guide_for_fleets_names_is_one_that_there_is(line: str) -> None:
    parse(cli, line)


def parse(command: click.Command, line: str) -> None:
    """Raises for an option that is not there."""
    words = shlex.split(line, comments=True)[1:]
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        context = click.Context(command)
        inner = command.get_command(context, words[0])
        assert inner is not None, f"{line}: no command {words[0]}"
        command, words = inner, words[1:]
    command.make_parser(click.Context(command)).parse_args(list(words))


def leaves(command: click.Command, path: str = "") -> Iterator[str]:
    if not isinstance(command, click.Group):
        yield path.strip()
        return
    for name in command.list_commands(click.Context(command)):
        inner = command.get_command(click.Context(command), name)
        assert inner is not None
        yield from leaves(inner, f"{path} {name}")


def test_the_guide_for_fleets_names_every_command_of_edge_sync() -> None:
    named = commands(FLEET, "edge-sync")
    assert [
        each for each in leaves(edge_sync) if not any(f"{line} ".startswith(f"edge-sync {each} ") for line in named)
    ] == []


def test_the_readme_names_every_command() -> None:
    named = {line.split()[1] for line in commands(README) if len(line.split()) > 1}
    assert named == set(cli.list_commands(click.Context(cli)))


def test_an_option_that_the_readme_mentions_is_one_that_there_is() -> None:
    known = known_options(cli) | known_options(edge_sync)
    mentioned = {
        word for line in commands(README) for word in shlex.split(line, comments=True) if word.startswith("--")
    }
    mentioned |= set(re.findall(r"`(--[a-z-]+)`", README))
    assert mentioned <= known
    assert len(mentioned) > 5


@pytest.mark.parametrize(
    "name",
    ["README.md", "CHANGELOG.md", *(f"docs/{each.name}" for each in sorted((ROOT / "docs").glob("*.md")))],
)
def test_a_file_that_a_document_links_to_or_names_exists(name: str) -> None:
    place = ROOT / name
    text = place.read_text()
    linked = [link for link in re.findall(r"\]\(([^)#\s]+)\)", text) if "://" not in link]
    assert [link for link in linked if not (place.parent / link).exists()] == []
    paths = rf"(?<![\w/.])(?!edge/v1/)(?:{'|'.join(TREES)})/[\w./-]*[\w/]"  # edge/v1/ begins the topics of MQTT
    named = re.findall(paths, text)
    assert [path for path in named if not (ROOT / path).exists()] == []
    modules = re.findall(r"python -m ([\w.]+)", text)
    assert [each for each in modules if not (ROOT / each.replace(".", "/")).with_suffix(".py").exists()] == []


@pytest.mark.parametrize("package", ["edge", "sync"])
def test_the_guide_places_every_package_and_module(package: str) -> None:
    here = {f"{package}/{path.name}" for path in (ROOT / package).iterdir() if not path.name.startswith("_")}
    assert set(re.findall(r"`((?:edge|sync)/[\w.]+)`", GUIDE)) >= here


def test_every_module_of_an_update_that_the_guide_names_is_there() -> None:
    story = GUIDE.partition("One update, all\nin `sync/agent`:")[2].partition("\n\n")[0]
    named = re.findall(r"`([a-z/]+)`", story)
    assert len(named) > 15
    there = {path.stem for path in (ROOT / "sync" / "agent").iterdir()} | {"trust", "doctor", "domain/judge"}
    assert set(named) <= there


def test_keys_and_metrics_that_a_remedy_names_are_ones_that_there_are() -> None:
    sections = {f"{section}.{key}" for section in keys.SECTIONS for key in keys.fields(section)}
    sections |= {f"{section.name}.{key.name}" for section in fields(agent.Config) for key in fields(section.type)}
    named = set(re.findall(r"`((?:server|http|admin|log|update|network|device|store|poll)\.\w+)`", TROUBLE))
    assert named <= sections
    assert len(named) > 8
    metrics = (ROOT / "docs" / "metrics.md").read_text()
    assert [name for name in re.findall(r"`(edge_\w+)", TROUBLE) if f"| `{name}`" not in metrics] == []


def test_the_picture_of_the_page_is_small_and_of_the_page() -> None:
    picture = (ROOT / "docs" / "page.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) < 150_000
