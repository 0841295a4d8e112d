"""What a node does on its connection besides inference: commands, figures, results, Home Assistant.

Rule: each part is made only where it is wanted, and knows of the front end no more than what it hooks into.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

from edge.frontends.mqtt.answers import Answered
from edge.frontends.mqtt.asking import Dropped
from edge.frontends.mqtt.command_form import NAMES
from edge.frontends.mqtt.commands import Commands, Deeds
from edge.frontends.mqtt.home_assistant import STATUS_TOPIC, HomeAssistant, Node
from edge.frontends.mqtt.telling import Events, tell_stats
from edge.mqtt.message import Message
from edge.mqtt.topics import EVERYONE, Command


class Link(Protocol):
    """edge.mqtt.link.Link, as far as it is asked here."""

    @property
    def connected(self) -> bool: ...
    @property
    def publish(self) -> Callable[..., bool]: ...
    def ack(self, message: Message) -> None: ...


class Front(Protocol):
    """edge.frontends.mqtt.front.Mqtt, as far as it is hooked into."""

    @property
    def link(self) -> Link: ...
    def route(self, filter: str, handler: Callable[[Message], None], *, retain_as_published: bool = False) -> None: ...
    def when_connected(self, call: Callable[[], None]) -> None: ...
    def when_answered(self, call: Callable[[Answered], None]) -> None: ...
    def alongside(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None: ...
    def when_closing(self, call: Callable[[], Awaitable[None]]) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AroundOptions:
    """`stats_s`: seconds between figures, 0 for none. `groups`: those of the fleet that the node is in, beside `all`."""

    reply_allow: tuple[str, ...]
    groups: tuple[str, ...] = ()
    fleet_jitter_s: float = 10.0
    stats_s: float = 30.0
    publish_results: bool = False
    home_assistant: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What there is to tell. `stats`: the body of `P/stats`; `models`: the names; `changed` returns when they may have."""

    stats: Callable[[], bytes]
    models: Callable[[], Collection[str]]
    changed: Callable[[], Awaitable[None]]


class Around:
    """Hooks itself into the front end, before that runs. `dropped(reason)` counts commands that are not done."""

    def __init__(
        self,
        front: Front,
        node: Node,
        options: AroundOptions,
        deeds: Deeds,
        known: Known,
        *,
        dropped: Callable[[str], None],
    ) -> None:
        self._node, self._known, self._dropped = node, known, dropped
        self._link = link = front.link
        self._commands = Commands(
            link=link,
            tree=node.tree,
            deeds=deeds,
            reply_allow=options.reply_allow,
            dropped=dropped,
            jitter_s=options.fleet_jitter_s,
        )
        self._home: HomeAssistant | None = None
        front.when_closing(self.close)
        self._take_commands(front, options.groups)
        if options.home_assistant:
            self._home = home = HomeAssistant(link, node)
            front.route(STATUS_TOPIC, home.handle)
            front.when_connected(home.tell)
            front.alongside(lambda: self._follow(home))
        if options.publish_results:
            front.when_answered(Events(link, node.tree).answered)
        if options.stats_s:
            front.alongside(
                lambda: tell_stats(
                    link, node.tree.stats, known.stats, every_s=options.stats_s, wanted=lambda: front.link.connected
                )
            )

    async def close(self) -> None:
        """Commands that are not done by now are not done."""
        if self._home is not None:
            self._home.close()
        await self._commands.close()

    def _take_commands(self, front: Front, groups: tuple[str, ...]) -> None:
        """Of its own all, so that one with a slip in its name is answered; a group's by name, for hundreds would answer."""
        tree = self._node.tree
        topics = [tree.command_filter]
        topics += [tree.fleet_command(group, name) for group in (EVERYONE, *groups) for name in NAMES]
        for topic in topics:
            # With the flag as it was published, so that a retained command is known for one.
            front.route(topic, self._command, retain_as_published=True)

    def _command(self, message: Message) -> None:
        asked = self._node.tree.parse(message.topic)
        if isinstance(asked, Command):
            self._commands.handle(message, asked.name, fleet=asked.group is not None)
        else:
            self._dropped(Dropped.UNKNOWN_TOPIC.value)
            self._link.ack(message)

    async def _follow(self, home: HomeAssistant) -> None:
        while True:
            home.models(self._known.models())
            await self._known.changed()
