"""The options by which a command on a device is configured, and what they come to.

Rule 1: one file is read, never two: `--config`, else `$EDGE_SYNC_CONFIG`, else the user's, else the system's. Rule 2: where
nobody has configured anything, nothing is told of a device: it would look as if it were empty.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from sync.cli.output import warn
from sync.config import Config, Resolved, resolve
from sync.domain.errors import OperatorError

F = TypeVar("F", bound=Callable[..., Any])
SYSTEM_CONFIG = Path("/etc/edge/edge-sync.toml")


def configured(command: F) -> F:
    """--config and --set."""
    for option in (
        click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Any key of the configuration."),
        click.option(
            "--config",
            type=click.Path(path_type=Path),
            envvar="EDGE_SYNC_CONFIG",
            show_envvar=True,
            help=f"A TOML file; without it ~/.config/edge/edge-sync.toml, else {SYSTEM_CONFIG}.",
        ),
    ):
        command = option(command)
    return command


def places(env: Mapping[str, str]) -> list[Path]:
    """Where a file is looked for that nobody has named (XDG Base Directory Specification)."""
    home = env.get("XDG_CONFIG_HOME") or (os.path.join(env["HOME"], ".config") if env.get("HOME") else "")
    return [Path(home, "edge/edge-sync.toml"), SYSTEM_CONFIG] if home else [SYSTEM_CONFIG]


def resolved(config: Path | None, settings: tuple[str, ...], watch_s: str | None = None) -> tuple[Resolved, str]:
    """And where a file was looked for, if nobody has configured anything; else "". Raises OperatorError."""
    searched = places(os.environ)
    file = config or next((each for each in searched if each.is_file()), None)
    flags = {"update.watch_s": watch_s, **dict(each.partition("=")[::2] for each in settings)}
    found = resolve(file, os.environ, flags)
    if file is not None or any(origin != "default" for origin in found.origins.values()):
        return found, ""
    return found, f"none was found: want --config, $EDGE_SYNC_CONFIG, {' or '.join(map(str, searched))}"


def load(config: Path | None, settings: tuple[str, ...], watch_s: str | None = None) -> Config:
    """The configuration alone; what is doubtful is said on stderr. Raises OperatorError, also where there is none."""
    found, nowhere = resolved(config, settings, watch_s)
    if nowhere:
        raise OperatorError(f"configuration: {nowhere}")
    for each in found.warnings:
        warn(f"warning: {each}")
    return found.config
