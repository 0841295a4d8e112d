"""Which packets are read, and how long they may be."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge.mqtt.message import NO_PROPERTIES, Message, variable_length
from edge.mqtt.packets import MARGIN_BYTES, MAX_CONTROL_BYTES
from edge.mqtt.publications import MAX_PROPERTIES_BYTES, Malformed, read_publish
from edge.mqtt.stream import StreamClient

MOST = 10_000
CONNACK = {5: b"\x20\x03\0\0\0", 4: b"\x20\x02\0\0"}
EMPTY_USER_PROPERTY = b"\x26\0\0\0\0"
KINDS = range(16)


class Wire:
    """paho's client, and the other end of its socket."""

    def __init__(self, version: int) -> None:
        self.came: list[tuple[Message, int]] = []
        self.client: Any = StreamClient(
            lambda message, mid: self.came.append((message, mid)), MOST, protocol=version, manual_ack=True
        )
        self.client._sock, self.broker = socket.socketpair()
        self.client._sock.setblocking(False)
        self.version = version

    def reads(self, *packets: bytes) -> None:
        """Raises what reading them does."""
        for packet in packets:
            for at in range(0, len(packet), 50_000):
                self.broker.sendall(packet[at : at + 50_000])
                for _ in range(20):
                    self.client.loop_read()


@pytest.fixture
def wired() -> Iterator[Callable[[int], Wire]]:
    made: list[Wire] = []

    def make(version: int) -> Wire:
        made.append(Wire(version))
        return made[-1]

    yield make
    for each in made:
        each.client._sock_close()
        each.broker.close()


def framed(head: int, body: bytes) -> bytes:
    return bytes((head,)) + variable_length(len(body)) + body


def publish(payload: bytes, *, head: int = 0x30, version: int = 5) -> bytes:
    mid = b"\0\x07" if head & 6 else b""
    return framed(head, b"\0\x01t" + mid + (b"\0" if version == 5 else b"") + payload)


@pytest.mark.parametrize("version", [5, 4])
def test_nothing_is_read_before_the_brokers_connack(wired: Callable[[int], Wire], version: int) -> None:
    wire = wired(version)
    with pytest.raises(Malformed, match="want one CONNACK, first of all; got type 3 before it"):
        wire.reads(publish(b"x", version=version))
    assert not wire.came


@pytest.mark.parametrize("version", [5, 4])
def test_a_second_connack_is_none(wired: Callable[[int], Wire], version: int) -> None:
    with pytest.raises(Malformed, match="got type 2 behind it"):
        wired(version).reads(CONNACK[version], CONNACK[version])


def test_a_publication_that_is_longer_than_the_broker_was_told_is_not_read(wired: Callable[[int], Wire]) -> None:
    wire = wired(5)
    wire.reads(CONNACK[5], publish(bytes(MOST - 4)))
    with pytest.raises(Malformed, match=f"of type 3 of at most {MOST} bytes, got {MOST + 1}"):
        wire.reads(publish(bytes(MOST - 3))[:20])
    assert len(wire.came) == 1


def test_of_one_that_is_longer_in_3_1_1_no_more_is_kept_than_shows_that_it_is(wired: Callable[[int], Wire]) -> None:
    wire = wired(4)
    wire.reads(CONNACK[4], publish(bytes(10 * MARGIN_BYTES), head=0x32, version=4), publish(b"next", version=4))
    (long, mid), (following, _) = wire.came
    assert mid == 7
    assert MOST < len(long.payload) <= 2 * MOST + MARGIN_BYTES
    assert following.payload == b"next"


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {3}))
def test_no_other_packet_may_be_long(wired: Callable[[int], Wire], kind: int) -> None:
    wire = wired(5)
    if kind != 2:
        wire.reads(CONNACK[5])
    with pytest.raises(Malformed):
        wire.reads(bytes((kind << 4,)) + variable_length(MAX_CONTROL_BYTES + 1) + b"\0")


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {2, 3, 4, 9, 11, 13, 14}))
def test_what_belongs_to_qos_2_and_what_clients_send_is_not_read(wired: Callable[[int], Wire], kind: int) -> None:
    wire = wired(5)
    with pytest.raises(Malformed, match=f"got type {kind}"):
        wire.reads(CONNACK[5], framed(kind << 4, b""))


def test_a_publication_of_qos_2_ends_the_connection_before_it_is_read(wired: Callable[[int], Wire]) -> None:
    wire = wired(5)
    with pytest.raises(Malformed, match="want QoS 0 or 1, as was subscribed, got 2"):
        wire.reads(CONNACK[5], publish(bytes(100), head=0x34)[:5])


def test_what_paho_unpacks_itself_takes_it_no_time() -> None:
    packed = EMPTY_USER_PROPERTY * (MAX_CONTROL_BYTES // 5)
    make: Any = Properties
    began = time.process_time()
    make(PacketTypes.CONNACK).unpack(variable_length(len(packed)) + packed)
    assert time.process_time() - began < 0.1


def test_millions_of_properties_of_a_publication_take_no_time_either() -> None:
    packed = EMPTY_USER_PROPERTY * (4 << 20)
    body = b"\0\x01t" + variable_length(len(packed)) + packed + b"payload"
    began = time.process_time()
    message, _ = read_publish(0x30, body, five=True)
    assert time.process_time() - began < 0.1
    assert (message.properties, message.payload) == (NO_PROPERTIES, b"payload")


def test_as_many_properties_as_are_looked_at_are_read_at_once() -> None:
    packed = EMPTY_USER_PROPERTY * (MAX_PROPERTIES_BYTES // 5)
    began = time.process_time()
    message, _ = read_publish(0x30, b"\0\x01t" + variable_length(len(packed)) + packed, five=True)
    assert time.process_time() - began < 0.1
    assert len(message.properties.user) == 64
