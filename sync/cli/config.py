"""`edge-sync config`: what the agent would be told, and by whom. The words are those of `edge config`."""

from __future__ import annotations

from pathlib import Path

import click

from edge.domain.toml import to_toml
from sync.cli.configured import configured, resolved
from sync.cli.output import plain as printable
from sync.cli.output import print_json, quietly, warn
from sync.config import plain
from sync.domain.errors import OperatorError


@click.group()
def config() -> None:
    """Look at the agent's configuration without starting it."""


@config.command()
@configured
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@quietly
def check(config: Path | None, settings: tuple[str, ...], as_json: bool) -> int:
    """Say everything that is wrong with the configuration; leave with 2 if anything is."""
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    nowhere = ""
    try:
        found, nowhere = resolved(config, settings)
        warnings = found.warnings
    except OperatorError as error:
        problems = error.more or (error.message.removeprefix("configuration: "),)
    if as_json:
        print_json(
            {"ok": not problems, "problems": list(problems), "warnings": [*warnings, *([nowhere] if nowhere else [])]}
        )
    else:
        for each in warnings:
            warn(f"warning: {each}")
        for each in problems:
            warn(f"error: {each}")
        if not problems:
            print(f"ok: the defaults, for {nowhere}" if nowhere else "ok")
    return 2 if problems else 0


@config.command()
@configured
@click.option("--origin", is_flag=True, help="Say who set each.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(config: Path | None, settings: tuple[str, ...], origin: bool, as_json: bool) -> None:
    """Print every setting as TOML."""
    found, _ = resolved(config, settings)
    for each in found.warnings:
        warn(f"warning: {each}")
    values = plain(found.config)
    origins = found.origins if origin else {}
    if as_json:
        both = {key: {"value": value, "origin": found.origins[key]} for key, value in values.items()}
        print_json(both if origin else values)
    else:
        print(to_toml(values, lambda key: printable(origins.get(key, ""))), end="")
