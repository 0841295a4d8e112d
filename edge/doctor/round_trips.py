"""Round trips through a broker: one connection asks, a second one answers, with both qualities of service.

Two, as the delay that is looked for is in the answer: the broker's acknowledgement of the question goes to the asker first, who
has nothing to send and so delays the network's own, for which the answer then waits (Nagle's algorithm).
Rule 1: client ids are this process's own: with the server's, the broker would throw the server out. Rule 2: nothing is
retained, no session is left behind, and all of it is over within WITHIN_S.
"""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from edge.mqtt.connection import Connection, Lost, Refused
from edge.mqtt.message import Message
from edge.mqtt.outbox import Ack, Outgoing
from edge.mqtt.settings import LinkSettings
from edge.mqtt.subscriptions import Wish

T = TypeVar("T")

WITHIN_S = 10.0
STEP_S = 1.5
"""For one round trip."""
ROUNDS = 10
"""Of each; a connection's first segments are acknowledged at once, so the later half is what counts."""


class NotAllowed(Exception):
    """The broker took the connection, and will not have the subscription. The message is its reason."""


@dataclass(slots=True)
class Trips:
    """Times in seconds: until the broker took the connection, and of each round trip by its QoS. `kept`: why there are none."""

    protocol: str = ""
    connect_s: float = 0.0
    times_s: dict[int, list[float]] = field(default_factory=dict)
    kept: str = ""

    def median_s(self, qos: int) -> float:
        late = sorted(self.times_s[qos][len(self.times_s[qos]) // 2 :])
        return late[len(late) // 2]


def measure(settings: LinkSettings, topic: str) -> Trips:
    """Blocks. Raises OSError, ValueError, Refused, Lost, TimeoutError."""

    async def bounded() -> Trips:
        async with asyncio.timeout(WITHIN_S):
            return await _measure(settings, topic)

    return asyncio.run(bounded())


def own_client_id() -> str:
    return f"edge-doctor-{os.getpid()}"


async def _measure(settings: LinkSettings, topic: str) -> Trips:
    trips = Trips()
    began = time.perf_counter()
    asker = _Session(settings)
    await asker.open()
    trips.connect_s, trips.protocol = time.perf_counter() - began, asker.connection.version
    echo = _Session(replace(settings, client_id=f"{settings.client_id}-echo"), f"{topic}/answer")
    try:
        await echo.open()
        await echo.subscribe(f"{topic}/ask")
        await asker.subscribe(f"{topic}/answer")
        for qos in (1, 0):
            trips.times_s[qos] = [await asker.trip(f"{topic}/ask", qos) for _ in range(ROUNDS)]
    except NotAllowed as why:
        trips.kept = f"may not subscribe to {topic}: {why}"
    except TimeoutError:
        trips.kept = f"what was published to {topic}/ask was not answered"
    finally:
        await echo.close()
        await asker.close()
    return trips


class _Session:
    """What the connection tells goes to whoever waits for it; or, with `echo`, to that topic."""

    def __init__(self, settings: LinkSettings, echo: str = "") -> None:
        self._settings, self._echo = settings, echo
        self._granted: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._came: asyncio.Queue[bytes] = asyncio.Queue()
        self.connection: Connection
        self._opened = False

    async def open(self) -> None:
        """MQTT 5, and 3.1.1 where the broker knows no better. Raises what Connection.open raises."""
        wanted = self._settings.protocol
        try:
            await self._open("5" if wanted == "auto" else wanted)
        except Refused as refused:
            if wanted != "auto" or not refused.protocol:
                raise
            await self._open("3.1.1")

    async def _open(self, version: str) -> None:
        self.connection = Connection(self._settings, version, self)
        try:
            self._grant = await self.connection.open()
            self._opened = True
        except BaseException:
            self.connection.end(Lost("not opened"))
            raise

    async def close(self) -> None:
        if self._opened:
            await self.connection.leave(1.0)

    async def subscribe(self, topic: str) -> None:
        """Raises NotAllowed, TimeoutError, Lost."""
        self.connection.subscribe({topic: Wish(1)})
        if refused := await self._unless_ended(self._granted):
            raise NotAllowed(refused)

    async def trip(self, topic: str, qos: int) -> float:
        """Seconds from a publication until its echo comes. Raises TimeoutError, Lost."""
        began = time.perf_counter()
        payload = os.urandom(8).hex().encode()
        self.connection.publish(Outgoing(topic, payload, qos), self._grant)
        while await self._unless_ended(asyncio.ensure_future(self._came.get())) != payload:
            continue
        return time.perf_counter() - began

    async def _unless_ended(self, waited: asyncio.Future[T]) -> T:
        ended = self.connection.ended
        both: set[asyncio.Future[Any]] = {waited, ended}
        await asyncio.wait(both, timeout=STEP_S, return_when=asyncio.FIRST_COMPLETED)
        if waited.done():
            return waited.result()
        waited.cancel()
        if ended.done():
            raise ended.result()
        raise TimeoutError(f"no answer within {STEP_S:g} s")

    # What the connection tells.

    def came(self, message: Message, mid: int) -> None:
        if message.qos:
            self.connection.ack(Ack(mid, message.qos))
        if self._echo:
            self.connection.publish(Outgoing(self._echo, message.payload[:64], message.qos), self._grant)
        else:
            self._came.put_nowait(message.payload)

    def subscribed(self, mid: int, refused: list[str]) -> None:
        if not self._granted.done():
            self._granted.set_result(refused[0] if refused else "")

    def delivered(self, mid: int, refused: str) -> None:
        """What comes back says it."""

    def unsubscribed(self, mid: int) -> None:
        """Nothing is."""

    def writable(self) -> None:
        """Nothing waits for it."""
