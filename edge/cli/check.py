"""`edge check`: would this model serve? The same trial that the server gives a new version."""

from __future__ import annotations

import json
from pathlib import Path

import click

from edge.cli import exits
from edge.cli.options import PATH, as_json, print_json, printable


@click.command(
    short_help="Try a model as the server would.",
    help="""\b
Examples:
  edge check mobilenet_v2.tflite     load it, run it, compare with its golden outputs
  edge check models/det/3 --json     one version, for a program

Try PATH, a model's file or a version's directory, as the server would. Leaves with 5 when it fails.""",
)
@click.argument("path", type=PATH)
@as_json
def check(path: Path, as_json: bool) -> None:
    if not path.exists():
        raise exits.Failure(f"{path}: no such file or directory", exits.NOT_FOUND)
    import msgspec

    from edge.check import check as try_out

    reports = try_out(path)
    plain = [msgspec.to_builtins(report, enc_hook=str) for report in reports]
    if as_json:
        print_json(plain)
    else:
        for report in plain:
            click.echo("\n".join(f"{key}: {_shown(value)}" for key, value in report.items()) + "\n")
    exits.leave(exits.OK if reports and all(report.ok for report in reports) else exits.NOT_VERIFIED)


def _shown(value: object) -> str:
    return printable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
