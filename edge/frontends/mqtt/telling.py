"""What the server says unasked, for whoever listens: figures now and then, and results as they come.

Rule: all of it may be lost: QoS 0, never retained, and the first to go when the link has more to send than it can.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import Protocol

from edge.frontends.mqtt.commands import Publisher
from edge.mqtt.message import Properties
from edge.mqtt.topics import Tree
from edge.wire.reply import JSON

HEADER_LENGTH = "inference-header-content-length"
STATS = Properties(content_type=JSON, text=True)


async def tell_stats(
    publisher: Publisher, topic: str, body: Callable[[], bytes], *, every_s: float, wanted: Callable[[], bool]
) -> None:
    """Until cancelled: `body` each `every_s` seconds, the first time at random within them, as long as `wanted` says so."""
    await asyncio.sleep(random.uniform(0.0, every_s))
    while True:
        if wanted():
            publisher.publish(topic, body(), properties=STATS, droppable=True)
        await asyncio.sleep(every_s)


class Told(Protocol):
    """An answer: edge.frontends.mqtt.inference.Answered."""

    @property
    def model(self) -> str: ...
    @property
    def version(self) -> int | None: ...
    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def payload(self) -> bytes: ...


class Events:
    """`P/events/{model}`: each good answer once more, with what is needed to read it."""

    def __init__(self, publisher: Publisher, tree: Tree) -> None:
        self._publisher, self._tree = publisher, tree

    def answered(self, told: Told) -> None:
        if told.status != 200:
            return
        user = [("model", told.model), ("version", str(told.version)), ("node", self._tree.node)]
        content_type = told.headers.get("Content-Type", JSON)
        user += [(name.lower(), value) for name, value in told.headers.items() if name.lower() == HEADER_LENGTH]
        properties = Properties(content_type=content_type, user=tuple(user), text=content_type == JSON)
        self._publisher.publish(self._tree.events(told.model), told.payload, properties=properties, droppable=True)
