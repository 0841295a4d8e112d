"""One connection to the broker, from its socket to its end: paho's client, driven by the event loop.

Rule 1: a client is used for one connection only, so nothing of an old one can come back. Rule 2: once the socket is there
(`edge.mqtt.connecting`), everything happens on the loop. Rule 3: paho's callbacks hold its locks, so they only note what
happened; nothing that they call may raise, as paho would then see the same packet again. Rule 4: once a socket has failed,
uvloop tells so once and never again, whatever is still to be read: what tells of readiness is not relied upon.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from edge.mqtt.connecting import connect, in_thread, make_client
from edge.mqtt.events import Events, Lost, Refused
from edge.mqtt.grant import Grant, grant_of
from edge.mqtt.outbox import Ack, Outgoing
from edge.mqtt.settings import LinkSettings
from edge.mqtt.subscriptions import Wish

if TYPE_CHECKING:
    from paho.mqtt.reasoncodes import ReasonCode

    from edge.mqtt.stream import StreamClient

TICK_S = 1.0
PACKETS_A_TURN = 16
"""That are read before others have their turn on the loop."""
_NO_REASON, _TAKEN_OVER = 0x80, 0x8E


class Connection:
    """Opened once. `ended` holds the Lost that ended it."""

    def __init__(self, settings: LinkSettings, version: str, events: Events) -> None:
        self._settings, self._events = settings, events
        self.version = version
        self._loop = asyncio.get_running_loop()
        self._fd = -1
        self._socket: Any = None
        self._poll = select.poll()
        self._answered: asyncio.Future[Grant | Refused] = self._loop.create_future()
        self._tick: asyncio.TimerHandle | None = None
        self._farewell = self._paused = False
        self._again: asyncio.Handle | None = None
        self._held = 0
        self.ended: asyncio.Future[Lost] = self._loop.create_future()
        self._client: Any  # paho's, as edge.mqtt.stream makes it

    async def open(self) -> Grant:
        """Raises OSError, ssl.SSLError, ValueError, Refused, Lost, TimeoutError."""
        async with asyncio.timeout(self._settings.connect_s):
            self._client, self._socket = await in_thread(self._connect)
            self._fd = self._socket.fileno()
            self._poll.register(self._fd, select.POLLIN)
            self._loop.add_reader(self._fd, self._readable)
            if self._client.want_write():
                self._loop.add_writer(self._fd, self._write)
            self._tick = self._loop.call_later(TICK_S, self._on_tick)
            await asyncio.wait((self._answered, self.ended), return_when=asyncio.FIRST_COMPLETED)
        answer = self._answered.result() if self._answered.done() else self.ended.result()
        if isinstance(answer, Refused | Lost):
            raise answer
        self.resume()
        return answer

    def publish(self, item: Outgoing, grant: Grant) -> int:
        """The packet identifier. Raises ValueError where it cannot be packed or is more than the broker takes."""
        packed = item.properties.pack() if self.version == "5" else b""
        size = len(item.topic.encode()) + len(item.payload) + len(packed) + 9
        if size > grant.max_packet_bytes:
            raise ValueError(f"{size} bytes, and the broker takes {grant.max_packet_bytes}")
        qos, retain = min(item.qos, grant.max_qos), item.retain and grant.retain
        mid: int = self._client.send(item.topic, item.payload, qos, retain=retain, properties=packed)
        self._write_soon()
        return mid

    def ack(self, ack: Ack) -> None:
        self._client.acknowledge(ack.mid)
        self._write_soon()

    def subscribe(self, wishes: Mapping[str, Wish]) -> int:
        """The packet identifier."""
        from paho.mqtt.subscribeoptions import SubscribeOptions

        if self.version != "5":
            return int(self._client.subscribe([(topic, wish.qos) for topic, wish in wishes.items()])[1] or 0)
        options = [
            (topic, SubscribeOptions(wish.qos, wish.no_local, wish.retain_as_published, wish.retain_handling))
            for topic, wish in wishes.items()
        ]
        return int(self._client.subscribe(options)[1] or 0)

    def unsubscribe(self, topics: list[str]) -> int:
        """The packet identifier."""
        return int(self._client.unsubscribe(topics)[1] or 0)

    @property
    def drained(self) -> bool:
        """Whether all that was handed over has gone to the socket."""
        return not self._client.want_write()

    def hold(self) -> None:
        """What is handed over from now on goes to the socket together, at `let_go`."""
        self._held += 1

    def let_go(self) -> None:
        self._held -= 1
        if not self._held and self._fd >= 0 and not self.drained:
            self._write()
            self._write_later()

    def pause(self) -> None:
        """Nothing is read until `resume`, so that the broker waits, and throws away what it may. Nor are its acknowledgements."""
        self._paused = self._client.deaf = True
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)

    def resume(self) -> None:
        """From the loop's next turn on. What is there already may have been told of before: it is looked at in any case."""
        if not self._paused or self._fd < 0:
            return
        self._paused = self._client.deaf = False
        self._loop.add_reader(self._fd, self._readable)
        if self._again is None:
            self._again = self._loop.call_soon(self._read)

    async def leave(self, timeout_s: float) -> None:
        """A normal farewell: the broker publishes no will. Never raises."""
        if not self.ended.done():
            self._farewell = True
            self._client.disconnect()
            await asyncio.wait((self.ended,), timeout=timeout_s)
        self.end(Lost("closed here"))

    def end(self, why: Lost) -> None:
        """At once and for good. Idempotent."""
        if not self.ended.done():
            self.ended.set_result(why)
        if self._tick is not None:
            self._tick.cancel()
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            self._loop.remove_writer(self._fd)
            self._fd = -1
            self._socket.close()

    def _connect(self) -> tuple[StreamClient, Any]:
        """In the thread. Raises what `connect` does."""
        client = make_client(self._settings, self.version, self._events.came)
        self._listen(client)
        return client, connect(client, self._settings, self.version)

    def _listen(self, client: StreamClient) -> None:
        client.on_socket_register_write = self._want_write
        client.on_socket_unregister_write = self._want_no_write
        client.on_socket_close = self._closing
        client.on_connect = self._on_connack
        client.on_disconnect = self._on_disconnect
        client.taken = self._on_published
        client.on_subscribe = self._on_suback
        client.on_unsubscribe = self._on_unsuback

    # On the loop.

    def _readable(self) -> None:
        if self._again is None and not self._paused:
            self._read()

    def _read(self) -> None:
        """All packets that are there, also those that lie decrypted already, up to PACKETS_A_TURN. What is left is read in
        the loop's next turn, and what asks meanwhile adds nothing."""
        self._again = None
        self.hold()
        try:
            left = self._read_some()
        finally:
            self.let_go()
        if left and not self._paused and self._again is None:
            self._again = self._loop.call_soon(self._read)

    def _read_some(self) -> bool:
        """Whether there may be more."""
        for _ in range(PACKETS_A_TURN):
            if self._fd < 0 or self._paused:
                return False
            self._guarded(self._client.loop_read)
            if not self._more:
                return False
        return True

    @property
    def _more(self) -> bool:
        """Whether there is something to read, be it an error or the end: uvloop tells of those once, beside what was read."""
        if self._fd < 0:
            return False
        return self._client.more or (self._settings.tls and self._socket.pending() > 0) or bool(self._poll.poll(0))

    def _write(self) -> None:
        if self._fd >= 0:
            self._guarded(self._client.loop_write)
        if self._fd >= 0 and self.drained:
            self._events.writable()

    def _on_tick(self) -> None:
        self._tick = self._loop.call_later(TICK_S, self._on_tick)
        self._guarded(self._client.loop_misc)
        if not self._paused and self._more:
            self._readable()

    def _guarded(self, work: Callable[[], Any]) -> None:
        """paho notices most of what a broker may not send; whatever else comes out of it ends the connection, too."""
        try:
            work()
        except Exception as error:
            self.end(Lost(f"the broker sent what cannot be read: {error or type(error).__name__}"))
        else:
            if self._client.socket() is None:
                self.end(Lost("the connection was closed"))

    # paho's callbacks.

    def _want_write(self, _client: object, _data: object, _socket: object) -> None:
        self._write_soon()

    def _write_soon(self) -> None:
        """Now, but for what is held: mostly there is room at once."""
        if self._fd < 0:  # this is the thread that connects, and `open` looks after it
            return
        if not self._held:
            self._guarded(self._client.loop_write)
            self._write_later()

    def _write_later(self) -> None:
        """What there was no room for."""
        if self._fd < 0 or self.drained:
            return
        try:
            self._loop.add_writer(self._fd, self._write)
        except (RuntimeError, OSError):  # the socket has failed, as a reader would have noticed in a moment
            self._loop.call_soon(self.end, Lost("the broker has closed it without a word", silent=True))

    def _want_no_write(self, _client: object, _data: object, _socket: object) -> None:
        if self._fd >= 0:
            self._loop.remove_writer(self._fd)

    def _closing(self, _client: object, _data: object, _socket: object) -> None:
        """paho closes the socket right after this: the loop has to let go of it first."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            self._loop.remove_writer(self._fd)
            self._fd = -1

    def _on_connack(self, _client: object, _data: object, flags: Any, reason: Any, properties: Any) -> None:
        answer = Refused(str(reason)) if reason.is_failure else grant_of(bool(flags.session_present), properties)
        if not self._answered.done():
            self._answered.set_result(answer)
            self.pause()  # until somebody is there who takes messages
        if isinstance(answer, Refused):  # not now: paho goes on to use the socket
            self._loop.call_soon(self.end, Lost(str(answer)))

    def _on_disconnect(self, _client: object, _data: object, flags: Any, reason: Any, _properties: Any) -> None:
        if self.ended.done():
            return
        if self._farewell:
            lost = Lost("closed here")
        elif flags.is_disconnect_packet_from_server:
            lost = Lost(f"the broker says: {reason}", taken_over=reason is not None and reason.value == _TAKEN_OVER)
        elif reason.value == _NO_REASON:
            lost = Lost("the broker has closed it without a word", silent=True)
        else:
            lost = Lost(str(reason))
        self.ended.set_result(lost)
        self._loop.call_soon(self.end, self.ended.result())

    def _on_published(self, mid: int, reason: ReasonCode) -> None:
        self._events.delivered(mid, str(reason) if reason.is_failure else "")

    def _on_suback(self, _client: object, _data: object, mid: int, reasons: Any, _properties: Any) -> None:
        self._events.subscribed(mid, [str(reason) if reason.is_failure else "" for reason in reasons])

    def _on_unsuback(self, _client: object, _data: object, mid: int, _reasons: Any, _properties: Any) -> None:
        self._events.unsubscribed(mid)
