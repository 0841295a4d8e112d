"""Options that several commands share, and how they print."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import click

from edge.cli.ask import DEFAULT_URL, Server

Command = Callable[..., None]
PATH = click.Path(path_type=Path)

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def reaching(command: Command) -> Command:
    """Options that say which server is meant; the command gets it as `server`."""

    @functools.wraps(command)
    def with_server(
        *, url: str, uds: Path | None, token_file: Path | None, ca_file: Path | None, timeout_s: float, **rest: Any
    ) -> None:
        address = url if "://" in url else f"http://{url}"
        command(server=Server(address, uds, token_file, ca_file, timeout_s), **rest)

    options = (
        click.option("--url", envvar="EDGE_URL", default=DEFAULT_URL, show_default=True, help="The server's address."),
        click.option("--uds", type=PATH, help="The server's Unix socket, in place of its address."),
        click.option("--token-file", type=PATH, envvar="EDGE_TOKEN_FILE", help="A file with the token to show."),
        click.option("--ca-file", type=PATH, help="Certificates to trust, beside those of the system."),
        click.option(
            "--timeout", "timeout_s", type=click.FloatRange(min=0, min_open=True), default=30.0, show_default=True,
            help="Seconds to wait for the server.",
        ),
    )  # fmt: skip
    decorated: Command = with_server
    for option in reversed(options):
        decorated = option(decorated)
    return decorated


def print_json(value: object) -> None:
    click.echo(json.dumps(value, ensure_ascii=False, indent=2))


def print_table(rows: Iterable[Sequence[str]]) -> None:
    """Columns as wide as their widest cell; nothing after the last."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def printable(text: str) -> str:
    """A server's words with nothing in them that could steer a terminal."""
    return "".join(char if char.isprintable() else "�" for char in text)
