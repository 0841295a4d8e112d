"""`edge models`: what a server serves, and loading and unloading by hand."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import click
from click.core import ParameterSource

from edge.cli import exits
from edge.cli.ask import Server
from edge.cli.completion import model_names
from edge.cli.options import as_json, print_json, print_table, printable, quiet
from edge.cli.reaching import reaching


@click.group(
    invoke_without_command=True,
    short_help="See and change what a server serves.",
    help="""\b
Examples:
  edge models                        every model and version, and its state
  edge models show detector          its inputs, outputs and versions
  edge models unload detector        stop serving it (needs http.model_control)

See and change what a server serves. Without a command: ls.""",
)
@as_json
@reaching
@click.pass_context
def models(ctx: click.Context, server: Server, as_json: bool) -> None:
    if ctx.invoked_subcommand is None:
        _list(server, as_json=as_json)
    elif any(ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE for name in ctx.params):
        raise click.UsageError(f"put the options behind {ctx.invoked_subcommand!r}: before it they would not count")


@models.command(help="Every model and version, and its state.")
@as_json
@reaching
def ls(server: Server, as_json: bool) -> None:
    _list(server, as_json=as_json)


def _list(server: Server, *, as_json: bool) -> None:
    index = server.post_json("/v2/repository/index").or_fail().json()
    if as_json:
        print_json(index)
    elif not index:
        click.echo("no models", err=True)
    else:
        rows = [[printable(str(row.get(key, ""))) for key in ("name", "version", "state", "reason")] for row in index]
        print_table([["NAME", "VERSION", "STATE", "REASON"], *rows])


@models.command(help="One model's inputs, outputs and versions.")
@click.argument("name", shell_complete=model_names)
@as_json
@reaching
def show(server: Server, name: str, as_json: bool) -> None:
    quoted = quote(name, safe="")
    status = server.ask("GET", f"/v1/models/{quoted}").or_fail().json()
    metadata = server.ask("GET", f"/v2/models/{quoted}")
    known: dict[str, Any] = metadata.json() if metadata.ok else {}
    if as_json:
        print_json({"metadata": known or None, **status})
        return
    rows = [[name, printable(str(known.get("platform", ""))), ""]]
    for kind in ("inputs", "outputs"):
        rows += [[f"  {kind[:-1]}", printable(tensor["name"]), _shape(tensor)] for tensor in known.get(kind, ())]
    for version in status.get("model_version_status", ()):
        state = version.get("state", "")
        reason = version.get("status", {}).get("error_message", "")
        rows.append([f"  version {version.get('version', '')}", state, printable(reason)])
    print_table([*rows, *_routing(known)])


def _routing(known: dict[str, Any]) -> list[list[str]]:
    """Where requests go that name no version, if that is configured."""
    routing = known.get("parameters", {}).get("routing", {})
    sides = [("weight", name, side, side.get("weight", 0)) for name, side in routing.get("weights", {}).items()]
    if shadow := routing.get("shadow"):
        sides.append(("shadow", shadow.get("name", ""), shadow, shadow.get("share", 0)))
    return [
        [
            printable(f"  {kind} {name}"),
            f"{share:g}",
            printable(f"version {side.get('version') or '?'}" + ("" if side.get("ready") else ": not ready")),
        ]
        for kind, name, side, share in sides
    ]


def _shape(tensor: dict[str, Any]) -> str:
    sizes = ",".join("?" if size == -1 else str(size) for size in tensor.get("shape", ()))
    return printable(f"{tensor.get('datatype', '')} [{sizes}]")


@models.command(help="Load a model, or load it again.")
@click.argument("name", shell_complete=model_names)
@quiet
@reaching
def load(server: Server, name: str, quiet: bool) -> None:
    _control(server, name, "load", quiet=quiet)


@models.command(help="Stop serving a model until it is loaded again.")
@click.argument("name", shell_complete=model_names)
@quiet
@reaching
def unload(server: Server, name: str, quiet: bool) -> None:
    _control(server, name, "unload", quiet=quiet)


def _control(server: Server, name: str, verb: str, *, quiet: bool) -> None:
    answer = server.post_json(f"/v2/repository/models/{quote(name, safe='')}/{verb}")
    if answer.status == 403:
        hint = "; `edge serve --model-control` allows it"
        raise exits.Failure(f"{answer.where}: {answer.error()}{hint}")
    answer.or_fail()
    if not quiet:
        click.echo(f"{name}: {verb}ed", err=True)
