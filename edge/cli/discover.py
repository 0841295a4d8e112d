"""`edge discover`: the servers of the local network, and how they are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge.cli import exits
from edge.cli.options import PATH, as_json, print_json, print_table, printable

if TYPE_CHECKING:
    from edge.client import Node


@click.command(
    short_help="Find servers on the local network.",
    help="""\b
Examples:
  edge discover                         every server, its address and how it is
  edge discover --model detector        those that have the model ready
  edge discover --timeout 10 --json     look longer, and say it to programs

Find servers on the local network, by DNS-SD. Leaves with 3 when no server has the model, 4 when none answers.""",
)
@click.option("--model", metavar="NAME", help="Only servers that have this model ready.")
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(0.1, 300), default=3.0, show_default=True, help="Seconds to look."
)
@click.option("--interface", "interfaces", multiple=True, metavar="NAME", help="Look here only; a name or an address.")
@click.option("--ipv6", is_flag=True, help="Look for addresses of IPv6, too.")
@click.option("--token-file", type=PATH, envvar="EDGE_TOKEN_FILE", help="A token for servers with TLS.")
@click.option("--ca-file", type=PATH, help="Certificates to trust, beside those of the system.")
@as_json
def discover(
    model: str | None,
    timeout_s: float,
    interfaces: tuple[str, ...],
    ipv6: bool,
    token_file: Path | None,
    ca_file: Path | None,
    as_json: bool,
) -> None:
    from edge.cli.ask import read_token
    from edge.client import Unreachable, discover_all

    token = read_token(token_file) if token_file is not None else None
    if ca_file is not None and not ca_file.is_file():
        raise click.UsageError(f"--ca-file {ca_file}: want a file")
    try:
        found = discover_all(timeout_s, interfaces=interfaces, ipv6=ipv6, token=token, ca_file=ca_file)
    except Unreachable as error:
        raise exits.Failure(str(error), exits.UNREACHABLE) from None
    shown = [node for node in found if model is None or node.has(model)]
    if as_json:
        print_json([_plain(node) for node in shown])
    elif shown:
        print_table([["NODE", "URL", "VERSION", "STATE", "DEVICES", "MODELS"], *map(_row, shown)])
    if not any(node.url for node in found):
        raise exits.Failure(f"no server was found within {timeout_s:g} s", exits.UNREACHABLE)
    if not shown:
        who = "the one server found does not have" if len(found) == 1 else f"none of the {len(found)} servers found has"
        raise exits.Failure(f"{who} the model {model}", exits.NOT_FOUND)


def _row(node: Node) -> list[str]:
    state = "ready" if node.ready else "not ready" if node.url else "unreachable"
    models = ", ".join(node.models) if node.models is not None else node.problem
    cells = [node.name, node.url or _where(node), node.advert.release, state, ", ".join(node.advert.devices), models]
    return [printable(cell) or "-" for cell in cells]


def _where(node: Node) -> str:
    return f"{node.addresses[0]} port {node.port}"


def _plain(node: Node) -> dict[str, Any]:
    advert = node.advert
    return {
        "name": node.name,
        "id": node.id,
        "url": node.url or None,
        "addresses": list(node.addresses),
        "port": node.port,
        "version": advert.release,
        "ready": node.ready,
        "models": None if node.models is None else list(node.models),
        "problem": node.problem or None,
        "tls": node.tls,
        "auth": advert.auth,
        "devices": list(advert.devices),
        "mhash": advert.models_hash,
        "mqtt": advert.mqtt or None,
    }
