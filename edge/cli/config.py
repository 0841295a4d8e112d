"""`edge config`: what a server would be told, and by whom."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge.cli import exits
from edge.cli.options import PATH, as_json, print_json, quiet

if TYPE_CHECKING:
    from edge.config import Resolved

FILE = click.option("--config", "file", type=PATH, help="The file, if not the one that `edge serve` would read.")


@click.group(
    short_help="Look at the configuration, or begin one.",
    help="""\b
Examples:
  edge config check                    all that is wrong, each with its file and line
  edge config show --origin            every setting, and who set it
  edge config init edge.toml           a file with every key, commented
  edge config schema > edge.json       for editors that complete TOML

Look at the configuration without starting a server, or begin one.""",
)
def config() -> None:
    pass


def read(file: Path | None, flags: dict[str, object]) -> Resolved:
    """The configuration that `edge serve` would use. Raises ConfigError."""
    from edge.config import resolve
    from edge.config.paths import default_config_file

    return resolve(file or default_config_file(os.environ), os.environ, flags)


def settle(file: Path | None, flags: dict[str, object]) -> Resolved:
    """The same, for a command. Raises Failure(USAGE) with every problem, a line each."""
    from edge.config import ConfigError

    try:
        return read(file, flags)
    except ConfigError as error:
        raise unusable(error.problems) from None


def unusable(problems: Sequence[str]) -> exits.Failure:
    """A line for each."""
    return exits.Failure("\n  ".join(["the configuration cannot be used:", *problems]), exits.USAGE)


@config.command(help="Say everything that is wrong with the configuration; leave with 2 if anything is.")
@FILE
@quiet
@as_json
def check(file: Path | None, quiet: bool, as_json: bool) -> None:
    from edge.config import ConfigError, absent_models, missing_files

    problems: list[str] = []
    warnings: list[str] = []
    try:
        resolved = read(file, {})
        problems = missing_files(resolved.config, resolved.origins)
        warnings = [*resolved.warnings, *absent_models(resolved.config)]
    except ConfigError as error:
        problems = list(error.problems)
    if as_json:
        print_json({"ok": not problems, "problems": problems, "warnings": warnings})
    else:
        for warning in [] if quiet else warnings:
            click.echo(f"warning: {warning}", err=True)
        for problem in problems:
            click.echo(f"error: {problem}", err=True)
        if not problems and not quiet:
            click.echo("ok")
    exits.leave(exits.USAGE if problems else exits.OK)


@config.command(help="Print every setting as TOML.")
@FILE
@click.option("--origin", is_flag=True, help="Say who set each.")
@as_json
def show(file: Path | None, origin: bool, as_json: bool) -> None:
    from edge.config import plain
    from edge.domain.toml import to_toml

    resolved = settle(file, {})
    for warning in resolved.warnings:
        click.echo(f"warning: {warning}", err=True)
    values = plain(resolved.config)
    origins = resolved.origins if origin else {}
    if as_json:
        both = {key: {"value": value, "origin": origins[key]} for key, value in values.items()} if origin else values
        print_json(both)
    else:
        click.echo(to_toml(values, lambda key: origins.get(key, "")), nl=False)


@config.command(help="Print the file's JSON Schema, for editors that complete and check TOML.")
def schema() -> None:
    from edge.config.described import schema as described

    print_json(described())


@config.command(help="Write a file with every key behind a #, to FILE, which must not be there; without it, print it.")
@click.argument("to", metavar="[FILE]", type=PATH, required=False)
@quiet
def init(to: Path | None, quiet: bool) -> None:
    from edge.config.described import sample

    if to is None:
        click.echo(sample(), nl=False)
        return
    try:
        with to.open("x") as file:
            file.write(sample())
    except FileExistsError:
        raise exits.Failure(f"{to}: is there already, and is not overwritten") from None
    except OSError as error:
        raise exits.Failure(f"{to}: {error.strerror}") from None
    if not quiet:
        click.echo(f"{to}: written; it sets nothing until a # is taken away", err=True)
