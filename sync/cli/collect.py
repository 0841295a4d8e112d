"""`edge-sync collect`: takes devices' reports by HTTP, from an MQTT broker, or both, and keeps them in a directory."""

from __future__ import annotations

import asyncio
import ipaddress
import json as json_format
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import click

from sync.agent.files import OsFiles
from sync.cli.broker import connection, own_name, speaks_mqtt, topics
from sync.cli.options import json_option
from sync.cli.output import warn
from sync.cli.root import wait
from sync.cli.units import duration, size
from sync.config import MqttSection
from sync.domain.digests import digest_of, hex_of
from sync.domain.errors import OperatorError
from sync.fleet.claim import claimed
from sync.fleet.collector import CollectLimits, Collector, serving
from sync.fleet.reports import ReportDirectory

DEFAULT = CollectLimits()
MAX_HEAD_BYTES = 4096
"""Of an MQTT packet, beside the report."""


class Address(NamedTuple):
    host: str
    port: int

    @property
    def local(self) -> bool:
        return self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback


def address(text: str) -> Address:
    """`127.0.0.1:8700`, `[::1]:8700`, `localhost:0`."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    try:
        if host != "localhost":
            ipaddress.ip_address(host)
        if not (colon and port.isascii() and port.isdecimal() and int(port) < 65536):
            raise ValueError
    except ValueError:
        raise click.BadParameter(f"want an address and a port as 127.0.0.1:8700 or [::]:8700, got {text!r}") from None
    return Address(host, int(port))


@click.command()
@click.option("--listen", type=address, help="ADDRESS:PORT; port 0 for a free one.")
@speaks_mqtt
@click.option("--dir", "directory", type=click.Path(path_type=Path, file_okay=False), required=True)
@click.option("--token-file", type=click.Path(path_type=Path), help="Holds the bearer token that devices must show.")
@click.option(
    "--max-report", type=size(least=1024, most=1 << 20), default="256KiB", show_default=True, help="Of one report."
)
@click.option("--max-devices", type=click.IntRange(min=1), default=DEFAULT.max_devices, show_default=True)
@click.option(
    "--new-devices",
    type=click.FloatRange(min=0, min_open=True),
    default=DEFAULT.new_per_s,
    show_default=True,
    help="So many that were never heard of may come in a second, for long.",
)
@click.option("--body-within", type=duration(least=1, most=300), default="10s", show_default=True)
@json_option
def collect(
    listen: Address | None,
    mqtt: MqttSection,
    directory: Path,
    token_file: Path | None,
    max_report: int,
    max_devices: int,
    new_devices: float,
    body_within: float,
    json: bool,
) -> None:
    """Take reports until SIGTERM. `edge-sync rollout status --reports DIR` counts from what is kept."""
    if listen is None and not mqtt.host:
        raise OperatorError("want --listen, --mqtt-host or both: where do reports come from?")
    if listen is not None and token_file is None and not listen.local:
        raise OperatorError(f"--listen {listen.host}: want --token-file for an address that others reach")
    token = _token(token_file) if token_file is not None else None
    limits = CollectLimits(
        max_report_bytes=max_report, body_s=body_within, max_devices=max_devices, new_per_s=new_devices
    )

    client = f"edge-sync-collect-{own_name()}-{hex_of(digest_of(bytes(directory.resolve())))[:8]}"

    async def work() -> None:
        reports = ReportDirectory(OsFiles(), directory)
        known = await asyncio.to_thread(lambda: set(reports.devices()))
        collector = Collector(reports, known=known, token=token, limits=limits)
        async with _listening(collector, listen, limits) as url, _bridged(collector, mqtt, client, limits) as topic:
            _say_where(url, topic, len(known), json=json)
            await _told_to_stop()

    with claimed(directory, "collector"):
        wait(work())
    warn("stopped")


@asynccontextmanager
async def _listening(collector: Collector, listen: Address | None, limits: CollectLimits) -> AsyncIterator[str]:
    """The URL; "" for none. Raises OperatorError."""
    if listen is None:
        yield ""
        return
    try:
        async with serving(collector, listen.host, listen.port, limits) as (host, port):
            yield f"http://{f'[{host}]' if ':' in host else host}:{port}/v1/reports"
    except OSError as error:
        raise OperatorError(f"--listen {listen.host}:{listen.port}: {error.strerror or error}") from None


@asynccontextmanager
async def _bridged(collector: Collector, mqtt: MqttSection, client: str, limits: CollectLimits) -> AsyncIterator[str]:
    """The topics that are listened to; "" for none. Raises OperatorError."""
    if not mqtt.host:
        yield ""
        return
    from sync.fleet.bridge import SESSION_S, Bridge

    most = limits.max_report_bytes + MAX_HEAD_BYTES
    settings = connection(mqtt, client, max_packet_bytes=most)
    tree = topics(mqtt)
    running = asyncio.ensure_future(
        Bridge(replace(settings, session_expiry_s=SESSION_S), tree.prefix, collector, limits).run()
    )
    try:
        yield f"{tree.root}/+/reported at {mqtt.host}"
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def _told_to_stop() -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()


def _say_where(url: str, topic: str, known: int, *, json: bool) -> None:
    if json:
        print(json_format.dumps({"url": url, "topic": topic, "devices": known}), flush=True)
    else:
        warn(f"taking reports at {' and '.join(filter(None, (url, topic)))}; {known} devices are known")


def _token(file: Path) -> str:
    try:
        token = file.read_text().strip()
    except (OSError, ValueError) as error:
        raise OperatorError(f"{file}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if not token:
        raise OperatorError(f"{file}: want a token in it, got nothing")
    return token
