"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from sync.domain.errors import OperatorError
from sync.fleet.keys import KeyRing

F = TypeVar("F", bound=Callable[..., Any])


def operator(command: F) -> F:
    """--store, --keys and --passphrase-file."""
    for option in (
        click.option("--passphrase-file", type=click.Path(path_type=Path), help="Of the private keys."),
        click.option(
            "--keys",
            "keys_dir",
            type=click.Path(path_type=Path),
            required=True,
            envvar="EDGE_SYNC_KEYS",
            help="Where the private keys are.",
        ),
        click.option("--store", required=True, envvar="EDGE_SYNC_STORE", help="A directory or a URL."),
    ):
        command = option(command)
    return command


def ring(keys_dir: Path, passphrase_file: Path | None) -> KeyRing:
    """Raises OperatorError."""
    if passphrase_file is None:
        return KeyRing(keys_dir)
    try:
        return KeyRing(keys_dir, passphrase_file.read_bytes().rstrip(b"\r\n"))
    except OSError as error:
        raise OperatorError(f"{passphrase_file}: cannot be read: {error.strerror}") from None
