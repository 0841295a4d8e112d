"""A link without a broker: what is published, acked and subscribed is kept."""

from __future__ import annotations

from dataclasses import dataclass, field

from edge.mqtt.message import NO_PROPERTIES, Message, Properties


@dataclass(frozen=True)
class Published:
    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    properties: Properties = NO_PROPERTIES
    droppable: bool = False


@dataclass
class FakeLink:
    published: list[Published] = field(default_factory=list)
    acked: list[Message] = field(default_factory=list)
    subscribed: dict[str, dict[str, object]] = field(default_factory=dict)
    connected: bool = True

    def subscribe(
        self, filter: str, qos: int = 1, *, retain_handling: int = 0, retain_as_published: bool = False
    ) -> None:
        self.subscribed[filter] = {"retain_handling": retain_handling, "retain_as_published": retain_as_published}

    def publish(
        self,
        topic: str,
        payload: bytes | str,
        *,
        qos: int = 0,
        retain: bool = False,
        properties: Properties = NO_PROPERTIES,
        droppable: bool = False,
    ) -> bool:
        data = payload.encode() if isinstance(payload, str) else payload
        self.published.append(Published(topic, data, qos, retain, properties, droppable))
        return True

    def ack(self, message: Message) -> None:
        self.acked.append(message)
