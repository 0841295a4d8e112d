"""What the server says unasked, for whoever listens: figures now and then, and results as they come.

Rule: all of it may be lost: QoS 0, never retained, and the first to go when the link has more to send than it can.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from edge.frontends.mqtt.answers import Answered, event_properties
from edge.frontends.mqtt.commands import Publisher
from edge.mqtt.message import Properties
from edge.mqtt.topics import Tree
from edge.wire.reply import JSON

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


class Events:
    """`P/events/{model}`: each good answer once more, with what is needed to read it."""

    def __init__(self, publisher: Publisher, tree: Tree) -> None:
        self._publisher, self._tree = publisher, tree

    def answered(self, answered: Answered) -> None:
        if answered.status == 200:
            properties = event_properties(answered, self._tree.node)
            topic = self._tree.events(answered.model)
            self._publisher.publish(topic, answered.payload, properties=properties, droppable=True)
