"""`edge config`: what a server would be told, and by whom."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge.cli import exits
from edge.cli.options import PATH, as_json, print_json

if TYPE_CHECKING:
    from edge.config import Resolved

FILE = click.option("--config", "file", type=PATH, help="The file, if not the one that `edge serve` would read.")


@click.group(help="Look at the configuration without starting a server.")
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
@as_json
def check(file: Path | None, as_json: bool) -> None:
    from edge.config import absent_models, missing_files

    resolved = settle(file, {})
    missing = missing_files(resolved.config)
    warnings = [*resolved.warnings, *absent_models(resolved.config)]
    if as_json:
        print_json({"ok": not missing, "problems": missing, "warnings": warnings})
    else:
        for warning in warnings:
            click.echo(f"warning: {warning}", err=True)
        for problem in missing:
            click.echo(f"error: {problem}", err=True)
        if not missing:
            click.echo("ok")
    exits.leave(exits.USAGE if missing else exits.OK)


@config.command(help="Print every setting as TOML.")
@FILE
@click.option("--origin", is_flag=True, help="Say who set each.")
@as_json
def show(file: Path | None, origin: bool, as_json: bool) -> None:
    from edge.config import plain

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


def to_toml(values: dict[str, Any], comment: Callable[[str], str] = lambda key: "") -> str:
    """Dotted keys to values → a file that says the same; `comment` is put behind each line."""
    lines: list[str] = []
    last = ""
    for dotted, value in values.items():
        section, _, rest = dotted.partition(".")
        name, _, key = rest.rpartition(".")
        table = f"[{section}]" if not name else f"[{section}.{_word(name)}]"
        if table != last:
            lines += ["", table] if lines else [table]
            last = table
        said = comment(dotted)
        lines.append(f"{key} = {_toml(value)}" + (f"  # {said}" if said else ""))
    return "\n".join(lines) + "\n"


def _word(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name)


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return (
            "{ " + ", ".join(f"{_word(key)} = {_toml(each)}" for key, each in value.items()) + " }" if value else "{}"
        )
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, str):  # a basic string of TOML's is one of JSON's, but for DEL
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return json.dumps(value)
