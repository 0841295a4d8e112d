"""What the server says of itself, retained: whether it is there, what it is, and its models.

Rule 1: after each connection all of it is said, `status` last: who sees `online` finds the rest. Rule 2: only what has changed
is said again. Rule 3: a model that is gone leaves an empty message, also one of an earlier run: what is retained under this
node's name and is no model any more is cleared, once the start is over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from edge.domain.errors import EdgeError
from edge.domain.layout import is_model_name
from edge.domain.lifecycle import State
from edge.domain.models import ModelSpec
from edge.domain.ports import ModelStatus
from edge.domain.requests import ModelInfo
from edge.frontends.mqtt.limits import MqttLimits
from edge.mqtt.link import Link
from edge.mqtt.message import Message
from edge.mqtt.topics import MAX_CORRELATION_BYTES, Tree
from edge.telemetry.build import Boot
from edge.wire.v2_metadata import model_metadata

ONLINE, OFFLINE = b"online", b"offline"
SETTLE_S = 0.02
"""Changes that follow each other so closely are said together."""
MAX_RETAINED = 10_000
"""Names of models that the broker has something of, and that are looked after."""
_STATES = {
    State.READY: "ready",
    State.LOADING: "loading",
    State.TESTING: "loading",
    State.NEW: "loading",
    State.DRAINING: "draining",
    State.FAILED: "failed",
}


class Watched(Protocol):
    """The catalog, and when to look at it again."""

    def models(self) -> Sequence[ModelStatus]: ...
    def describe(self, spec: ModelSpec) -> ModelInfo:
        """Raises NotFound."""
        ...

    @property
    def starting(self) -> bool: ...
    async def changed(self) -> None:
        """Returns when anything may have changed."""
        ...


class Presence:
    def __init__(self, *, link: Link, tree: Tree, limits: MqttLimits, catalog: Watched, boot: Boot, url: str) -> None:
        self._link, self._tree, self._limits = link, tree, limits
        self._catalog, self._boot, self._url = catalog, boot, url
        self._said: dict[str, bytes] = {}
        self._retained: set[str] = set()  # models that the broker has something of
        self._pooled: set[str] = set()
        self.draining = False
        self.state = "starting"

    def connected(self) -> None:
        """A new connection: the broker may know nothing."""
        self._said.clear()
        self._look()
        self._say(self._tree.status, ONLINE)

    def came(self, message: Message) -> None:
        """What is retained of an earlier run; what this one publishes may come back, too, where there is no No Local."""
        name = message.topic.rpartition("/")[2]
        if message.retain and message.payload and is_model_name(name) and len(self._retained) < MAX_RETAINED:
            self._retained.add(name)
            self._look()
        self._link.ack(message)

    async def follow(self) -> None:
        """Until cancelled."""
        while True:
            await self._catalog.changed()
            await asyncio.sleep(SETTLE_S)
            if self._link.connected:
                self._look()
            else:
                self._pool()

    def drain(self) -> None:
        """No more shared requests, and everybody may know why."""
        self.draining, self.state = True, "draining"
        self._look()

    def stopped(self) -> None:
        """The last words."""
        self.state = "stopped"
        self._say_info()
        self._say(self._tree.status, OFFLINE)

    def _look(self) -> None:
        if not self.draining:
            self.state = "starting" if self._catalog.starting else "ready"
        statuses = self._catalog.models()
        self._say_info(statuses)
        names = set()
        for status in statuses:
            told = self._model(status)
            if told is not None:
                names.add(status.name)
                self._retained.add(status.name)
                self._say(self._tree.model(status.name), msgspec.json.encode(told))
        if not self._catalog.starting:
            for gone in self._retained - names:
                self._say(self._tree.model(gone), b"")
            self._retained &= names
        self._pool()

    def _say_info(self, statuses: Sequence[ModelStatus] | None = None) -> None:
        known = self._catalog.models() if statuses is None else statuses
        devices = {version.device for model in known for version in model.versions if version.device}
        body = {
            "boot_id": self._boot.boot_id,
            "version": self._boot.version,
            "started": self._boot.started,
            "state": self.state,
            "api": {"http": self._url},
            "protocols": ["v1", "v2"],
            "devices": sorted(devices),
            "max_payload": self._limits.max_payload_bytes,
            "limits": {
                "request_timeout_s": self._limits.request_timeout_s,
                "max_correlation_bytes": MAX_CORRELATION_BYTES,
            },
            "pools": list(self._limits.pools),
        }
        self._say(self._tree.info, msgspec.json.encode(body))

    def _say(self, topic: str, payload: bytes) -> None:
        if self._said.get(topic) != payload:
            self._said[topic] = payload
            self._link.publish(topic, payload, qos=1, retain=True)
        if not payload:
            self._said.pop(topic, None)

    def _model(self, status: ModelStatus) -> dict[str, Any] | None:
        """None for a model of which nothing is left."""
        info = self._serving(status.name)
        shown = next((version for version in status.versions if info and version.id == info.id), None)
        if shown is None:
            alive = [version for version in status.versions if version.state is not State.UNLOADED]
            if not alive:
                return None
            shown = alive[0]
        told: dict[str, Any] = {
            "state": "ready" if info else _STATES.get(shown.state, "failed"),
            "version": shown.id.version,
            "device": shown.device,
        }
        if info is not None:
            described = msgspec.json.decode(model_metadata(info).body)
            told |= {"inputs": described["inputs"], "outputs": described["outputs"]}
        failed = next((version for version in status.versions if version.state is State.FAILED), None)
        if failed is not None and (info is None or failed.id.version > shown.id.version):
            told["error"] = f"version {failed.id.version}: {failed.reason}"
        elif status.problem:
            told["error"] = status.problem
        return told

    def _serving(self, name: str) -> ModelInfo | None:
        try:
            return self._catalog.describe(ModelSpec(name))
        except EdgeError:
            return None

    def _pool(self) -> None:
        """Shared requests come for models that answer, and for no other."""
        ready: set[str] = set()
        if self._limits.pools and not self.draining:
            ready = {status.name for status in self._catalog.models() if self._serving(status.name) is not None}
        for name in ready - self._pooled:
            for group in self._limits.pools:
                self._link.subscribe(self._tree.pool_filter(group, name), 1, retain_handling=2)
        for name in self._pooled - ready:
            for group in self._limits.pools:
                self._link.unsubscribe(self._tree.pool_filter(group, name))
        self._pooled = ready
