"""An agent that listens to a real broker, and what is said to it there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from sync.agent.limits import UpdateLimits
from sync.app import Assembled, assemble
from sync.domain.digests import digest_of
from sync.domain.layout import TIMESTAMP
from sync.domain.nudge import Nudge, encode_nudge, nudge_of
from tests.functional.broker import Broker, Peer
from tests.functional.linked import in_thread
from tests.unit.sync.doctor.device import MODEL, Device
from tests.waiting import until

BASE = "edge/v1/cam-1"
WITHIN_S = 90.0
"""For what is to happen long before `poll.every_s`, a quarter of an hour."""


class Agent:
    """One that goes on until the block ends. `polls`: how many it made."""

    def __init__(self, assembled: Assembled) -> None:
        self.assembled, self.polls = assembled, 0
        poll = assembled.agent.poll

        async def counted() -> bool:
            self.polls += 1
            return await poll()

        setattr(assembled.agent, "poll", counted)  # noqa: B010 - for this one agent

    @property
    def version(self) -> int | None:
        state = self.assembled.journal.value.models[MODEL]
        return state.active.version if state.active is not None and state.phase.value == "idle" else None

    @property
    def seen(self) -> Any:
        assert self.assembled.messaging is not None
        return self.assembled.messaging.broker.seen

    async def connected(self) -> None:
        await until(lambda: self.seen.connected, within_s=WITHIN_S)

    async def runs(self, version: int) -> None:
        await until(lambda: self.version == version, within_s=WITHIN_S)

    async def stays_at(self, polls: int) -> None:
        for _ in range(30):
            await asyncio.sleep(0.01)
            assert self.polls == polls


@asynccontextmanager
async def running(made: Device, port: int, **settings: object) -> AsyncIterator[Agent]:
    told = {f"mqtt.{key}": str(value) for key, value in settings.items() if "__" not in key}
    told |= {key.replace("__", "."): str(value) for key, value in settings.items() if "__" in key}
    made.settings |= {"mqtt.host": "127.0.0.1", "mqtt.port": str(port), "mqtt.fleet_jitter_s": "0", **told}
    assembled = await asyncio.to_thread(assemble, made.config, limits=UpdateLimits(watch_s=0.01))
    agent = Agent(assembled)
    task = asyncio.ensure_future(assembled.run())
    try:
        yield agent
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await assembled.close()


async def published(made: Device, version: int) -> bytes:
    """Another version for everybody; the nudge that says so."""
    await made.release(version, b"weights %d" % version)
    await made.roll_out(version)
    return encode_nudge(nudge_of(await made.store.get(TIMESTAMP, max_bytes=1 << 20)))


def forged(generation: int = 10**9) -> bytes:
    return encode_nudge(Nudge(generation, digest_of(b"%d" % generation)))


@asynccontextmanager
async def peer_of(broker: Broker, *filters: str) -> AsyncIterator[Peer]:
    peer = await in_thread(broker.peer().__enter__)
    try:
        if filters:
            await in_thread(peer.subscribe, *filters)
        yield peer
    finally:
        await in_thread(peer.__exit__)


async def nudged(peer: Peer, payload: bytes, topic: str = f"{BASE}/desired") -> None:
    await in_thread(lambda: peer.publish(topic, payload, retain=True))


async def ordered(peer: Peer, name: str, payload: dict[str, Any], *, topic: str = "", **properties: Any) -> Any:
    await in_thread(lambda: peer.publish(topic or f"{BASE}/cmd/{name}", json.dumps(payload), **properties))
    wanted = properties.get("ResponseTopic") or f"{BASE}/cmd/{name}/result"
    message = await in_thread(peer.get_from, wanted)
    if "CorrelationData" in properties:
        assert message.properties is not None
        assert vars(message.properties)["CorrelationData"] == properties["CorrelationData"]
    return json.loads(message.payload)


async def ordered_quietly(peer: Peer, name: str) -> None:
    await in_thread(lambda: peer.publish(f"{BASE}/cmd/{name}", b"{}"))


def says(version: int) -> Callable[[bytes], bool]:
    return lambda data: bool(json.loads(data)["models"][MODEL].get("active") == version)
