"""The front end: one link, requests and announcements on it, and whatever else is routed here.

Rule 1: each message goes to one handler, by its topic, and the handler acks it; what nobody handles is counted and acked.
Rule 2: nothing that happens here, a bug included, ends the server or slows what comes over HTTP. Rule 3: the way out is an
order: no more shared requests, say so, finish, say `offline`, take leave.

Others build on it before `run`: `route` for topics of their own, `when_connected` for what is said after each connection,
`when_answered` for every answer, `alongside` for what goes on meanwhile, `when_closing` for what has to end with it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol

from edge.domain.ports import Catalog, Predictor
from edge.frontends.http.admission import Admission
from edge.frontends.mqtt.answers import Answered
from edge.frontends.mqtt.asking import Dropped
from edge.frontends.mqtt.inference import Inference
from edge.frontends.mqtt.limits import MqttLimits
from edge.frontends.mqtt.presence import Presence, Watched
from edge.mqtt.link import Link
from edge.mqtt.message import Message
from edge.mqtt.settings import LinkSettings
from edge.mqtt.topics import Tree, matches
from edge.telemetry.build import Boot
from edge.telemetry.metrics import MqttCounts

log = logging.getLogger(__name__)

FAREWELL_S = 2.0
SETTLE_S = 1.0
"""For the broker to send what it had shared with this server before it heard that there is to be no more."""
Handler = Callable[[Message], None]


class WatchedCatalog(Catalog, Watched, Protocol):
    """Both."""


class Mqtt:
    """`url`: where HTTP is served, if anywhere. Made on the loop; `run` once, `close` once."""

    def __init__(
        self,
        settings: LinkSettings,
        *,
        tree: Tree,
        limits: MqttLimits,
        predictor: Predictor,
        catalog: WatchedCatalog,
        admission: Admission,
        counts: MqttCounts,
        refused: Callable[[str, str], None],
        boot: Boot,
        url: str,
    ) -> None:
        self.tree, self._counts = tree, counts
        self.link = Link(settings, self._came, self._connected)
        self.inference = Inference(
            link=self.link,
            tree=tree,
            limits=limits,
            predictor=predictor,
            catalog=catalog,
            admission=admission,
            refused=refused,
            dropped=counts.drop,
        )
        self.presence = Presence(link=self.link, tree=tree, limits=limits, catalog=catalog, boot=boot, url=url)
        self._routes: list[tuple[str, Handler]] = []
        self._after_connecting: list[Callable[[], None]] = []
        self._alongside: list[Callable[[], Coroutine[Any, Any, None]]] = [self.presence.follow]
        self._closing: list[Callable[[], Awaitable[None]]] = []
        self._requests = (f"{tree.base}/infer/", f"{tree.root}/_pool/")
        self.link.subscribe(tree.infer_filter, 1, no_local=True, retain_handling=2, retain_as_published=True)
        self.route(f"{tree.base}/models/+", self.presence.came, no_local=True, retain_handling=0)
        counts.watch(lambda: (self.link.connected, self.link.received, self.link.sent, self.link.dropped))

    def route(
        self,
        filter: str,
        handler: Handler,
        *,
        no_local: bool = False,
        retain_handling: int = 2,
        retain_as_published: bool = False,
    ) -> None:
        """Subscribe to it, and give its messages to `handler`, which acks them."""
        self._routes.append((filter, handler))
        self.link.subscribe(
            filter, no_local=no_local, retain_handling=retain_handling, retain_as_published=retain_as_published
        )

    def when_connected(self, call: Callable[[], None]) -> None:
        """After each connection, when the server has said that it is there."""
        self._after_connecting.append(call)

    def when_answered(self, call: Callable[[Answered], None]) -> None:
        """For each answer that is published."""
        self.inference.answered.append(call)

    def alongside(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Runs while the front end does. Where it fails, that is logged, and the rest goes on."""
        self._alongside.append(work)

    def when_closing(self, call: Callable[[], Awaitable[None]]) -> None:
        """Before what is being answered is waited for."""
        self._closing.append(call)

    async def run(self) -> None:
        """Until cancelled."""
        works = [self.link.run, *self._alongside]
        await asyncio.gather(*(_guarded(work) for work in works))

    async def close(self, drain_s: float) -> None:
        """Within `drain_s` seconds for what is being answered, and FAREWELL_S for the farewell. Never raises."""
        try:
            self.inference.draining = True
            self.presence.drain()
            await asyncio.gather(*(_guarded(call) for call in self._closing))
            await self.link.settle(min(drain_s, SETTLE_S))
            await self.inference.finish(drain_s)
            self.presence.stopped()
            await self.link.close(FAREWELL_S)
        except Exception:
            log.exception("MQTT: not closed in good order")

    def _came(self, message: Message) -> None:
        if message.topic.startswith(self._requests):
            self.inference.came(message)
            return
        for filter, handler in self._routes:
            if matches(filter, message.topic):
                handler(message)
                return
        self._counts.drop(Dropped.UNKNOWN_TOPIC.value)
        self.link.ack(message)

    def _connected(self) -> None:
        self.presence.connected()
        for call in self._after_connecting:
            try:
                call()
            except Exception:
                log.exception("MQTT: what follows a connection failed")


async def _guarded(work: Callable[[], Awaitable[None]]) -> None:
    try:
        await work()
    except Exception:
        log.exception("MQTT: a part of the front end failed and is no more")
