"""`edge-sync rollout nudge`: devices are told that there is something new, and look at once."""

from __future__ import annotations

import secrets

import click

from edge.mqtt.topics import EVERYONE
from sync.cli.broker import connection, speaks_mqtt, topics
from sync.cli.options import json_option, reading, store_option
from sync.cli.output import print_json, quietly, say, warn
from sync.cli.root import wait
from sync.cli.standing import listed
from sync.cli.units import duration
from sync.config import MqttSection
from sync.domain.errors import OperatorError, SyncError
from sync.domain.layout import TIMESTAMP, groups_of, rollout_name
from sync.domain.nudge import Nudge, encode_nudge, nudge_of
from sync.domain.ports import ReadStore
from sync.domain.rollout import is_group
from sync.fleet.say import say as say_to_broker
from sync.fleet.sign.state import load_state
from sync.stores.catalog import open_store

MAX_TIMESTAMP_BYTES = 16_384
MAX_PACKET_BYTES = 16 << 10


@click.command()
@store_option
@reading
@speaks_mqtt
@click.option("--group", default="default", show_default=True, help="The devices'; `all` for every group's.")
@click.option("--device", default="", help="One device alone.")
@click.option("--within", type=duration(least=1, most=300), default="10s", show_default=True)
@json_option
@quietly
def nudge(
    store: str,
    token_file: str,
    ca_file: str,
    mqtt: MqttSection,
    group: str,
    device: str,
    within: float,
    json: bool,
) -> None:
    """Tell devices by MQTT that the store has something new. The broker keeps it for those that are away.

    Wants no keys: what devices take is what the store's signatures say.
    """
    if not is_group(group):
        raise OperatorError(f"--group: want letters, digits, '_' and '-', got {group!r}")
    tree = topics(mqtt, device or "none")
    topic = tree.desired if device else tree.fleet_desired(group)
    settings = connection(mqtt, f"edge-sync-nudge-{secrets.token_hex(6)}", max_packet_bytes=MAX_PACKET_BYTES)

    async def work() -> Nudge:
        opened = open_store(store, token_file=token_file, ca_file=ca_file)
        try:
            data = await opened.get(TIMESTAMP, max_bytes=MAX_TIMESTAMP_BYTES)
            told = nudge_of(data)
            if not device and group != EVERYONE and (idle := await _without_rollout(opened, data, group)):
                warn(f"warning: {idle}")
        finally:
            await opened.close()
        await say_to_broker(settings, topic, encode_nudge(told), within_s=within)
        return told

    told = wait(work())
    if json:
        print_json({"topic": topic, "generation": told.generation, "digest": told.digest})
    else:
        say(f"{topic}: there is generation {told.generation}")


async def _without_rollout(store: ReadStore, timestamp: bytes, group: str) -> str:
    """That nothing awaits the devices of this group, "" where there is something, or the store does not show it. The store's own root
    is believed: a warning is all that comes of it."""
    try:
        state = await load_state(store, timestamp, None)
        wanted = rollout_name(group)
        if wanted in (await state.load(state.holder("rollouts", wanted))).targets:
            return ""
        holders = await state.whole("rollouts")
        groups = groups_of([name for holder in holders for name in (await state.load(holder)).targets])
    except (SyncError, LookupError):
        return ""
    there = f"; there are those of {listed(groups)}: want --group" if groups else ""
    return f"{group}: nobody has written a rollout for this group{there}"
