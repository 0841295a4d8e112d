"""`edge mqtt`: servers on a broker, seen from outside."""

from __future__ import annotations

import asyncio
import functools
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge.cli import exits
from edge.cli.config import FILE, settle
from edge.cli.options import PATH, as_json, print_json, printable, quiet

if TYPE_CHECKING:
    from edge.cli.mqtt_ping import Report
    from edge.cli.mqtt_watch import Change
    from edge.config.sections import Mqtt
    from edge.mqtt.settings import LinkSettings

Command = Callable[..., None]

FLAGS: tuple[tuple[str, str, Any, str], ...] = (
    ("--host", "mqtt.host", str, "The broker, if not that of the configuration."),
    ("--port", "mqtt.port", int, "Its port."),
    ("--prefix", "mqtt.prefix", str, "What the topics begin with."),
    ("--protocol", "mqtt.protocol", click.Choice(["auto", "5", "3.1.1"]), "The version of MQTT."),
    ("--username", "mqtt.username", str, "Whom to log in as."),
    ("--password-file", "mqtt.password_file", PATH, "A file with the password."),
    ("--ca-file", "mqtt.ca_file", PATH, "Certificates to trust; speaks TLS."),
)
TIMEOUT = click.option(
    "--timeout", "timeout_s", type=click.FloatRange(min=0, min_open=True), default=5.0, show_default=True,
    help="Seconds to wait for the broker, and for each answer.",
)  # fmt: skip


def _with_broker(command: Command) -> Command:
    """Options that say which broker is meant; the command gets the section of the configuration as `section`."""

    @functools.wraps(command)
    def with_broker(*, file: Path | None, **rest: Any) -> None:
        flags = {key: rest.pop(key.replace(".", "__")) for _, key, _, _ in FLAGS}
        given = {key: value for key, value in flags.items() if value is not None}
        if "mqtt.ca_file" in given:
            given["mqtt.tls"] = True
        section = settle(file, given).config.mqtt
        if section.host is None:
            raise click.UsageError("no broker: name one with --host, or set mqtt.host in the configuration")
        command(section=section, **rest)

    decorated: Command = with_broker
    for flag, key, kind, text in reversed(FLAGS):
        decorated = click.option(flag, key.replace(".", "__"), type=kind, help=text)(decorated)
    return FILE(decorated)


@click.group(
    short_help="Look at servers on an MQTT broker.",
    help="""\b
Examples:
  edge mqtt ping                     round trips to the node of this configuration
  edge mqtt ping cam1 --model det    to another one, with a run in it
  edge mqtt watch                    every node, its models, and what becomes of them

Look at servers on an MQTT broker.""",
)
def mqtt() -> None:
    pass


@mqtt.command(
    short_help="Measure round trips, and say what is in the way.",
    help="""Measure round trips to a server through the broker, with QoS 0 and 1, and say what is in the way. NODE is
mqtt.node unless it is given. Leaves with 4 where there is no broker, no server or no answer, with 1 where the broker
refuses something, with 3 where the server has no such model.""",
)
@click.argument("node", required=False)
@click.option("--model", default="", help="Ask this model with zeros, in place of one that there is not.")
@click.option(
    "--count", type=click.IntRange(1, 10_000), default=10, show_default=True, help="Round trips with each QoS."
)
@TIMEOUT
@quiet
@as_json
@_with_broker
def ping(section: Mqtt, node: str | None, model: str, count: int, timeout_s: float, quiet: bool, as_json: bool) -> None:
    from edge.cli.mqtt_ping import Trouble
    from edge.cli.mqtt_ping import ping as measure
    from edge.config.node import own_node_name
    from edge.domain.layout import is_model_name
    from edge.mqtt.topics import Tree

    try:
        tree = Tree(section.prefix, node or section.node or own_node_name())
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if model and not is_model_name(model):
        raise click.UsageError(f"--model: want the name of a model, got {model!r}")
    settings = _settings(section, "edge-ping", timeout_s)
    try:
        report = asyncio.run(measure(settings, tree, model, count, timeout_s))
    except Trouble as trouble:
        if as_json:
            print_json({"broker": f"{settings.host}:{settings.port}", "node": tree.node, "error": str(trouble)})
            exits.leave(trouble.code)
        raise exits.Failure(printable(str(trouble)), trouble.code) from None
    if as_json:
        print_json(report.plain())
    else:
        if not quiet:
            _say(report, tree.base)
        for hint in report.hints:
            click.echo(f"hint: {hint}")


def _say(report: Report, base: str) -> None:
    click.echo(f"broker {report.broker}, MQTT {report.protocol}")
    click.echo(f"{base} is {printable(report.status) or 'there, and says nothing of its status'}")
    for trips in report.trips:
        low, high = min(trips.times_ms), max(trips.times_ms)
        click.echo(
            f"QoS {trips.qos}: {trips.sent} round trips, {low:.2f} ms at least, {trips.median_ms:.2f} ms median, "
            f"{high:.2f} ms at most"
        )


@mqtt.command(help="Print what nodes say of themselves and their models, as it changes. NODE: only that one.")
@click.argument("node", required=False)
@click.option("--for", "for_s", type=click.FloatRange(min=0, min_open=True), help="Seconds; without it, until Ctrl-C.")
@TIMEOUT
@as_json
@_with_broker
def watch(section: Mqtt, node: str | None, for_s: float | None, timeout_s: float, as_json: bool) -> None:
    from edge.mqtt.events import Lost, Refused
    from edge.mqtt.probe import NotAllowed
    from edge.mqtt.topics import Tree

    try:
        Tree(section.prefix, node or "any")
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    settings = _settings(section, "edge-watch", timeout_s)
    where = f"{settings.host}:{settings.port}"
    try:
        asyncio.run(_watch(settings, section.prefix, node or "", for_s, as_json=as_json))
    except (Refused, NotAllowed) as refused:
        raise exits.Failure(f"{where}: {refused}") from None
    except TimeoutError:
        raise exits.Failure(f"{where}: no answer in time; is that an MQTT broker?", exits.UNREACHABLE) from None
    except (OSError, ValueError, Lost) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise exits.Failure(f"{where}: {reason}", exits.UNREACHABLE) from None


async def _watch(settings: LinkSettings, prefix: str, node: str, for_s: float | None, *, as_json: bool) -> None:
    from edge.cli.mqtt_watch import watch as follow
    from edge.mqtt.probe import Probe

    def tell(change: Change) -> None:
        click.echo(json.dumps(change.plain(), ensure_ascii=True) if as_json else printable(change.line()))

    probe = Probe(settings)
    await probe.open()
    try:
        await follow(probe, prefix, node, tell, for_s=for_s)
    finally:
        await probe.close()


def _settings(section: Mqtt, name: str, timeout_s: float) -> LinkSettings:
    """A client of one's own, whose name no other has. Raises UsageError."""
    from edge.frontends.mqtt.link_settings import link_settings

    try:
        settings = link_settings(section, f"{name}-{os.urandom(6).hex()}")
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    return replace(settings, connect_s=timeout_s)
