"""A connection for somebody who waits for each step: tools that look at a broker and at who is behind it.

Rule 1: it lives once, and its end is told to whoever waits. Rule 2: what the broker says of a step is an answer, not a line
in the log: that it will not have a subscription, or that nobody is subscribed to what was published.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from edge.mqtt.connection import Connection
from edge.mqtt.grant import Grant
from edge.mqtt.message import NO_PROPERTIES, Message, Properties
from edge.mqtt.opening import open_connection
from edge.mqtt.outbox import Ack, Outgoing
from edge.mqtt.settings import LinkSettings
from edge.mqtt.subscriptions import Wish

if TYPE_CHECKING:
    from paho.mqtt.reasoncodes import ReasonCode

T = TypeVar("T")

NOBODY = "No matching subscribers"
NAGLE_S = 0.035
"""By which QoS 1 may be slower than QoS 0: a delayed acknowledgement takes 40 ms on Linux, and each side may wait for one."""
LEAVE_S = 1.0
MAX_WAITING = 10_000
"""Messages that came and were not asked for; of more, the oldest go."""


class NotAllowed(Exception):
    """The broker will not have it. The message is its reason."""


class _Connection(Connection):
    """Tells what the broker said of a publication also where it took it."""

    def _on_published(self, mid: int, reason: ReasonCode) -> None:
        said = str(reason)
        self._events.delivered(mid, said if reason.is_failure or said == NOBODY else "")


class Probe:
    """`messages` has what comes. Of the settings' protocols, `auto` is tried as 5 and then as 3.1.1."""

    def __init__(self, settings: LinkSettings) -> None:
        self._settings = replace(settings, session_expiry_s=0, will=None)
        self._asked: dict[int, asyncio.Future[list[str]]] = {}
        self._connection: Connection
        self._grant = Grant()
        self.messages: asyncio.Queue[Message] = asyncio.Queue()

    @property
    def protocol(self) -> str:
        """ "5" or "3.1.1"."""
        return self._connection.version

    async def open(self) -> None:
        """Raises OSError, ssl.SSLError, ValueError, Refused, Lost, TimeoutError."""
        _, self._grant = await open_connection(self._settings.protocol, self._made)

    async def subscribe(self, topic: str, qos: int = 1) -> None:
        """Raises NotAllowed, Lost, TimeoutError."""
        (refused,) = await self._answer(self._connection.subscribe({topic: Wish(qos)}))
        if refused:
            raise NotAllowed(refused)

    async def publish(self, topic: str, payload: bytes, qos: int, properties: Properties = NO_PROPERTIES) -> bool:
        """Whether somebody is subscribed: False only where the broker says so.

        With QoS 1 once the broker has it. Raises NotAllowed, Lost, ValueError, TimeoutError.
        """
        mid = self._connection.publish(Outgoing(topic, payload, qos, properties=properties), self._grant)
        if not mid:
            return True
        (said,) = await self._answer(mid)
        if said and said != NOBODY:
            raise NotAllowed(said)
        return not said

    async def next(self, timeout_s: float) -> Message:
        """The next message that comes. Raises TimeoutError, Lost."""
        if not self.messages.empty():
            return self.messages.get_nowait()
        return await self._until(self.messages.get(), timeout_s)

    async def close(self) -> None:
        await self._connection.leave(LEAVE_S)

    def _made(self, version: str) -> Connection:
        self._connection = _Connection(self._settings, version, self)
        return self._connection

    async def _answer(self, mid: int) -> list[str]:
        """What the broker says of a packet that was just sent: its answer is read by the loop, so not before this waits."""
        self._asked[mid] = asyncio.get_running_loop().create_future()
        try:
            return await self._until(self._asked[mid], self._settings.connect_s)
        finally:
            del self._asked[mid]

    async def _until(self, what: Awaitable[T], timeout_s: float) -> T:
        """What it gives, unless the connection ends first or it takes too long."""
        task = asyncio.ensure_future(what)
        try:
            ended: set[asyncio.Future[Any]] = {task, self._connection.ended}
            await asyncio.wait(ended, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            if self._connection.ended.done():
                raise self._connection.ended.result()
            raise TimeoutError(f"no answer within {timeout_s:g} s")
        finally:
            task.cancel()

    # What the connection tells.

    def came(self, message: Message, mid: int) -> None:
        if message.qos:
            self._connection.ack(Ack(mid, message.qos))
        if self.messages.qsize() >= MAX_WAITING:
            self.messages.get_nowait()
        self.messages.put_nowait(message)

    def delivered(self, mid: int, refused: str) -> None:
        self._settle(mid, [refused])

    def subscribed(self, mid: int, refused: list[str]) -> None:
        self._settle(mid, refused)

    def unsubscribed(self, mid: int) -> None:
        """Nothing is."""

    def writable(self) -> None:
        """Nothing waits for it."""

    def _settle(self, mid: int, refused: list[str]) -> None:
        future = self._asked.get(mid)
        if future is not None and not future.done():
            future.set_result(refused)
