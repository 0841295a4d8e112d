"""A link to an MQTT broker that outlives its connections.

Rule 1: what was subscribed is renewed whenever the broker knows nothing of it (`session_present` 0): one that was killed
comes back with no subscriptions and says nothing. Rule 2: what waits to be sent is bounded, and what is acked goes out
behind what was published before (`edge.mqtt.outbox`). Rule 3: acks go out in the order in which their messages came, and
only on the connection that they came by (`edge.mqtt.acks`): every message that is handed over must be acked in the end,
or those behind it never are. Rule 4: a broker that is away costs a try now and then, and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from time import monotonic

from edge.mqtt.acks import Acks, Pending
from edge.mqtt.backoff import Backoff, Rivalry
from edge.mqtt.connection import Connection
from edge.mqtt.events import Lost, Refused
from edge.mqtt.grant import Grant
from edge.mqtt.message import NO_PROPERTIES, Message, Properties
from edge.mqtt.opening import open_connection
from edge.mqtt.outbox import Ack, Outbox, Outgoing
from edge.mqtt.sender import Sender
from edge.mqtt.settings import LinkSettings
from edge.mqtt.subscriptions import Subscriptions, Wish

log = logging.getLogger(__name__)

MAX_TOPIC_BYTES = 65535
MAX_UNACKED = 65535
"""Messages that wait for their acks: there are no more packet identifiers, so that a broker that sends more breaks the protocol."""


class Link:
    """`received` counts messages that came. `on_message` is given each message, on the loop; `on_connect` is called after each connection, when what was
    subscribed has been renewed; `on_disconnect` when one has ended. Nothing that they raise goes further than the log.

    Not to be used from other threads.
    """

    def __init__(
        self,
        settings: LinkSettings,
        on_message: Callable[[Message], None],
        on_connect: Callable[[], None] = lambda: None,
        *,
        on_disconnect: Callable[[], None] = lambda: None,
        backoff: Backoff | None = None,
    ) -> None:
        self._settings = settings
        self._on_message, self._on_connect, self._on_disconnect = on_message, on_connect, on_disconnect
        self._backoff, self._rivalry = backoff or Backoff(), Rivalry()
        self._subscriptions = Subscriptions()
        self._outbox = Outbox(settings.max_queued, settings.max_queued_bytes)
        self._sender = Sender(self._outbox)
        self._acks = Acks()
        self._connection: Connection | None = None
        self._complaint: str | None = None
        self.received = 0
        self._closed = asyncio.Event()
        self._subscriptions_answered = asyncio.Event()

    @property
    def connected(self) -> bool:
        return self._connection is not None

    @property
    def settled(self) -> bool:
        """Connected, and the broker has answered all that was subscribed and unsubscribed."""
        return self.connected and not self._subscriptions.unanswered

    @property
    def protocol(self) -> str:
        """ "5" or "3.1.1", of the connection that there is; "" without one."""
        return self._connection.version if self._connection is not None else ""

    @property
    def sent(self) -> int:
        """Publications that were handed to a connection, those once more that went twice."""
        return self._sender.sent

    @property
    def dropped(self) -> int:
        """Publications that were thrown away, for want of room or of a connection."""
        return self._outbox.dropped

    @property
    def waiting(self) -> int:
        """Publications and acks that are not on their way yet, or that the broker has not taken yet."""
        return self._sender.waiting

    async def run(self) -> None:
        """Until cancelled, or closed. When cancelled, it leaves without a farewell, so that the broker publishes the will."""
        while not self._closed.is_set():
            lost, lasted_s = await self._once()
            if self._closed.is_set():
                return
            silent = isinstance(lost, Lost) and lost.silent
            taken_over = isinstance(lost, Lost) and lost.taken_over
            if lasted_s:
                taken_over = self._rivalry.lost(lasted_s, silent=silent) or taken_over
            else:
                self._rivalry.failed()
            self._complain(lost, lasted_s, taken_over=taken_over)
            await asyncio.sleep(self._backoff.lost(lasted_s, taken_over=taken_over, silent=silent))

    def subscribe(
        self,
        filter: str,
        qos: int = 1,
        *,
        no_local: bool = False,
        retain_handling: int = 0,
        retain_as_published: bool = False,
    ) -> None:
        """From now on, and after each connection anew. The broker's refusal is logged."""
        self._subscriptions.wishes[filter] = Wish(qos, no_local, retain_handling, retain_as_published)
        self._renew()

    def unsubscribe(self, filter: str) -> None:
        self._subscriptions.wishes.pop(filter, None)
        self._renew()

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
        """Whether it will be sent: at once, or when there is a connection again. Without one, QoS 0 is not kept unless
        it is retained; what is droppable goes first when too much waits. `properties` are MQTT 5's. What it `answers` is
        acked right behind it, if it will be sent.

        Raises ValueError for a topic that nobody may publish to.
        """
        if not topic or "+" in topic or "#" in topic or "\0" in topic or len(topic.encode()) > MAX_TOPIC_BYTES:
            raise ValueError(f"want a topic without wildcards, got {topic!r}")
        data = payload.encode() if isinstance(payload, str) else payload
        item = Outgoing(topic, data, qos, retain, properties, droppable)
        return self._sender.publish(item, tuple if answers is None else lambda: self._done(answers))

    def deliver(self, topic: str, payload: bytes, ended: Callable[[str, bool], None]) -> bool:
        """As `publish`, with QoS 1 and retained. `ended` is told "" once the broker has it, or why it does not take it, and
        whether it never will; and nothing where a newer one took its place. It may not raise.
        """
        return self._sender.publish(Outgoing(topic, payload, 1, True, ended=ended))

    def ack(self, message: Message) -> None:
        """It has been dealt with. QoS 0 needs none; more than one does no harm."""
        self._sender.ack(self._done(message))

    async def room(self) -> None:
        """Returns when something that waited has gone since `publish` found no room, or a connection has ended."""
        await self._sender.room()

    async def flush(self, timeout_s: float) -> bool:
        """Whether all that waited has gone within so many seconds, and the broker has taken it."""
        return await self._sender.flush(timeout_s)

    async def settle(self, timeout_s: float) -> bool:
        """Whether the broker has answered all that was subscribed and unsubscribed, within so many seconds. What comes
        later is of what is subscribed now."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self._connection is not None and self._subscriptions.unanswered:
                    self._subscriptions_answered.clear()
                    await self._subscriptions_answered.wait()
        return not self._subscriptions.unanswered

    async def close(self, timeout_s: float = 2.0) -> None:
        """Send what waits, and take leave: the broker then publishes no will. `run` ends, or can be cancelled."""
        if self._connection is not None:
            await self.flush(timeout_s)
        self._closed.set()
        connection = self._connection
        if connection is not None:
            await connection.leave(timeout_s)

    # What the connection tells.

    def came(self, message: Message, mid: int) -> None:
        self.received += 1
        if message.qos:
            if len(self._acks) >= MAX_UNACKED and self._connection is not None:
                why = Lost(f"the broker sent more than {MAX_UNACKED} messages that are not acknowledged")
                asyncio.get_running_loop().call_soon(self._connection.end, why)  # who read it goes on to use the socket
            message.handle = self._acks.came(mid, message.qos)
        self._hand_over(message)

    def delivered(self, mid: int, refused: str) -> None:
        self._sender.delivered(mid, refused)

    def subscribed(self, mid: int, refused: list[str]) -> None:
        self._subscriptions_answered.set()
        for topic, why in self._subscriptions.answered(mid, refused).items():
            log.error("MQTT: the broker does not let %s subscribe to %s: %s", self._settings.client_id, topic, why)

    def unsubscribed(self, mid: int) -> None:
        self._subscriptions_answered.set()
        self._subscriptions.answered(mid, [])

    def writable(self) -> None:
        self._sender.writable()

    # Within.

    def _done(self, message: Message) -> list[Ack]:
        """The acks that may go now, as it has been dealt with."""
        return self._acks.done(message.handle) if isinstance(message.handle, Pending) else []

    @property
    def _where(self) -> str:
        return f"{self._settings.host}:{self._settings.port}"

    async def _once(self) -> tuple[Exception, float]:
        """One connection, if there is one; why there is none any more, and how many seconds it lasted."""
        try:
            connection, grant = await open_connection(self._settings.protocol, self._made)
        except (OSError, ValueError, TimeoutError, Refused, Lost) as error:
            return error, 0.0
        except Exception as error:  # a bug here must not take down what serves
            log.exception("MQTT: no connection to %s", self._where)
            return error, 0.0
        self._complaint = None
        self._rivalry.connected(session_present=grant.session_present)
        began = monotonic()
        return await self._serve(connection, grant), monotonic() - began

    def _made(self, version: str) -> Connection:
        self._acks.connected()  # what comes from now on belongs to this connection
        return Connection(self._settings, version, self)

    async def _serve(self, connection: Connection, grant: Grant) -> Lost:
        """Until the connection has ended."""
        self._connection = connection
        log.info("MQTT: connected to %s with MQTT %s", self._where, connection.version)
        try:
            self._subscriptions.connected(session_present=grant.session_present)
            self._renew()
            self._sender.connected(connection, grant)
            self._tell(self._on_connect)
            return await asyncio.shield(connection.ended)
        finally:
            self._connection = None
            connection.end(Lost("closed here"))
            self._acks.connected()
            self._subscriptions.lost()
            self._subscriptions_answered.set()
            self._sender.lost()
            self._tell(self._on_disconnect)

    def _hand_over(self, message: Message) -> None:
        try:
            self._on_message(message)
        except Exception:
            log.exception("MQTT: a message to %s was not dealt with", message.topic)
            self.ack(message)

    def _tell(self, callback: Callable[[], None]) -> None:
        try:
            callback()
        except Exception:
            log.exception("MQTT: a bug")

    def _renew(self) -> None:
        """Bring what the broker's session has in line with what is wished."""
        if self._connection is None:
            return
        gone, new = self._subscriptions.gone(), self._subscriptions.new()
        if gone:
            self._subscriptions.asked(self._connection.unsubscribe(gone), gone)
        if new:
            self._subscriptions.asked(self._connection.subscribe(new), list(new))

    def _complain(self, lost: Exception, lasted_s: float, *, taken_over: bool) -> None:
        """Once for each reason in a row."""
        if taken_over:
            log.error(
                "MQTT: another client comes as %r and takes the place: are there two with one name? This one comes back, "
                "but ever more slowly",
                self._settings.client_id,
            )
            return
        why = str(lost) or type(lost).__name__
        if why != self._complaint:
            self._complaint = why
            what = "connection lost" if lasted_s else "no connection"
            log.warning("MQTT: %s: %s: %s", self._where, what, why)
