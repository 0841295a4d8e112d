"""The exit codes, which scripts and unit files rely on."""

from __future__ import annotations

import click

OK = 0
FAILED = 1
USAGE = 2
NOT_FOUND = 3
UNREACHABLE = 4
NOT_VERIFIED = 5
INTERRUPTED = 130


class Failure(click.ClickException):
    """A message for standard error, and the code to leave with."""

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code


def leave(code: int) -> None:
    """End the command with `code`, saying nothing more."""
    raise click.exceptions.Exit(code)
