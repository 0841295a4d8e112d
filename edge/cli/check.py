"""`edge check`: would this model serve? The same trial that the server gives a new version."""

from __future__ import annotations

import json
from pathlib import Path

import click

from edge.cli import exits
from edge.cli.options import PATH, as_json, print_json, printable, quiet


@click.command(
    short_help="Try a model as the server would.",
    help="""\b
Examples:
  edge check mobilenet_v2.tflite     load it, run it, compare with its golden outputs
  edge check models/det/3 --json     one version, for a program
  edge check big/1 --timeout 600     one that takes its time to load

Try PATH, a model's file or a version's directory, as the server would. Leaves with 5 when it fails.""",
)
@click.argument("path", type=PATH)
@click.option(
    "--timeout", type=click.FloatRange(min=1), help="Seconds for each version.  [default: 60; 240 for SavedModels]"
)
@quiet
@as_json
def check(path: Path, timeout: float | None, quiet: bool, as_json: bool) -> None:
    if not path.exists():
        raise exits.Failure(f"{path}: no such file or directory", exits.NOT_FOUND)
    from edge.check import check as try_out
    from edge.domain.errors import LoadError

    try:
        report = try_out(path, timeout_s=timeout)
    except LoadError as error:
        raise exits.Failure(str(error), exits.NOT_FOUND) from error
    if as_json:
        print_json(json.loads(report.to_json()))
    elif not (quiet and report.ok):
        click.echo("\n".join(printable(line) for line in report.to_text().splitlines()))
    exits.leave(exits.OK if report.ok else exits.NOT_VERIFIED)
