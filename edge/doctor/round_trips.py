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
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from edge.mqtt.probe import NotAllowed, Probe
from edge.mqtt.settings import LinkSettings

WITHIN_S = 10.0
STEP_S = 1.5
"""For the echo of one publication."""
PAYLOAD_BYTES = 16
ROUNDS = 10
"""Of each; a connection's first segments are acknowledged at once, so the later half is what counts."""


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
    asked, answered = f"{topic}/ask", f"{topic}/answer"
    asker, echo = Probe(settings), Probe(replace(settings, client_id=f"{settings.client_id}-echo"))
    began = time.perf_counter()
    await asker.open()
    trips = Trips(asker.protocol, time.perf_counter() - began)
    try:
        await echo.open()
        await echo.subscribe(asked)
        await asker.subscribe(answered)
        async with _echoing(echo, answered):
            for qos in (1, 0):
                trips.times_s[qos] = [await _trip(asker, asked, qos) for _ in range(ROUNDS)]
    except NotAllowed as why:
        trips.kept = f"the broker does not allow {topic}: {why}"
    except TimeoutError:
        trips.kept = f"what was published to {asked} was not answered"
    finally:
        await echo.close()
        await asker.close()
    return trips


@asynccontextmanager
async def _echoing(echo: Probe, to: str) -> AsyncIterator[None]:
    """While it is open, what comes to `echo` goes out again to that topic."""

    async def answer() -> None:
        while True:
            message = await echo.next(WITHIN_S)
            await echo.publish(to, message.payload[:PAYLOAD_BYTES], message.qos)

    task = asyncio.create_task(answer())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _trip(asker: Probe, topic: str, qos: int) -> float:
    """Seconds from a publication until its echo comes. Raises TimeoutError, Lost, NotAllowed."""
    payload = os.urandom(PAYLOAD_BYTES // 2).hex().encode()
    began = time.perf_counter()
    await asker.publish(topic, payload, qos)
    while (await asker.next(STEP_S)).payload != payload:
        continue
    return time.perf_counter() - began
