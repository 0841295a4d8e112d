"""paho's client between its inside and its socket: what is read ahead, and what is written together."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from edge.mqtt.connection import Connection
from edge.mqtt.grant import Grant
from edge.mqtt.message import Message
from edge.mqtt.outbox import Ack, Outgoing
from edge.mqtt.settings import LinkSettings
from edge.mqtt.stream import WRITE_BYTES, StreamClient

CONNACK = b"\x20\x03\0\0\0"
PUBLISH = b"\x30\x05\0\x01t\0x"
DISCONNECT = 0xE0


class Ends:
    """A client that is connected, and the broker's end of its socket."""

    def __init__(self) -> None:
        self.came: list[bytes] = []
        self.delivered: list[tuple[int, str]] = []
        self.client: Any = StreamClient(
            lambda message, mid: self.came.append(message.payload), 10_000, protocol=5, manual_ack=True
        )
        self.socket, self.broker = socket.socketpair()
        self.socket.setblocking(False)
        self.client._sock = self.socket
        self.client.on_socket_register_write = lambda *_: None  # somebody calls loop_write later
        self.client.taken = lambda mid, reason: self.delivered.append((mid, str(reason)))
        self.broker.setblocking(False)
        self.broker.sendall(CONNACK)
        self.client.loop_read()

    def send(self, payload: bytes, qos: int) -> int:
        return int(self.client.send("t", payload, qos, retain=False, properties=b"\0"))

    def got(self) -> bytes:
        """All that lies at the broker's end."""
        found = b""
        while True:
            try:
                more = self.broker.recv(1 << 20)
            except BlockingIOError:
                return found
            if not more:
                return found
            found += more


@pytest.fixture
def ends() -> Iterator[Ends]:
    made = Ends()
    yield made
    made.client._sock = None
    made.socket.close()
    made.broker.close()


def test_packets_that_came_together_are_read_one_by_one_without_asking_the_socket(ends: Ends) -> None:
    ends.broker.sendall(PUBLISH * 3 + PUBLISH[:4])
    for left in (True, True, False):
        count = len(ends.came)
        ends.client.loop_read()
        assert len(ends.came) == count + 1
        assert ends.client.more is left
    ends.client.loop_read()
    assert (len(ends.came), ends.client.more) == (3, False), "the fourth is not all there"
    ends.broker.sendall(PUBLISH[4:])
    ends.client.loop_read()
    assert ends.came == [b"x"] * 4


def test_the_end_is_told_behind_all_that_was_read_ahead(ends: Ends) -> None:
    ends.broker.sendall(PUBLISH * 2)
    ends.broker.shutdown(socket.SHUT_WR)
    for _ in range(2):
        ends.client.loop_read()
    assert (ends.came, ends.client.socket() is None) == ([b"x"] * 2, False)
    ends.client.loop_read()
    assert ends.client.socket() is None


class Counting:
    """A socket that counts what it is asked to send."""

    def __init__(self, of: socket.socket) -> None:
        self.of, self.sends = of, 0

    def send(self, data: bytes) -> int:
        self.sends += 1
        return self.of.send(data)


class _Nobody:
    """Is told what a connection tells, and does nothing."""

    def came(self, message: Message, mid: int) -> None: ...
    def delivered(self, mid: int, refused: str) -> None: ...
    def subscribed(self, mid: int, refused: list[str]) -> None: ...
    def unsubscribed(self, mid: int) -> None: ...
    def writable(self) -> None: ...


def test_what_is_written_in_one_turn_goes_in_one_call(ends: Ends) -> None:
    ends.client._sock = counting = Counting(ends.socket)
    for number in range(5):
        ends.send(b"%d" % number, 0)
    assert ends.client.want_write()
    ends.client.loop_write()
    assert not ends.client.want_write()
    assert counting.sends == 1
    assert ends.got() == b"".join(b"\x30\x05\0\x01t\0%d" % number for number in range(5))


async def test_what_is_held_goes_in_one_call_when_it_is_let_go(ends: Ends) -> None:
    connection = Connection(LinkSettings(host="nowhere", client_id="c"), "5", _Nobody())
    counting = Counting(ends.socket)
    connection._client, ends.client._sock, connection._fd = ends.client, counting, ends.socket.fileno()
    connection.hold()
    connection.publish(Outgoing("t", b"x"), Grant())
    connection.ack(Ack(7, 1))
    assert counting.sends == 0
    connection.let_go()
    assert (counting.sends, ends.got()) == (1, PUBLISH + b"\x40\x02\x00\x07")
    for _ in range(2):
        connection.ack(Ack(7, 1))
    assert counting.sends == 3, "what nobody holds goes at once"


def test_what_finds_no_room_is_wanted_to_be_written_and_nothing_is_lost_or_out_of_order(ends: Ends) -> None:
    payloads = [bytes([number]) * (WRITE_BYTES // 3) for number in range(60)] + [b"\xff" * (3 * WRITE_BYTES)]
    for payload in payloads:
        ends.send(payload, 0)
    ends.client.loop_write()
    assert ends.client.want_write(), "nobody reads it"
    found = b""
    while ends.client.want_write():
        found += ends.got()
        ends.client.loop_write()
    found += ends.got()
    at = 0
    for payload in payloads:
        at = found.index(b"t\0" + payload, at) + len(payload)
    assert at == len(found) - 2


def test_a_farewell_goes_behind_what_was_written_before_it(ends: Ends) -> None:
    ends.send(b"last", 0)
    ends.client.disconnect()
    ends.client.loop_write()
    found = ends.got()
    assert found.index(b"last") < found.index(bytes([DISCONNECT]))
    assert ends.client.socket() is None


def test_an_end_that_is_met_in_writing_ends_the_connection(ends: Ends) -> None:
    ends.broker.close()
    for _ in range(3):
        if ends.client.socket() is not None:
            ends.send(b"x", 0)
            ends.client.loop_write()
    assert ends.client.socket() is None


def test_acknowledgements_are_told_with_their_reason_and_once(ends: Ends) -> None:
    first, second = (ends.send(b"x", 1) for _ in range(2))
    bare = b"\x40\x02" + first.to_bytes(2, "big")
    ends.broker.sendall(bare + bare + b"\x40\x03" + second.to_bytes(2, "big") + b"\x10")
    for _ in range(3):
        ends.client.loop_read()
    assert ends.delivered == [(first, "Success"), (second, "No matching subscribers")]


def test_messages_count_as_signs_of_life(ends: Ends) -> None:
    ends.client._keepalive = 60
    ends.client._last_bytes_received -= 120
    ends.broker.sendall(PUBLISH)
    ends.client.loop_read()
    ends.client.loop_misc()
    assert ends.came == [b"x"]
    assert not ends.client.want_write(), "a broker that sends need not be asked whether it is there"


@pytest.mark.parametrize("takes", [True, False])
def test_while_nothing_is_read_a_broker_that_takes_what_is_written_is_alive_and_no_other(
    ends: Ends, takes: bool
) -> None:
    ends.client._keepalive = 60
    ends.client.deaf = True
    ends.client._ping_t = ends.client._last_bytes_received  # it was asked, and its answer is not read
    for _ in range(2):
        ends.client._last_bytes_received -= 120
        ends.client._ping_t -= 120
        if takes:
            ends.send(b"x", 0)
            ends.client.loop_write()
        ends.client.loop_misc()
        ends.client.loop_write()
    assert (ends.client.socket() is not None) is takes


def test_a_subscription_does_not_take_the_identifier_of_a_message_that_is_under_way(ends: Ends) -> None:
    first = ends.send(b"x", 1)
    ends.client._last_mid = first - 1
    assert ends.client.subscribe("t")[1] != first
