"""A link that reaches nobody: it notes what is published and acked, in order."""

from __future__ import annotations

from edge.mqtt.link import Link
from edge.mqtt.message import NO_PROPERTIES, Message, Properties
from edge.mqtt.settings import LinkSettings


class FakeLink(Link):
    """`said` has ("publish", topic) and ("ack", payload)."""

    def __init__(self, version: str = "5") -> None:
        super().__init__(LinkSettings(host="nowhere", client_id="fake"), lambda message: None)
        self._version = version
        self.said: list[tuple[str, str]] = []
        self.published: list[tuple[str, bytes, int, Properties]] = []

    @property
    def protocol(self) -> str:
        return self._version

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
        self.said.append(("publish", topic))
        self.published.append((topic, payload.encode() if isinstance(payload, str) else payload, qos, properties))
        return True

    def ack(self, message: Message) -> None:
        self.said.append(("ack", message.payload.decode(errors="replace")))
