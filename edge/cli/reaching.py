"""The options of commands that ask a running server. `edge serve` does without what an HTTP client takes to import."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from edge.cli.ask import DEFAULT_URL, Server
from edge.cli.options import PATH

Command = Callable[..., None]


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
