"""Sends what waits, as fast as the broker and the socket take it, over one connection after the other.

Rule 1: a publication of QoS 1 is kept until the broker has acknowledged it, and goes first on the next connection. Rule 2:
one that connections keep ending over is given up: else it would end them for ever. Rule 3: one over which a connection may
have ended is sent again alone, so that it is the one that is given up, and not those that were under way with it. Rule 4:
while more waits than the socket takes, nothing is read, as every request that comes is one more answer that has no room. What
waits for the broker's acknowledgements never holds back reading, as that is how they come.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence

from edge.mqtt.connection import Connection
from edge.mqtt.grant import Grant
from edge.mqtt.outbox import Ack, Outbox, Outgoing

log = logging.getLogger(__name__)

MAX_TRIES = 3
"""Connections that may end while a publication waits for its acknowledgement."""
UNSENT_PACKETS = 32
"""Packets that are handed to the connection before the socket has taken them."""
UNSENT_BYTES = 4 * 1024 * 1024
"""Of the payloads of those: no further one is handed over once so much waits for the socket."""
UNSENT_ACKS = 1_024
"""So many more of acks. A broker that keeps to what it was granted has far fewer messages under way, and one that does not
would fill the memory with them."""
HOLD_BACK_AT = 0.5
READ_ON_AT = 0.25
"""How full the outbox is when nothing more is read, and when it is again."""


class Sender:
    """`sent` counts publications that were handed to a connection."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._unacknowledged: dict[int, Outgoing] = {}
        self._connection: Connection | None = None
        self._grant = Grant()
        self._unsent = self._unsent_bytes = self._unsent_acks = self.sent = 0
        self._pump_is_due = self._pumping = False
        self._alone: Outgoing | None = None  # under way, and sent before on a connection that ended
        self._quiet = asyncio.Event()
        self._gone = asyncio.Event()
        self._held_back = False

    @property
    def waiting(self) -> int:
        """Publications and acks that are not on their way yet, or that the broker has not taken yet."""
        return len(self._outbox) + len(self._unacknowledged)

    def connected(self, connection: Connection, grant: Grant) -> None:
        self._connection, self._grant, self._held_back = connection, grant, False
        self._unsent = self._unsent_bytes = self._unsent_acks = 0
        self.pump()

    def lost(self) -> None:
        self._connection = self._alone = None
        self._outbox.put_back(self._worth_another_try())
        self._unacknowledged.clear()
        self._quiet.set()
        self._gone.set()

    def publish(self, item: Outgoing, acks: Callable[[], Sequence[Ack]] = tuple) -> bool:
        """Whether it will be sent. If so, `acks` go with it."""
        if self._connection is None and not item.qos and not item.retain:
            self._outbox.dropped += 1
            return False
        taken = self._outbox.put(item)
        if not taken:
            self._gone.clear()
        else:
            self._outbox.put_acks(acks())
        self.pump()
        return taken

    def ack(self, acks: Sequence[Ack]) -> None:
        if acks:
            self._outbox.put_acks(acks)
            self.pump()

    def delivered(self, mid: int, refused: str) -> None:
        item = self._unacknowledged.pop(mid, None)
        if item is None:
            return
        if item is self._alone:
            self._alone = None
        if refused:
            log.warning("MQTT: the broker did not take what was published to %s: %s", item.topic, refused)
        item.ended(refused, False)
        self._quiet.set()
        if len(self._outbox) and not self._pump_is_due:  # later: once for all that came together
            self._pump_is_due = True
            asyncio.get_running_loop().call_soon(self._pump_late)

    def writable(self) -> None:
        self._unsent = self._unsent_bytes = self._unsent_acks = 0
        self._quiet.set()
        self.pump()

    async def room(self) -> None:
        """Returns when something that waited has gone since a publication found no room."""
        await self._gone.wait()

    async def flush(self, timeout_s: float) -> bool:
        """Whether all that waited has gone within so many seconds, and the broker has taken it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self.waiting or (self._connection is not None and not self._connection.drained):
                    self._quiet.clear()
                    await self._quiet.wait()
        return not self.waiting

    def pump(self) -> None:
        """Hand over what there is room for; it goes to the socket together."""
        connection = self._connection
        if connection is None or self._pumping:
            return
        self._pumping = blocked = True
        try:
            while blocked:
                connection.hold()
                try:
                    blocked = self._hand_over(connection)
                finally:
                    connection.let_go()
                if not connection.drained:
                    break
        finally:
            self._pumping = False
        self._hold_back(connection, blocked)

    def _hand_over(self, connection: Connection) -> bool:
        """Whether it is the socket that what is left waits for."""
        while len(self._outbox) and not connection.ended.done():
            head = self._outbox.head
            if isinstance(head, Ack):
                if self._unsent_acks >= UNSENT_ACKS and not connection.drained:
                    return True
                self._unsent_acks = self._unsent_acks + 1 if self._unsent_acks < UNSENT_ACKS else 1
                connection.ack(head)
                self._outbox.pop()
                continue
            if connection.drained:
                self._unsent = self._unsent_bytes = 0
            if self._unsent >= UNSENT_PACKETS or self._unsent_bytes >= UNSENT_BYTES:
                return True
            if self._waits(head):
                return False
            self._outbox.pop()
            self._gone.set()
            self._unsent += 1
            self._unsent_bytes += len(head.payload)
            self._send(connection, head)
        return False

    def _hold_back(self, connection: Connection, blocked: bool) -> None:
        level = self._outbox.level
        if not self._held_back and blocked and level >= HOLD_BACK_AT:
            self._held_back = True
            connection.pause()
        elif self._held_back and (not blocked or level <= READ_ON_AT):
            self._held_back = False
            connection.resume()

    def _waits(self, item: Outgoing) -> bool:
        """For the broker to acknowledge what is under way."""
        most = 1 if item.tries else self._grant.max_inflight
        return self._alone is not None or (item.qos > 0 and len(self._unacknowledged) >= most)

    def _pump_late(self) -> None:
        self._pump_is_due = False
        self.pump()

    def _send(self, connection: Connection, item: Outgoing) -> None:
        try:
            mid = connection.publish(item, self._grant)
        except ValueError as error:
            self._outbox.dropped += 1
            log.error("MQTT: what was to be published to %s cannot be: %s", item.topic, error)
            item.ended(str(error), True)
            return
        self.sent += 1
        if mid:
            self._unacknowledged[mid] = item
            self._alone = item if item.tries else None
        else:
            item.ended("", False)

    def _worth_another_try(self) -> list[Outgoing]:
        again = []
        for item in self._unacknowledged.values():
            item.tries += 1
            if item.tries < MAX_TRIES:
                again.append(item)
            else:
                self._outbox.dropped += 1
                log.error("MQTT: gave up publishing to %s: %d connections ended over it", item.topic, item.tries)
                item.ended(f"{item.tries} connections ended over it", True)
        return again
