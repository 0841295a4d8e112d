"""Options that several commands share, and how they print."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import click

PATH = click.Path(path_type=Path)

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
quiet = click.option("--quiet", "-q", is_flag=True, help="Say nothing where all is well; the exit code says it.")


_NOT_ASCII = re.compile(r"[^\n\x20-\x7e]")


def print_json(value: object) -> None:
    """What could steer a terminal is escaped, as JSON has it."""
    click.echo(_NOT_ASCII.sub(_escaped, json.dumps(value, ensure_ascii=False, indent=2)))


def _escaped(found: re.Match[str]) -> str:
    return found[0] if found[0].isprintable() else json.dumps(found[0])[1:-1]


def print_table(rows: Iterable[Sequence[str]]) -> None:
    """Columns as wide as their widest cell; nothing after the last."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def printable(text: str) -> str:
    """A server's words with nothing in them that could steer a terminal."""
    return "".join(char if char.isprintable() else "�" for char in text)
