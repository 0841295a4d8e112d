"""Home Assistant's discovery: this server as a device, with a sensor for each model.

Rule 1: one message says it all, retained, at `homeassistant/device/edge_{node}/config`; it is sent again when Home Assistant
comes up, after a random time, so that a fleet does not answer as one. Rule 2: a model that is gone is first named with
nothing but its platform, which takes its sensor away, and then not at all.
Source: https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from edge.frontends.mqtt.commands import Publisher
from edge.mqtt.message import Message
from edge.mqtt.topics import Tree

STATUS_TOPIC = "homeassistant/status"
COMING_UP = b"online"
SPREAD_S = 5.0
STATES = ("loading", "ready", "draining", "failed")


@dataclass(frozen=True, slots=True)
class Node:
    """`url`: where a browser finds the server's page; empty for none."""

    tree: Tree
    version: str
    url: str = ""

    @property
    def name(self) -> str:
        return self.tree.node

    @property
    def topic(self) -> str:
        return f"homeassistant/device/edge_{self.name}/config"


def discovery(node: Node, models: Sequence[str], gone: Collection[str] = ()) -> bytes:
    """The payload. `gone`: models whose sensors are to go."""
    device: dict[str, Any] = {
        "identifiers": [f"edge_{node.name}"],
        "name": f"Edge {node.name}",
        "manufacturer": "edge",
        "model": "Model server",
        "sw_version": node.version,
    }
    if node.url:
        device["configuration_url"] = node.url
    sensors = {_component(model): _sensor(node, model) for model in models}
    return msgspec.json.encode(
        {
            "device": device,
            "origin": {"name": "edge", "sw_version": node.version},
            "availability_topic": node.tree.status,
            "qos": 1,
            "components": {_component(model): {"platform": "sensor"} for model in gone} | sensors,
        }
    )


def _sensor(node: Node, model: str) -> dict[str, Any]:
    topic = node.tree.model(model)
    return {
        "platform": "sensor",
        "unique_id": f"edge_{node.name}_{_component(model)}",
        "name": model,
        "icon": "mdi:brain",
        "device_class": "enum",
        "options": list(STATES),
        "state_topic": topic,
        # The topic is emptied when the model goes, which is no JSON.
        "value_template": "{{ value_json.state if value_json is defined else none }}",
        "json_attributes_topic": topic,
        "json_attributes_template": "{{ value_json | default({}) | tojson }}",
    }


def _component(model: str) -> str:
    """One of its own for each model; Home Assistant takes letters, digits, `_` and `-`."""
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", model)
    return plain if plain == model else f"{plain}_{hashlib.sha256(model.encode()).hexdigest()[:8]}"


class HomeAssistant:
    """Tells it of the node. `spread_s`: seconds within which it is told again when it comes up."""

    def __init__(
        self, link: Publisher, node: Node, *, spread_s: float = SPREAD_S, chance: random.Random | None = None
    ) -> None:
        self._link, self._node, self._spread_s = link, node, spread_s
        self._chance = chance or random.Random()
        self._models: tuple[str, ...] | None = None
        self._again: asyncio.TimerHandle | None = None

    def models(self, names: Collection[str]) -> None:
        """What there is now; told when it is something else than before."""
        now = tuple(sorted(names))
        before, self._models = self._models, now
        if now == before:
            return
        if gone := [name for name in before or () if name not in now]:
            self._publish(discovery(self._node, now, gone))
        self.tell()

    def tell(self) -> None:
        """Again, as on every new connection. Nothing before `models` was called."""
        if self._models is not None:
            self._publish(discovery(self._node, self._models))

    def handle(self, message: Message) -> None:
        """A message of STATUS_TOPIC."""
        self._link.ack(message)
        if message.payload == COMING_UP and self._again is None:
            wait = self._chance.uniform(0.0, self._spread_s)
            self._again = asyncio.get_running_loop().call_later(wait, self._tell_again)

    def close(self) -> None:
        if self._again is not None:
            self._again.cancel()

    def _tell_again(self) -> None:
        self._again = None
        self.tell()

    def _publish(self, payload: bytes) -> None:
        self._link.publish(self._node.topic, payload, qos=1, retain=True)
