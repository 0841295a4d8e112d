"""What --help shows can be typed."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import click
import pytest

from sync.cli.examples import EXAMPLES
from sync.cli.root import cli


def commands(command: click.Command, path: str = "") -> Iterator[tuple[str, click.Command]]:
    if path:
        yield path, command
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            inner = command.get_command(click.Context(command), name)
            assert inner is not None
            yield from commands(inner, f"{path} {name}".strip())


COMMANDS = dict(commands(cli))


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_has_examples_on_top_of_its_help(path: str) -> None:
    command = COMMANDS[path]
    text = command.get_help(click.Context(command))
    assert f"  edge-sync {path} " in text + " " or f"  edge-sync {path}\n" in text
    assert text.index("Examples:") < text.index("Options:")
    assert (command.short_help or "").strip(), "the list of commands says what each is for"


@pytest.mark.parametrize("line", [line for lines in EXAMPLES.values() for line in lines])
def test_an_example_is_understood(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_SYNC_STORE", "/srv/models")
    monkeypatch.setenv("EDGE_SYNC_KEYS", "/keys")
    words = shlex.split(line.split("     ")[0])[1:]
    command: click.Command = cli
    while isinstance(command, click.Group):
        inner = command.get_command(click.Context(command), words[0])
        assert inner is not None, f"no command {words[0]}"
        command, words = inner, words[1:]
        if isinstance(command, click.Group) and not words:
            return
    values, left, _ = command.make_parser(click.Context(command)).parse_args(list(words))
    assert left == []
    for parameter in command.params:
        if isinstance(parameter, click.Option) and parameter.name in values:
            parameter.type_cast_value(click.Context(command), values[parameter.name])


def test_examples_are_of_commands_that_there_are() -> None:
    assert EXAMPLES.keys() == COMMANDS.keys()


WITHOUT_JSON = {"agent run", "completion"}
"""Whose only words are its log, and what prints a program for a shell."""


def test_every_command_that_prints_can_print_json() -> None:
    leaves = {path: command for path, command in COMMANDS.items() if not isinstance(command, click.Group)}
    have = {path for path, command in leaves.items() if any("--json" in each.opts for each in command.params)}
    assert have == leaves.keys() - WITHOUT_JSON
    assert len(have) > 15
