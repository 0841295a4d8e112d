"""The agent's own connection to an MQTT broker: what it listens to, and what it says.

Rule 1: nothing waits for the broker: without one, the agent starts, polls, updates and posts reports as ever. Rule 2: whatever comes is
hostile until it was checked; it is acked all the same, counted where it makes no sense, and logged once in a while. Rule 3: what
comes is kept nowhere without a bound, and commands are done one after the other. Rule 4: a message brings nothing here: a nudge asks
for a poll, and of commands `sync.agent.orders` says what they may do.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NamedTuple

from edge.mqtt.link import Link
from edge.mqtt.message import Message, Properties
from edge.mqtt.settings import LinkSettings
from edge.mqtt.topics import MAX_CORRELATION_BYTES, Command, Desired, Tree, reply_problem
from sync.agent.asked import Asked
from sync.agent.orders import ASK, HOLD, Orders
from sync.domain.errors import DocumentError, Refused, Rejected, Unreachable
from sync.domain.nudge import parse_nudge
from sync.domain.ports import Clock
from sync.domain.situation import SeenBroker

log = logging.getLogger(__name__)

MAX_PACKET_BYTES = 16 << 10
"""That the broker may send here: all that is listened to is small."""
MAX_WAITING = 32
"""Commands that wait to be done; more are not heard."""
GARBAGE_LOG_S = 600.0
"""Between two lines of the log about messages that made no sense."""
CLOSE_S = 2.0
NAMES = (*ASK, *HOLD)


class _Order(NamedTuple):
    name: str
    fleet: bool
    message: Message


class Broker:
    """groups: that this device listens to. reply_allow: filters of topics that answers may go to. deliver_s: seconds for a report to be
    taken, a connection included. `on_connect` may be set before `start`."""

    def __init__(
        self,
        settings: LinkSettings,
        tree: Tree,
        groups: Sequence[str],
        asked: Asked,
        clock: Clock,
        *,
        listens: bool,
        reply_allow: Sequence[str] = (),
        deliver_s: float = 30.0,
    ) -> None:
        self._tree, self._groups, self._asked, self._clock = tree, frozenset(groups), asked, clock
        self._where, self._reply_allow = f"{settings.host}:{settings.port}", reply_allow or (tree.reply_filter,)
        self._deliver_s = deliver_s
        self._link = Link(settings, self._heard, self._connected, on_disconnect=self._lost)
        self._up = asyncio.Event()
        self._orders: asyncio.Queue[_Order] = asyncio.Queue(MAX_WAITING)
        self._tasks: list[asyncio.Task[None]] = []
        self._latest = b""
        self._garbage, self._why, self._logged_at = 0, "", -GARBAGE_LOG_S
        self.on_connect: Callable[[], None] = lambda: None
        self._subscribe(commands=listens)

    @property
    def connected(self) -> bool:
        return self._link.connected

    @property
    def seen(self) -> SeenBroker:
        return SeenBroker(self._where, self._link.connected, self._garbage, self._why)

    def start(self, orders: Orders, *beside: Coroutine[Any, Any, None]) -> None:
        """beside: what else goes on until `close`."""
        self._tasks = [asyncio.create_task(each) for each in (self._link.run(), self._obey(orders), *beside)]

    async def close(self) -> None:
        """Takes leave of the broker, for CLOSE_S at the most."""
        if self._tasks:
            await self._link.close(CLOSE_S)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    # -- what it says

    async def deliver(self, report: bytes) -> None:
        """Returns when the broker has it. Raises Unreachable, Refused; Rejected for one that the broker never takes."""
        taken: asyncio.Future[tuple[str, bool]] = asyncio.get_running_loop().create_future()

        def ended(why: str, for_ever: bool) -> None:
            if not taken.done():
                taken.set_result((why, for_ever))

        try:
            async with asyncio.timeout(self._deliver_s):
                await self._up.wait()
                if not self._link.deliver(self._tree.reported, report, ended):
                    raise Refused(f"{self._where}: too much waits to be sent")
                why, for_ever = await taken
        except TimeoutError:
            what = "the broker did not take it" if self._up.is_set() else "there is no connection"
            raise Unreachable(f"mqtt {self._where}: {what} within {self._deliver_s:g} s") from None
        if why:
            text = f"mqtt {self._where}: want {self._tree.reported} to be taken: {why}"
            raise Rejected(text) if for_ever else Refused(text)
        self._latest = report

    def show(self, report: bytes) -> None:
        """The latest report, for whoever looks; where there is no connection, when there is one."""
        self._latest = report
        self._link.publish(self._tree.reported, report, qos=1, retain=True)

    def tell(self, progress: bytes) -> None:
        """Of an update that is under way: nobody misses one that is lost."""
        if self._link.connected:
            self._link.publish(self._tree.sync, progress, droppable=True)

    # -- what it hears

    def _subscribe(self, *, commands: bool) -> None:
        for filter in (self._tree.desired, *(self._tree.fleet_desired(each) for each in sorted(self._groups))):
            self._link.subscribe(filter, 1)
        for name in NAMES if commands else ():
            for topic in (
                self._tree.command(name),
                *(self._tree.fleet_command(each, name) for each in sorted(self._groups)),
            ):
                self._link.subscribe(topic, 1, retain_handling=2)

    def _connected(self) -> None:
        self._up.set()
        if self._latest:  # a broker that was started anew may have forgotten it
            self._link.publish(self._tree.reported, self._latest, qos=1, retain=True)
        self.on_connect()

    def _lost(self) -> None:
        self._up.clear()

    def _heard(self, message: Message) -> None:
        asks = self._tree.parse(message.topic)
        try:
            if isinstance(asks, Desired) and (asks.group is None or asks.group in self._groups):
                self._nudged(message, fleet=asks.group is not None)
            elif isinstance(asks, Command) and (asks.group is None or asks.group in self._groups):
                self._ordered(asks, message)
                return  # acked when it is done
            else:
                raise DocumentError("it came by a topic that nobody asked for")
        except DocumentError as error:
            self._ignored(f"{message.topic[:200]}: {error.message}")
        self._link.ack(message)

    def _nudged(self, message: Message, *, fleet: bool) -> None:
        """Raises DocumentError."""
        if message.payload:  # else what was kept there was taken away
            self._asked.nudged(parse_nudge(message.payload), fleet=fleet)

    def _ordered(self, command: Command, message: Message) -> None:
        """Raises DocumentError."""
        if message.retain:
            raise DocumentError("a command that was kept by the broker is none")
        try:
            self._orders.put_nowait(_Order(command.name, command.group is not None, message))
        except asyncio.QueueFull:
            raise DocumentError(f"want at most {MAX_WAITING} commands to wait") from None

    async def _obey(self, orders: Orders) -> None:
        while True:
            order = await self._orders.get()
            properties = order.message.properties
            correlation = properties.correlation or b""
            if len(correlation) > MAX_CORRELATION_BYTES:
                correlation = b""
            answer = await orders.obey(order.name, order.message.payload, fleet=order.fleet, correlation=correlation)
            told = Properties(correlation=correlation or None, content_type="application/json", text=True)
            self._link.publish(
                self._answer_topic(order, properties.response_topic), answer, qos=1, properties=told, droppable=True
            )
            self._link.ack(order.message)

    def _answer_topic(self, order: _Order, wished: str | None) -> str:
        result = self._tree.command_result(order.name)
        if wished is None:
            return result
        if problem := reply_problem(wished, self._reply_allow):
            self._ignored(f"{order.message.topic[:200]}: {problem}")
            return result
        return wished

    def _ignored(self, why: str) -> None:
        self._garbage += 1
        self._why = "".join(char if char.isprintable() else "�" for char in why[:500])
        now = self._clock.monotonic()
        if now - self._logged_at >= GARBAGE_LOG_S:
            self._logged_at = now
            log.warning("mqtt: %d messages were ignored so far, the last: %s", self._garbage, self._why)
