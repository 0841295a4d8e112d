"""Links without a broker: what is published, acked and subscribed is kept."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from edge.mqtt.link import Link
from edge.mqtt.message import NO_PROPERTIES, Message, Properties
from edge.mqtt.settings import LinkSettings


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
        answers: Message | None = None,
    ) -> bool:
        data = payload.encode() if isinstance(payload, str) else payload
        self.published.append(Published(topic, data, qos, retain, properties, droppable))
        if answers is not None:
            self.ack(answers)
        return True

    def ack(self, message: Message) -> None:
        self.acked.append(message)


class NotingLink(Link):
    """`said` has ("publish", topic) and ("ack", payload). It takes nothing while `open` is not set."""

    def __init__(self, version: str = "5") -> None:
        super().__init__(LinkSettings(host="nowhere", client_id="fake"), lambda message: None)
        self._version = version
        self.said: list[tuple[str, str]] = []
        self.published: list[tuple[str, bytes, int, Properties]] = []
        self._acked: list[Message] = []
        self.open = asyncio.Event()
        self.open.set()

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
        answers: Message | None = None,
    ) -> bool:
        if not self.open.is_set():
            return False
        self.said.append(("publish", topic))
        self.published.append((topic, payload.encode() if isinstance(payload, str) else payload, qos, properties))
        if answers is not None:
            self.ack(answers)
        return True

    async def room(self) -> None:
        await self.open.wait()

    def ack(self, message: Message) -> None:
        if not any(message is one for one in self._acked):  # more than one does no harm
            self._acked.append(message)
            self.said.append(("ack", message.payload.decode(errors="replace")))
