"""`edge doctor`: what a server needs of this device, and what to do where it is not there."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click

from edge.cli import exits
from edge.cli.options import PATH, as_json, print_json, printable, quiet


@click.command(
    short_help="Check all that a server needs of this device.",
    help="""\b
Examples:
  edge doctor                                   what `edge serve` would meet here
  edge doctor --config /etc/edge/edge.toml      with another file
  edge doctor --json                            for a program

Check all that a server needs of this device, and say what to do where it is not there. Changes nothing; leaves with 1
when something is wrong. `edge-sync agent doctor` is for updates.""",
)
@click.option("--config", "file", type=PATH, help="The file, if not the one that `edge serve` would read.")
@quiet
@as_json
def doctor(file: Path | None, quiet: bool, as_json: bool) -> None:
    from edge.cli.config import read
    from edge.config import ConfigError, Resolved
    from edge.doctor.examine import examine
    from edge.doctor.finding import Finding, Level
    from edge.doctor.machine import Machine

    resolved: Resolved | ConfigError
    try:
        resolved = read(file, {})
    except ConfigError as error:
        resolved = error
    findings: list[Finding] = []
    for each in examine(resolved, Machine()):
        findings.append(each)
        if not as_json and not (quiet and each.level is Level.OK):
            click.echo(printable(f"{each.level.value:5} {each.check:14} {each.text}"))
            if each.do:
                click.echo(printable(f"{'':20} → {each.do}"))
    counted = Counter(each.level for each in findings)
    if as_json:
        rows = [{"check": each.check, "level": each.level.value, "text": each.text, "do": each.do} for each in findings]
        counts = {level.value: counted[level] for level in Level}
        print_json({"well": not counted[Level.FAIL], **counts, "checks": rows})
    elif not quiet:
        click.echo(f"{counted[Level.OK]} well, {counted[Level.WARN]} to be seen to, {counted[Level.FAIL]} wrong")
    exits.leave(exits.FAILED if counted[Level.FAIL] else exits.OK)
