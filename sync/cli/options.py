"""Options that several commands have."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from sync.domain.errors import OperatorError
from sync.fleet.keys import KeyRing

F = TypeVar("F", bound=Callable[..., Any])

MAX_ROOT_BYTES = 512_000

store_option = click.option(
    "--store", required=True, envvar="EDGE_SYNC_STORE", show_envvar=True, help="A directory or a URL."
)
json_option = click.option("--json", is_flag=True, help="Print JSON.")
quiet_option = click.option("--quiet", is_flag=True, help="Show no progress.")
root_option = click.option(
    "--root", type=click.Path(path_type=Path), help="What devices are provisioned with: proves whose store it is."
)


def reading(command: F) -> F:
    """--token-file and --ca-file."""
    for option in (
        click.option("--ca-file", default="", help="Certificates that are trusted beside the system's."),
        click.option("--token-file", default="", help="Holds the bearer token that the store wants."),
    ):
        command = option(command)
    return command


def root_bytes(root: Path | None) -> bytes | None:
    """Raises OperatorError."""
    if root is None:
        return None
    try:
        data = root.read_bytes()
    except OSError as error:
        raise OperatorError(f"{root}: cannot be read: {error.strerror}") from None
    if len(data) > MAX_ROOT_BYTES:
        raise OperatorError(f"{root}: want at most {MAX_ROOT_BYTES} bytes, got {len(data)}")
    try:
        if json.loads(data)["signed"]["_type"] == "root":
            return data
    except (ValueError, LookupError, TypeError, RecursionError):
        pass
    raise OperatorError(f"{root}: want a root document, as `edge-sync keys init` makes it") from None


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
            show_envvar=True,
            help="Where the private keys are.",
        ),
        store_option,
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
