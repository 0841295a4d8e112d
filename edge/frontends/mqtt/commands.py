"""Commands by MQTT: `P/cmd/{name}`, and `{prefix}/v1/_fleet/{group}/cmd/{name}` for many nodes at once.

Rule 1: a command is acknowledged when it is taken over, not when it is done: a load takes seconds, and acks go in the order
in which messages came, so that requests would wait behind it.
Rule 2: what is sent twice is done once: the second gets the first one's answer, or waits for it with the first.
Rule 3: those of one model are done in the order in which they came. Rule 4: what may be asked of this connection is NAMES; the agent's
own connection has AGENTS, and whatever else is asked is answered here, so that one of the two answers and not both.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from edge.domain.errors import ControlFailed, EdgeError, Forbidden, InvalidInput, Overloaded
from edge.domain.ports import Catalog, Control
from edge.frontends.mqtt.command_form import (
    AGENTS,
    Answer,
    Command,
    broken,
    done,
    read_command,
    refused,
    too_long,
    transaction_of,
)
from edge.mqtt.commands import MAX_COMMAND_BYTES
from edge.mqtt.message import Message
from edge.mqtt.topics import MAX_CORRELATION_BYTES, Tree, reply_problem

log = logging.getLogger(__name__)

MAX_PENDING = 16
"""Commands that are being done or wait; one more is refused."""
MAX_REMEMBERED = 128
REMEMBERED_S = 600.0
"""How long an answer is kept for those who ask again: as long as a broker keeps a session that sends again."""
MAX_DOING_S = 600.0

Key = tuple[str, str, bytes]


class Publisher(Protocol):
    """What goes out; the options are those of edge.mqtt.link.Link."""

    @property
    def publish(self) -> Callable[..., bool]: ...
    def ack(self, message: Message) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Deeds:
    """What commands do. `control` is for load and unload, and None where they are off; `reload` re-reads what SIGHUP re-reads."""

    catalog: Catalog
    control: Control | None
    rescan: Callable[[], Awaitable[None]]
    reload: Callable[[], None]
    set_level: Callable[[str], None]


@dataclass(slots=True)
class _Asked:
    """A command that came, and its answer once there is one. Times are of the event loop's clock. Nothing of what it said is
    kept, as others decide how much that is."""

    key: Key
    correlation: bytes | None
    expiry_s: int | None
    qos: int
    answer_to: str
    at: float
    answer: Answer | None = None


@dataclass(slots=True, kw_only=True)
class Commands:
    """`reply_allow`: filters of the topics that may be answered to; `dropped(reason)` counts what was not done."""

    link: Publisher
    tree: Tree
    deeds: Deeds
    reply_allow: tuple[str, ...]
    dropped: Callable[[str], None]
    jitter_s: float = 0.0
    chance: random.Random = field(default_factory=random.Random)
    _known: OrderedDict[Key, _Asked] = field(default_factory=OrderedDict)
    _turns: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _pending: set[asyncio.Task[None]] = field(default_factory=set)
    _closed: bool = False

    def handle(self, message: Message, name: str, *, fleet: bool = False) -> None:
        """A message of a command's topic. Never raises. `fleet`: wait a random time up to `jitter_s` seconds first.

        After `close`, nothing is taken over: a broker that keeps sessions sends it again after the next start.
        """
        if self._closed:
            return
        self.link.ack(message)
        if name in AGENTS:
            return
        if message.retain:
            self.dropped("retained")
            return
        wanted, result = message.properties.response_topic, self.tree.command_result(name)
        problem = "" if wanted is None else reply_problem(wanted, self.reply_allow)
        error: EdgeError | None = InvalidInput(problem) if problem else too_long(message)
        asked = _asked(message, result if problem or wanted is None else wanted)
        if problem:
            self.dropped("reply_refused")
        if error is not None:
            self._tell(asked, refused(error, transaction_of(message.payload)))
        elif not self._repeated(asked, dup=message.dup):
            self._begin(asked, name, message.payload, self.chance.uniform(0.0, self.jitter_s) if fleet else 0.0)

    async def close(self) -> None:
        """What is not done by now is not done, and not answered."""
        self._closed = True
        for task in list(self._pending):
            task.cancel()
        await asyncio.gather(*self._pending, return_exceptions=True)

    def _repeated(self, asked: _Asked, *, dup: bool) -> bool:
        """Whether it was asked before: then it is answered as it was, now or when that is done. Remembers it if not."""
        while self._known and next(iter(self._known.values())).at < asked.at - REMEMBERED_S:
            self._known.popitem(last=False)
        before = self._known.get(asked.key)
        if before is not None and (asked.correlation is not None or dup):
            self.dropped("duplicate")
            if before.answer is not None:
                self._tell(asked, before.answer)
            return True
        self._known[asked.key] = asked
        self._known.move_to_end(asked.key)
        while len(self._known) > MAX_REMEMBERED:
            self._known.popitem(last=False)
        return False

    def _begin(self, asked: _Asked, name: str, payload: bytes, delay_s: float) -> None:
        try:
            if len(self._pending) >= MAX_PENDING:
                raise Overloaded(f"want at most {MAX_PENDING} commands at once")
            command = read_command(name, payload)
            if name in ("load", "unload") and self.deeds.control is None:
                raise Forbidden("loading and unloading over MQTT is not allowed (mqtt.model_control is off)")
        except EdgeError as error:
            self._tell(asked, refused(error, transaction_of(payload)))
            if isinstance(error, Overloaded):  # asked again, it may well be done
                self._known.pop(asked.key, None)
            return
        log.info("command %s %s by MQTT", command.name, command.argument)
        before = self._turns.get(command.argument)
        task = asyncio.get_running_loop().create_task(self._do(asked, command, delay_s, before), name=f"mqtt {name}")
        self._pending.add(task)
        self._turns[command.argument] = task
        task.add_done_callback(lambda task: self._over(command.argument, task))

    def _over(self, turn: str, task: asyncio.Task[None]) -> None:
        self._pending.discard(task)
        if self._turns.get(turn) is task:
            del self._turns[turn]

    async def _do(self, asked: _Asked, command: Command, delay_s: float, before: asyncio.Task[None] | None) -> None:
        await asyncio.sleep(delay_s)
        if before is not None:
            await asyncio.wait([before])
        if asked.expiry_s is not None and asyncio.get_running_loop().time() > asked.at + asked.expiry_s:
            self.dropped("expired")
            return
        try:
            async with asyncio.timeout(MAX_DOING_S):
                answer = done(command, await self._done(command))
        except ControlFailed as error:
            known = self.deeds.catalog.status(command.argument) is not None
            answer = refused(error, command.transaction, status=None if known else 404)
        except TimeoutError:
            late = ControlFailed(f"{command.argument}: not done within {MAX_DOING_S:g} s")
            answer = refused(late, command.transaction)
        except Exception:
            log.exception("command %s by MQTT", command.name)
            answer = broken(command.transaction)
        self._tell(asked, answer)

    async def _done(self, command: Command) -> dict[str, str]:
        """What the answer's `data` says. Raises ControlFailed."""
        deeds, argument = self.deeds, command.argument
        if command.name == "log-level":
            deeds.set_level(argument)
            return {"level": argument}
        if command.name == "reload":
            deeds.reload()
            await deeds.rescan()
            return {}
        assert deeds.control is not None
        await (deeds.control.load(argument) if command.name == "load" else deeds.control.unload(argument))
        return {"model": argument}

    def _tell(self, asked: _Asked, answer: Answer) -> None:
        asked.answer = answer
        properties = answer.properties(asked.correlation)
        self.link.publish(asked.answer_to, answer.payload, qos=asked.qos, properties=properties)


def _asked(message: Message, answer_to: str) -> _Asked:
    """A correlation that is too long is not given back. Who sent the same again without one, which 3.1.1 has not, is known by
    the flag and by what it says."""
    properties, now = message.properties, asyncio.get_running_loop().time()
    correlation = properties.correlation
    if correlation is not None and len(correlation) > MAX_CORRELATION_BYTES:
        correlation = None
    if correlation is None:
        said = b"=" + hashlib.sha256(message.payload[: MAX_COMMAND_BYTES + 1]).digest()
    else:
        said = b"#" + correlation
    key = (message.topic, answer_to, said)
    return _Asked(key, correlation, properties.expiry_s, min(message.qos, 1), answer_to, now)
