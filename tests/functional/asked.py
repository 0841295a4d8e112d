"""A server on a broker, and a client that asks it over MQTT, with properties or by topics."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.functional.broker import ANSWER_WITHIN_S, Broker, Peer, user_properties
from tests.functional.server import Running, serving

NODE = "cam-1"
BASE = f"edge/v1/{NODE}"
REPLIES = "edge/v1/_reply/test"
_numbers = itertools.count()


@dataclass
class Answer:
    """`status` is 0 where there are no properties to say it; `error`: it came to the topic for errors, or says so."""

    payload: bytes
    qos: int
    topic: str
    status: int = 0
    error: str = ""
    content_type: str = ""
    user: dict[str, str] | None = None
    correlation: bytes = b""
    expiry_s: int | None = None

    @property
    def json(self) -> Any:
        return json.loads(self.payload)


class Asker:
    """`version` of MQTT decides how it asks: by properties in 5, by the topic in 3.1.1."""

    def __init__(self, peer: Peer, base: str = BASE, *, server: Running) -> None:
        self.peer, self.base, self.server = peer, base, server
        peer.subscribe(f"{REPLIES}/#")

    def send(self, target: str, payload: bytes, *, qos: int = 1, retain: bool = False, **properties: Any) -> bytes:
        """What the answer will be known by. `target`: what follows `infer/`, or a whole topic."""
        number = f"{next(_numbers)}".encode()
        topic = target if target.startswith("edge/") else f"{self.base}/infer/{target}"
        if self.peer.version == "5":
            properties = {"ResponseTopic": f"{REPLIES}/r", "CorrelationData": number} | properties
            properties = {name: value for name, value in properties.items() if value is not None}
        else:
            topic += f"/req/test/{number.decode()}"
            properties = {}
        self.peer.publish(topic, payload, qos=qos, retain=retain, **properties)
        return number

    def answer(self, timeout_s: float = ANSWER_WITHIN_S) -> Answer:
        end = time.monotonic() + timeout_s
        while True:
            message = self.peer.get(max(0.001, end - time.monotonic()))
            if message.topic.startswith(REPLIES):
                break
        answer = Answer(bytes(message.payload), message.qos, message.topic)
        if message.topic.endswith("/error"):
            answer.error = "error"
        if message.properties is not None and self.peer.version == "5":
            there = vars(message.properties)
            answer.user = user_properties(message)
            answer.status = int(answer.user.get("status", 0))
            answer.error = answer.user.get("error", answer.error)
            answer.content_type = there.get("ContentType", "")
            answer.correlation = there.get("CorrelationData", b"")
            answer.expiry_s = there.get("MessageExpiryInterval")
        return answer

    def ask(self, target: str, payload: bytes, **more: Any) -> Answer:
        number = self.send(target, payload, **more)
        answer = self.answer()
        if self.peer.version == "5":
            assert answer.correlation == number
        else:
            assert answer.topic.split("/")[4] == number.decode()
        return answer


def until_ready(peer: Peer, model: str, base: str = BASE, **holds: Any) -> dict[str, Any]:
    """What is retained of the model, once its state is `ready`."""
    wanted = {"state": "ready"} | holds

    def fits(payload: bytes) -> bool:
        return bool(payload) and json.loads(payload).items() >= wanted.items()

    peer.subscribe(f"{base}/models/{model}")
    found: dict[str, Any] = json.loads(peer.wait_for(f"{base}/models/{model}", fits))
    return found


@contextmanager
def on_broker(
    tmp_path: Path, broker: Broker, *arguments: str | Path, node: str = NODE, **more: str
) -> Iterator[Running]:
    """A server as `serving` has it, with `mqtt.` keys in `more`."""
    tmp_path.mkdir(exist_ok=True)
    keys = {"host": "127.0.0.1", "port": str(broker.port), "node": node} | more
    told = [part for key, value in keys.items() for part in ("--set", f"mqtt.{key}={value}")]
    with serving(tmp_path, *arguments, *told) as server:
        yield server
