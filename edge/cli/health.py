"""`edge health`: for containers and scripts."""

from __future__ import annotations

import click

from edge.cli import exits
from edge.cli.ask import Answer, Server
from edge.cli.options import as_json, print_json, printable, quiet
from edge.cli.reaching import reaching


@click.command(
    short_help="Ask a server how it is.",
    help="""\b
Examples:
  edge health                        0 when every model answers, 1 when not, 4 without a server
  edge health --live --quiet         0 as soon as the server runs

Ask a server how it is.""",
)
@click.option("--live", is_flag=True, help="Ask only whether the server runs.")
@quiet
@as_json
@reaching
def health(server: Server, live: bool, quiet: bool, as_json: bool) -> None:
    what = "live" if live else "ready"
    answer = server.ask("GET", f"/v2/health/{what}")
    if as_json:
        print_json({what: answer.ok})
    elif not quiet:
        click.echo(what if answer.ok else f"not {what}: {_why(server, answer)}".rstrip(": "))
    exits.leave(exits.OK if answer.ok else exits.FAILED)


def _why(server: Server, answer: Answer) -> str:
    """The models that do not answer, with the server's reasons; its own words where it tells none."""
    try:
        index = server.post_json("/v2/repository/index").or_fail().json()
        rows = [(str(row["name"]), str(row["state"]), str(row.get("reason", ""))) for row in index]
    except (exits.Failure, KeyError, TypeError, AttributeError):
        return f"{answer.status} {answer.error()}"
    serving = {name for name, state, _ in rows if state == "READY"}
    down = {name: reason or state.lower() for name, state, reason in rows if name not in serving}
    return "; ".join(printable(f"{name} ({reason})") for name, reason in down.items())
