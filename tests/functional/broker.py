"""A real Mosquitto on a free loopback port, and a client of it that is not the one under test.

Rule 1: it keeps its port when it is restarted. Rule 2: it ends with the test. Rule 3: a peer waits for what it asks for, and
no longer than a bound.
"""

from __future__ import annotations

import os
import queue
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client, MQTTMessage, MQTTv5, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

UP_WITHIN_S = 60.0
ANSWER_WITHIN_S = 60.0
"""Longer than the longest pauses of a link that has been tried a few times while its broker was away."""


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


class Broker:
    """`more`: lines of its configuration. `persistence`: what it knows outlives its end, if that is a clean one."""

    def __init__(self, program: str, directory: Path, *, more: str = "", persistence: bool = False) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._program, self._directory = program, directory
        self.port = free_port()
        self.log = directory / "mosquitto.log"
        self._config = directory / "mosquitto.conf"
        lines = [
            f"listener {self.port} 127.0.0.1",
            "set_tcp_nodelay true",
            f"persistence {'true' if persistence else 'false'}",
            f"persistence_location {directory}/",
        ]
        if "log_type" not in more:
            lines.append("log_type all")
        if "allow_anonymous" not in more:
            lines.append("allow_anonymous true")
        if os.geteuid() == 0:
            lines.append("user root")  # else it becomes another user, who may not read what tests write
        self._config.write_text("\n".join([*lines, more, ""]))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._program, "-c", self._config], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        end = time.monotonic() + UP_WITHIN_S
        while time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                assert self._process.poll() is None, self.log.read_text()
                time.sleep(0.01)
        raise TimeoutError(self.log.read_text())

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(10)
            self._process = None

    def kill(self) -> None:
        self.stop(signal.SIGKILL)

    def freeze(self) -> None:
        """It neither answers nor closes until it is thawed."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def peer(self, name: str = "", *, version: str = "5", **options: Any) -> Peer:
        return Peer(self.port, name, version=version, **options)


@contextmanager
def running_broker(program: str, directory: Path, *, more: str = "", persistence: bool = False) -> Iterator[Broker]:
    broker = Broker(program, directory, more=more, persistence=persistence)
    broker.start()
    try:
        yield broker
    finally:
        broker.kill()


class Peer:
    """A client of the broker, in a thread of its own. To be used as a context; waits raise TimeoutError."""

    def __init__(
        self,
        port: int,
        name: str = "",
        *,
        version: str = "5",
        expiry_s: int = 0,
        set_up: Callable[[Client], object] = lambda client: None,
    ) -> None:
        self.version = version
        self.client = Client(
            CallbackAPIVersion.VERSION2, client_id=name, protocol=MQTTv5 if version == "5" else MQTTv311
        )
        self.port, self._expiry_s = port, expiry_s
        set_up(self.client)
        self.came: queue.Queue[MQTTMessage] = queue.Queue()
        self._connected = threading.Event()
        self._done: dict[int, Any] = {}
        self._changed = threading.Condition()
        self.client.on_connect = lambda *_: self._connected.set()
        self.client.on_message = lambda client, data, message: self.came.put(message)
        self.client.on_subscribe = lambda client, data, mid, reasons, properties: self._note(mid, reasons)
        self.client.on_unsubscribe = lambda client, data, mid, reasons, properties: self._note(mid, reasons)
        self.client.on_publish = lambda client, data, mid, reason, properties: self._note(mid, reason)
        self.client.on_socket_open = _no_delay

    def __enter__(self) -> Peer:
        options: dict[str, Any] = {}
        if self.version == "5" and self._expiry_s:
            properties = _properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = self._expiry_s
            options = {"clean_start": False, "properties": properties}
        self.client.connect("127.0.0.1", self.port, 60, **options)
        self.client.loop_start()
        if not self._connected.wait(ANSWER_WITHIN_S):
            raise TimeoutError("the broker did not answer")
        return self

    def __exit__(self, *_: object) -> None:
        self.client.disconnect()
        self.client.loop_stop()
        # Out of the circle that these make, so that it closes its own sockets now, and not when a collection comes by.
        for name in ("on_connect", "on_message", "on_subscribe", "on_unsubscribe", "on_publish"):
            setattr(self.client, name, None)
        del self.client

    def subscribe(self, *filters: str, qos: int = 1, retain_as_published: bool = False) -> None:
        """Returns when the broker has granted it."""
        wishes: Any = [(filter, qos) for filter in filters]
        if self.version == "5":
            wishes = [(filter, SubscribeOptions(qos, False, retain_as_published)) for filter in filters]
        mid = self.client.subscribe(wishes)[1]
        reasons = self._wait(mid)
        assert not any(reason.is_failure for reason in reasons), reasons

    def unsubscribe(self, filter: str) -> None:
        self._wait(self.client.unsubscribe(filter)[1])

    def publish(
        self, topic: str, payload: bytes | str = b"", *, qos: int = 1, retain: bool = False, **properties: Any
    ) -> str:
        """`properties` as paho names them. Returns the broker's word with QoS 1, in MQTT 5."""
        packed = None
        if properties:
            packed = _properties(PacketTypes.PUBLISH)
            for name, value in properties.items():
                setattr(packed, name, value)
        info = self.client.publish(topic, payload, qos, retain, packed)
        return str(self._wait(info.mid)) if qos else ""

    def publish_until_taken(self, topic: str, payload: bytes | str = b"", **properties: Any) -> None:
        """As soon as there is somebody who has subscribed to it (MQTT 5)."""
        end = time.monotonic() + ANSWER_WITHIN_S
        while self.publish(topic, payload, **properties) == "No matching subscribers":
            assert time.monotonic() < end, f"nobody subscribes to {topic}"
            time.sleep(0.01)

    def get(self, timeout_s: float = ANSWER_WITHIN_S) -> MQTTMessage:
        """The next message."""
        try:
            return self.came.get(timeout=timeout_s)
        except queue.Empty:
            raise TimeoutError(f"no message within {timeout_s} s") from None

    def get_from(self, topic: str, timeout_s: float = ANSWER_WITHIN_S) -> MQTTMessage:
        """The next message to that topic; what comes to others before is dropped."""
        end = time.monotonic() + timeout_s
        while True:
            message = self.get(max(0.001, end - time.monotonic()))
            if message.topic == topic:
                return message

    def wait_for(self, topic: str, holds: Callable[[bytes], bool], timeout_s: float = ANSWER_WITHIN_S) -> bytes:
        """The first payload to that topic for which `holds`."""
        end = time.monotonic() + timeout_s
        while True:
            payload = bytes(self.get_from(topic, end - time.monotonic()).payload)
            if holds(payload):
                return payload

    def nothing_comes(self, within_s: float = 0.3) -> bool:
        try:
            return self.came.get(timeout=within_s) is None
        except queue.Empty:
            return True

    def _note(self, mid: int, what: Any) -> None:
        with self._changed:
            self._done[mid] = what
            self._changed.notify_all()

    def _wait(self, mid: int | None) -> Any:
        assert mid is not None
        with self._changed:
            if not self._changed.wait_for(lambda: mid in self._done, ANSWER_WITHIN_S):
                raise TimeoutError(f"the broker has not answered packet {mid}")
            return self._done.pop(mid)


def user_properties(message: MQTTMessage) -> dict[str, str]:
    """MQTT 5's, by name."""
    return dict(vars(message.properties).get("UserProperty", ())) if message.properties is not None else {}


def _properties(packet: int) -> Any:
    make: Any = Properties
    return make(packet)


def _no_delay(_client: object, _data: object, opened: Any) -> None:
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
