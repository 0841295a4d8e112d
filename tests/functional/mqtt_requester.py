"""A client of the MQTT topics that keeps a window of requests open and says what became of every one."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from paho.mqtt.client import Client, MQTTMessage, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

EXPIRED = "expired"
SESSION_S = 600
CONNECT_WITHIN_S = 60.0


@dataclass
class _Open:
    sent_at: float
    expires_at: float


class Requester:
    """`outcomes`: how many requests ended with each `status`, or EXPIRED when the requester gave up at the deadline.

    `twice`: answers to what had been answered; `late`: those to what had been given up. `gap_s`: the longest time between
    two answers.
    """

    def __init__(self, port: int, node: str, model: str, name: str, *, window: int = 16, expiry_s: int = 30) -> None:
        self._topic, self._name, self._window, self._expiry_s = f"edge/v1/{node}/infer/{model}", name, window, expiry_s
        self.outcomes: Counter[str] = Counter()
        self.twice, self.late, self.gap_s = 0, 0, 0.0
        self._open: dict[bytes, _Open] = {}
        self._ended: dict[bytes, str] = {}
        self._changed = threading.Condition()
        self._last_answer_at = time.monotonic()
        self._count = 0
        self._reply = f"edge/v1/_reply/{name}/answers"
        self._ready = threading.Event()
        self.client = Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=MQTTv5)
        self.client.max_inflight_messages_set(window)
        self.client.reconnect_delay_set(1, 1)
        self.client.on_connect = self._connected
        self.client.on_subscribe = lambda *_: self._ready.set()
        self.client.on_message = self._answered
        session = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        session.SessionExpiryInterval = SESSION_S
        self._port, self._session = port, session

    @contextmanager
    def connected(self) -> Iterator[Requester]:
        self.client.connect("127.0.0.1", self._port, clean_start=False, properties=self._session)
        self.client.loop_start()
        try:
            assert self._ready.wait(CONNECT_WITHIN_S), "no broker"
            yield self
        finally:
            self.client.disconnect()
            self.client.loop_stop()

    def ask(self, count: int, body: bytes, *, qos: int = 1, content_type: str = "application/json") -> None:
        """Sends `count` requests as the window allows, and returns when each has ended."""
        for _ in range(count):
            with self._changed:
                while len(self._open) >= self._window:
                    self._give_up()
                    self._changed.wait(0.05)
            self.send(body, qos=qos, content_type=content_type)
        with self._changed:
            while self._open:
                self._give_up()
                self._changed.wait(0.05)

    def send(self, body: bytes, *, qos: int, content_type: str = "application/json") -> bytes:
        self._count += 1
        correlation = self._count.to_bytes(8, "big")
        properties: Any = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.ResponseTopic, properties.CorrelationData = self._reply, correlation
        properties.MessageExpiryInterval, properties.ContentType = self._expiry_s, content_type
        now = time.monotonic()
        with self._changed:
            self._open[correlation] = _Open(now, now + self._expiry_s)
        self.client.publish(self._topic, body, qos=qos, properties=properties)
        return correlation

    def _give_up(self) -> None:
        now = time.monotonic()
        for correlation in [key for key, each in self._open.items() if each.expires_at <= now]:
            del self._open[correlation]
            self._end(correlation, EXPIRED)

    def _end(self, correlation: bytes, how: str) -> None:
        self._ended[correlation] = how
        self.outcomes[how] += 1

    def _connected(self, client: Client, userdata: object, flags: object, reason: object, properties: object) -> None:
        client.subscribe(f"edge/v1/_reply/{self._name}/#", qos=1)

    def _answered(self, client: Client, userdata: object, message: MQTTMessage) -> None:
        properties: Any = message.properties
        correlation, now = properties.CorrelationData, time.monotonic()
        status = dict(properties.UserProperty)["status"]
        with self._changed:
            self.gap_s = max(self.gap_s, now - self._last_answer_at)
            self._last_answer_at = now
            if self._open.pop(correlation, None) is not None:
                self._end(correlation, status)
            elif self._ended.get(correlation) == EXPIRED:
                self.late += 1
            else:
                self.twice += 1
            self._changed.notify_all()
