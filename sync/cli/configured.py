"""The options by which a command on a device is configured, and what they come to."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from sync.cli.output import warn
from sync.config import Config, Resolved, resolve

F = TypeVar("F", bound=Callable[..., Any])


def configured(command: F) -> F:
    """--config and --set."""
    for option in (
        click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Any key of the configuration."),
        click.option(
            "--config",
            type=click.Path(path_type=Path),
            envvar="EDGE_SYNC_CONFIG",
            show_envvar=True,
            help="A TOML file.",
        ),
    ):
        command = option(command)
    return command


def resolved(config: Path | None, settings: tuple[str, ...], watch_s: str | None = None) -> Resolved:
    """Raises OperatorError."""
    flags = {"update.watch_s": watch_s, **dict(each.partition("=")[::2] for each in settings)}
    return resolve(config, os.environ, flags)


def load(config: Path | None, settings: tuple[str, ...], watch_s: str | None = None) -> Config:
    """The configuration alone; what is doubtful is said on stderr. Raises OperatorError."""
    found = resolved(config, settings, watch_s)
    for each in found.warnings:
        warn(f"warning: {each}")
    return found.config
