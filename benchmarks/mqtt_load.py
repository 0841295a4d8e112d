"""Requests over MQTT 5 from a bare socket, so many at once, every answer checked.

Rule 1: the packets are made once; in each only the packet identifier and the correlation are written anew.
Rule 2: a request counts when its answer is here, the right one, with the correlation that was sent. Anything else ends the run.
Source: MQTT Version 5.0, OASIS Standard, 3.1 to 3.8.
"""

from __future__ import annotations

import socket
import struct
import time
from dataclasses import dataclass, field

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK = 0x10, 0x20, 0x30, 0x40, 0x82, 0x90
EXPIRY, CONTENT_TYPE, RESPONSE_TOPIC, CORRELATION, USER = 0x02, 0x03, 0x08, 0x09, 0x26
_NUMBERS = {0x01: 1, EXPIRY: 4, 0x0B: 1, 0x23: 2}
CORRELATION_BYTES = 8
ANSWER_WITHIN_S = 10.0
READ_BYTES = 1 << 18


@dataclass
class Seen:
    """Latencies in seconds, in the order of the answers; `seconds` is how long it all took."""

    took: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def per_s(self) -> float:
        return len(self.took) / self.seconds


class Generator:
    """One connection that asks at `topic`. `right` is the answer; None takes the first one that comes."""

    def __init__(self, port: int, topic: str, payload: bytes, *, qos: int, content_type: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=ANSWER_WITHIN_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._qos, self._rest = qos, bytearray()
        name = f"load-{port}-{self._socket.getsockname()[1]}"
        reply = f"edge/v1/_reply/{name}"
        self._packet, self._id_at, self._correlation_at = _publish(topic, reply, payload, qos, content_type)
        self._socket.sendall(_packet(CONNECT, b"\0\4MQTT\5\2\0\0\0" + _text(name)))
        self._socket.sendall(_packet(SUBSCRIBE, b"\0\1\0" + _text(reply) + bytes([qos])))
        self._got: set[int] = set()
        while not {CONNACK, SUBACK} <= self._got:
            self._read()
        self.right: bytes | None = None

    def close(self) -> None:
        self._socket.close()

    def run(self, window: int, seconds: float) -> Seen:
        """`window` requests are out at any time. Raises RuntimeError for a wrong answer, TimeoutError for none."""
        seen, sent = Seen(), {}
        start = now = time.perf_counter()
        number = 0
        for _ in range(window):
            sent[number := number + 1] = now
            self._send(number)
        while sent:
            answered = self._read()
            now = time.perf_counter()
            for correlation in answered:
                seen.took.append(now - sent.pop(correlation))
                if now - start < seconds:
                    sent[number := number + 1] = now
                    self._send(number)
        seen.seconds = now - start
        return seen

    def _send(self, number: int) -> None:
        if self._qos:
            struct.pack_into("!H", self._packet, self._id_at, number % 0xFFFF + 1)
        struct.pack_into("!Q", self._packet, self._correlation_at, number)
        self._socket.sendall(self._packet)

    def _read(self) -> list[int]:
        """The correlations of the answers that are here; at least one packet has come."""
        more = self._socket.recv(READ_BYTES)
        if not more:
            raise RuntimeError("the broker closed the connection")
        self._rest += more
        answered: list[int] = []
        acks = bytearray()
        view = bytes(self._rest)
        at = 0
        while (found := _whole(view, at)) is not None:
            head, start, end = found
            self._got.add(head & 0xF0)
            if head & 0xF0 == PUBLISH:
                qos = head >> 1 & 3
                identifier, correlation = self._check(view[start:end], qos)
                answered.append(correlation)
                if qos:
                    acks += bytes([PUBACK, 2]) + identifier
            at = end
        del self._rest[:at]
        if acks:
            self._socket.sendall(acks)
        return answered

    def _check(self, body: bytes, qos: int) -> tuple[bytes, int]:
        at = 2 + int.from_bytes(body[:2], "big")
        identifier = body[at : at + 2] if qos else b""
        properties, payload_at = _properties(body, at + len(identifier))
        correlation = properties.get(CORRELATION, [b""])[0]
        payload = body[payload_at:]
        status = dict(_pair(one) for one in properties.get(USER, ())).get(b"status", b"200")
        if self.right is None:
            self.right = payload
        if status != b"200" or payload != self.right or len(correlation) != CORRELATION_BYTES:
            raise RuntimeError(f"a wrong answer: status {status!r}, correlation {correlation!r}, {payload[:200]!r}")
        return identifier, int.from_bytes(correlation, "big")


def _publish(topic: str, reply: str, payload: bytes, qos: int, content_type: str) -> tuple[bytearray, int, int]:
    """The packet, and where in it the packet identifier and the correlation stand."""
    properties = bytes([CONTENT_TYPE]) + _text(content_type) + bytes([RESPONSE_TOPIC]) + _text(reply)
    properties += bytes([EXPIRY]) + struct.pack("!I", 30)
    properties += bytes([CORRELATION]) + struct.pack("!H", CORRELATION_BYTES) + bytes(CORRELATION_BYTES)
    head = _text(topic)
    variable = head + (b"\0\0" if qos else b"") + _varint(len(properties)) + properties
    packet = bytearray(_packet(PUBLISH | qos << 1, variable + payload))
    begin = len(packet) - len(payload) - len(variable)
    return packet, begin + len(head), len(packet) - len(payload) - CORRELATION_BYTES


def _packet(head: int, body: bytes) -> bytes:
    return bytes([head]) + _varint(len(body)) + body


def _varint(number: int) -> bytes:
    made = bytearray()
    while True:
        number, low = number >> 7, number & 0x7F
        made.append(low | (0x80 if number else 0))
        if not number:
            return bytes(made)


def _text(text: str) -> bytes:
    return struct.pack("!H", len(text)) + text.encode()


def _read_varint(data: bytes, at: int) -> tuple[int, int] | None:
    """The number and where it ends; None while it is not all there."""
    number = shift = 0
    while at < len(data):
        number |= (data[at] & 0x7F) << shift
        at += 1
        if data[at - 1] < 0x80:
            return number, at
        shift += 7
    return None


def _whole(data: bytes, at: int) -> tuple[int, int, int] | None:
    """Of the packet at `at`: its first byte, where its body begins and where it ends."""
    found = _read_varint(data, at + 1)
    if found is None or found[1] + found[0] > len(data):
        return None
    return data[at], found[1], found[1] + found[0]


def _properties(body: bytes, at: int) -> tuple[dict[int, list[bytes]], int]:
    """Their values by identifier, without their lengths, and where they end. Of a PUBLISH only."""
    found = _read_varint(body, at)
    assert found is not None
    length, at = found
    end = at + length
    values: dict[int, list[bytes]] = {}
    while at < end:
        kind = body[at]
        start = at + 1
        if kind in _NUMBERS:
            at = start + _NUMBERS[kind]
        elif kind == USER:
            first = start + 2 + int.from_bytes(body[start : start + 2], "big")
            at = first + 2 + int.from_bytes(body[first : first + 2], "big")
        else:
            at = start + 2 + int.from_bytes(body[start : start + 2], "big")
            start += 2
        values.setdefault(kind, []).append(body[start:at])
    return values, end


def _pair(value: bytes) -> tuple[bytes, bytes]:
    """Of a user property."""
    at = 2 + int.from_bytes(value[:2], "big")
    return value[2:at], value[at + 2 :]
