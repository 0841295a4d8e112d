"""The options of commands that speak MQTT: one for each key of the agent's [mqtt] that makes a connection."""

from __future__ import annotations

import functools
import socket
from collections.abc import Callable
from typing import Any, TypeVar

import click
import msgspec

from edge.mqtt.settings import LinkSettings
from edge.mqtt.topics import Tree
from sync.agent.messaging import settings_of
from sync.config import MqttSection
from sync.domain.errors import OperatorError

F = TypeVar("F", bound=Callable[..., Any])

OPTIONS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("host", {"help": "The broker's."}),
    ("port", {"type": click.IntRange(0, 65535), "help": "1883, or 8883 with TLS, where it is not given."}),
    ("prefix", {"help": "What topics begin with.", "show_default": True}),
    ("protocol", {"type": click.Choice(["auto", "5", "3.1.1"]), "show_default": True}),
    ("username", {}),
    ("password-file", {"help": "Holds the password."}),
    ("tls", {"is_flag": True}),
    ("ca-file", {"help": "Certificates that are trusted."}),
    ("cert-file", {"help": "One's own."}),
    ("key-file", {"help": "Of --mqtt-cert-file."}),
)


def speaks_mqtt(command: F) -> F:
    """--mqtt-host and so on, each also a variable, EDGE_SYNC_MQTT_HOST; the command is given them as `mqtt`."""
    defaults = msgspec.to_builtins(MqttSection())

    @functools.wraps(command)
    def gathered(**given: Any) -> Any:
        keys = {key.removeprefix("mqtt_"): given.pop(key) for key in tuple(given) if key.startswith("mqtt_")}
        return command(mqtt=MqttSection(**keys), **given)

    for name, more in reversed(OPTIONS):
        key = name.replace("-", "_")
        option = click.option(
            f"--mqtt-{name}", default=defaults[key], envvar=f"EDGE_SYNC_MQTT_{key.upper()}", show_envvar=True, **more
        )
        gathered = option(gathered)
    return gathered  # type: ignore[return-value]


def connection(mqtt: MqttSection, client_id: str, *, max_packet_bytes: int) -> LinkSettings:
    """Raises OperatorError."""
    if not mqtt.host:
        raise OperatorError("--mqtt-host: want the broker's host, got nothing")
    return settings_of(mqtt, client_id, max_packet_bytes=max_packet_bytes)


def topics(mqtt: MqttSection, device: str = "none") -> Tree:
    """Raises OperatorError."""
    try:
        return Tree(mqtt.prefix, device)
    except ValueError as error:
        raise OperatorError(f"--mqtt-prefix, --device: {error}") from None


def own_name() -> str:
    """This host's, for a client's id."""
    return "".join(char for char in socket.gethostname().lower() if char.isalnum() or char == "-")[:40] or "host"
