"""`edge mqtt ping`: how long a round trip to a server takes, and what is in the way.

Rule 1: what is asked costs the server next to nothing: a model that it does not have, which it says. With a model named,
its inputs are sent as zeros, and the round trip has a run in it. Rule 2: requests expire, so that a server that was away
finds none of them. Rule 3: what the figures mean is decided by `hints`, which is pure.
"""

from __future__ import annotations

import json
import math
import os
import time
from dataclasses import asdict, dataclass, field
from typing import Any

from edge.cli import exits
from edge.mqtt.events import Lost, Refused
from edge.mqtt.message import Message, Properties
from edge.mqtt.probe import NAGLE_S, NotAllowed, Probe
from edge.mqtt.settings import LinkSettings
from edge.mqtt.topics import CLIENT, Reply, Tree

UNKNOWN_MODEL = "edge-ping"
CHEAP = b'{"instances": [0]}'
MAX_MODEL_BYTES = 4 * 1024 * 1024
STATUS_WITHIN_S = 1.0
NODELAY_HINT = (
    "QoS 1 takes {ms:.0f} ms longer than QoS 0: the broker waits for the network's delayed acknowledgements. With "
    "Mosquitto, `set_tcp_nodelay true` in mosquitto.conf ends that"
)


class Trouble(Exception):
    """Why there is no answer. `code`: of edge.cli.exits."""

    def __init__(self, message: str, code: int = exits.UNREACHABLE) -> None:
        super().__init__(message)
        self.code = code


@dataclass(slots=True)
class Trips:
    """Round trips with one QoS. Times in milliseconds."""

    qos: int
    sent: int = 0
    times_ms: list[float] = field(default_factory=list)

    @property
    def median_ms(self) -> float:
        return sorted(self.times_ms)[len(self.times_ms) // 2] if self.times_ms else math.nan


@dataclass(slots=True)
class Report:
    """`status`: what the node says of itself, empty where it says nothing. `answer`: the status that it answered with."""

    broker: str
    node: str
    protocol: str = ""
    status: str = ""
    answer: str = ""
    trips: list[Trips] = field(default_factory=list)

    @property
    def hints(self) -> list[str]:
        return hints(self.trips)

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "hints": self.hints}


def hints(trips: list[Trips]) -> list[str]:
    medians = {each.qos: each.median_ms for each in trips if each.times_ms}
    if {0, 1} <= medians.keys() and (more := medians[1] - medians[0]) >= NAGLE_S * 1000:
        return [NODELAY_HINT.format(ms=more)]
    return []


async def ping(settings: LinkSettings, tree: Tree, model: str, count: int, timeout_s: float) -> Report:
    """`count` round trips with QoS 0 and as many with QoS 1, one after the other. Raises Trouble."""
    report = Report(f"{settings.host}:{settings.port}", tree.node)
    probe = Probe(settings)
    try:
        await _opened(probe, report.broker)
        try:
            report.protocol = probe.protocol
            await _Pinger(probe, tree, report, answered_as(settings), timeout_s).run(model, count)
        finally:
            await probe.close()
    except Lost as lost:
        raise Trouble(f"{report.broker}: the connection was lost: {lost}") from None
    return report


def answered_as(settings: LinkSettings) -> str:
    """The level below `_reply` that answers come to: the user, whom brokers know, where there is one."""
    return settings.username if CLIENT.fullmatch(settings.username) else settings.client_id


async def _opened(probe: Probe, broker: str) -> None:
    try:
        await probe.open()
    except Refused as refused:
        hint = "" if refused.protocol else "; look at mqtt.username and mqtt.password_file"
        raise Trouble(f"{broker}: {refused}{hint}", exits.FAILED) from None
    except TimeoutError:
        raise Trouble(f"{broker}: no answer in time; is that an MQTT broker?") from None
    except (OSError, ValueError) as error:
        raise Trouble(f"{broker}: no broker there: {getattr(error, 'strerror', None) or error}") from None


class _Pinger:
    def __init__(self, probe: Probe, tree: Tree, report: Report, client: str, timeout_s: float) -> None:
        self._probe, self._tree, self._report, self._client = probe, tree, report, client
        self._timeout_s = timeout_s
        self._model: dict[str, Any] | None = None

    async def run(self, model: str, count: int) -> None:
        tree, answers = self._tree, f"{self._tree.root}/_reply/{self._client}/#"
        topics = [answers, tree.status, *([tree.model(model)] if model else [])]
        for topic in topics:
            await self._subscribe(topic)
        await self._look(model)
        if self._report.status == "offline":
            raise Trouble(f"{tree.base} is offline: its server has stopped, or has no connection to the broker")
        if model and self._model is None:
            raise Trouble(f"{tree.base} has no model {model!r}", exits.NOT_FOUND)
        payload = CHEAP if self._model is None else zeros(self._model)
        for qos in (1, 0):  # QoS 1 first: only there the broker says that nobody listens
            trips = Trips(qos)
            self._report.trips.insert(0, trips)
            for _ in range(count):
                await self._trip(model or UNKNOWN_MODEL, payload, trips)

    async def _subscribe(self, topic: str) -> None:
        try:
            await self._probe.subscribe(topic)
        except NotAllowed as why:
            raise Trouble(f"{self._report.broker}: may not subscribe to {topic}: {why}", exits.FAILED) from None
        except TimeoutError:
            raise Trouble(f"{self._report.broker}: no answer to a subscription") from None

    async def _look(self, model: str) -> None:
        """At what is retained, as far as it comes in time."""
        end = time.monotonic() + STATUS_WITHIN_S
        while not self._report.status or (model and self._model is None):
            try:
                message = await self._probe.next(max(0.0, end - time.monotonic()))
            except TimeoutError:
                return
            self._note(message)

    def _note(self, message: Message) -> None:
        if message.topic == self._tree.status:
            self._report.status = message.payload[:16].decode(errors="replace")
        elif message.topic.startswith(f"{self._tree.base}/models/") and message.payload:
            self._model = read_model(message.payload)

    async def _trip(self, model: str, payload: bytes, trips: Trips) -> None:
        name = f"{trips.qos}-{trips.sent}-{os.urandom(4).hex()}"
        trips.sent += 1
        topic = f"{self._tree.base}/infer/{model}"
        reply = Reply(self._client, name)
        if self._probe.protocol != "5":
            topic += f"/req/{reply.client}/{reply.id}"
        properties = Properties(
            response_topic=self._tree.reply(reply),
            correlation=name.encode(),
            content_type="application/json",
            expiry_s=math.ceil(self._timeout_s),
            text=True,
        )
        began = time.perf_counter()
        try:
            heard = await self._probe.publish(topic, payload, trips.qos, properties)
        except NotAllowed as why:
            raise Trouble(f"{self._report.broker}: may not publish to {topic}: {why}", exits.FAILED) from None
        except TimeoutError:
            raise Trouble(f"{self._report.broker}: no acknowledgement of what was published") from None
        if not heard:
            raise Trouble(f"no server listens at {self._tree.base}: the broker says that nobody is subscribed")
        answer = await self._answered(reply)
        trips.times_ms.append((time.perf_counter() - began) * 1000)
        self._report.answer = answer.properties.first("status") or ("404" if answer.topic.endswith("/error") else "200")
        if model != UNKNOWN_MODEL and self._report.answer != "200":
            said = answer.payload[:300].decode(errors="replace")
            raise Trouble(f"{model}: the server answered {self._report.answer}: {said}", exits.FAILED)

    async def _answered(self, reply: Reply) -> Message:
        end = time.monotonic() + self._timeout_s
        while True:
            try:
                message = await self._probe.next(max(0.0, end - time.monotonic()))
            except TimeoutError:
                known = f" (it says that it is {self._report.status})" if self._report.status else ""
                raise Trouble(
                    f"no answer from {self._tree.base}{known} within {self._timeout_s:g} s: is mqtt.prefix the server's, and "
                    "may it be answered to?"
                ) from None
            if message.topic in (self._tree.reply(reply), self._tree.reply_error(reply)):
                return message
            self._note(message)


def read_model(payload: bytes) -> dict[str, Any] | None:
    """What `P/models/{model}` says; None for what is not of its form."""
    try:
        body = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) and isinstance(body.get("inputs"), list) else None


def zeros(model: dict[str, Any]) -> bytes:
    """A request in the form of protocol v2 with one row of zeros for each input. Raises Trouble."""
    inputs = []
    try:
        for each in model["inputs"]:
            shape = [1 if int(side) < 0 else int(side) for side in each["shape"]]
            kind = str(each["datatype"])
            size = math.prod(shape)
            if size > MAX_MODEL_BYTES // 2:
                raise Trouble(f"an input of {size} numbers is too large to ask about as JSON", exits.FAILED)
            zero: Any = {"BOOL": False, "BYTES": ""}.get(kind, 0)
            inputs.append({"name": str(each["name"]), "shape": shape, "datatype": kind, "data": [zero] * size})
    except (KeyError, TypeError, ValueError):
        raise Trouble(f"the server describes its model in no known form: {str(model)[:200]}", exits.FAILED) from None
    return json.dumps({"inputs": inputs}, separators=(",", ":")).encode()
