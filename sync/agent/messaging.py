"""What the agent has of MQTT, put together: the connection, the commands, the progress of updates."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edge.mqtt.settings import LinkSettings, port_of
from edge.mqtt.topics import EVERYONE, Tree
from sync.agent.asked import Asked
from sync.agent.broker import MAX_PACKET_BYTES, Broker
from sync.agent.limits import nudge_limits
from sync.agent.orders import Device, Orders
from sync.agent.places import Places
from sync.agent.progress import tell_progress
from sync.config import Config, MqttSection
from sync.domain.errors import OperatorError
from sync.domain.journal import Journal
from sync.domain.ports import Clock, Files

MAX_QUEUED = 64
"""Messages that wait to be sent: the latest report, and answers."""
MAX_QUEUED_BYTES = 4 << 20


class Messaging:
    """Raises OperatorError for a configuration that no connection can be made of."""

    def __init__(
        self,
        config: Config,
        files: Files,
        places: Places,
        clock: Clock,
        journal: Callable[[], Journal],
        asked: Asked,
    ) -> None:
        told, device = config.mqtt, config.device
        self._told, self._asked, self._clock, self._limits = told, asked, clock, nudge_limits(config)
        self._files, self._places, self._journal = files, places, journal
        self._orders: Orders | None = None
        self.broker = Broker(
            settings_of(told, f"edge-sync-{device.id}"),
            tree_of(told, device.id),
            (EVERYONE, device.group, *told.groups),
            asked,
            clock,
            listens=told.commands != "off",
            reply_allow=told.reply_allow,
            deliver_s=config.report.timeout_s,
        )

    def start(self, device: Device) -> None:
        """device: who obeys."""
        self._orders = Orders(device, self._asked, self._clock, commands=self._told.commands, limits=self._limits)
        self.broker.start(self._orders, tell_progress(self._files, self._places, self._journal, self.broker))

    async def close(self) -> None:
        if self._orders is not None:
            await self._orders.close()
        await self.broker.close()


def tree_of(told: MqttSection, device: str) -> Tree:
    """Raises OperatorError."""
    try:
        return Tree(told.prefix, device)
    except ValueError as error:
        raise OperatorError(
            f"mqtt: device.id {device!r} and mqtt.prefix {told.prefix!r} make topics: {error}"
        ) from None


def settings_of(told: MqttSection, client_id: str, *, max_packet_bytes: int = MAX_PACKET_BYTES) -> LinkSettings:
    """Raises OperatorError."""

    def file(name: str) -> Path | None:
        return Path(name) if name else None

    tls = told.tls or bool(told.ca_file or told.cert_file)
    try:
        return LinkSettings(
            host=told.host,
            port=port_of(told.port, tls=tls),
            client_id=client_id,
            protocol=told.protocol,
            username=told.username,
            password_file=file(told.password_file),
            tls=tls,
            ca_file=file(told.ca_file),
            cert_file=file(told.cert_file),
            key_file=file(told.key_file),
            max_packet_bytes=max_packet_bytes,
            max_queued=MAX_QUEUED,
            max_queued_bytes=MAX_QUEUED_BYTES,
        )
    except ValueError as error:
        raise OperatorError(f"mqtt: {error}") from None
