"""What is sent, and what is given up, on connections that end."""

from __future__ import annotations

import asyncio
from typing import Any

from edge.mqtt.grant import Grant
from edge.mqtt.outbox import Ack, Outbox, Outgoing
from edge.mqtt.sender import MAX_TRIES, UNSENT_ACKS, UNSENT_BYTES, UNSENT_PACKETS, Sender


class Wire:
    """A connection that keeps what it is told to send. `drained`: the socket takes it at once."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.acked: list[int] = []
        self.together: list[list[str]] = []
        self._held: list[str] = []
        self.drained = True
        self.reading = True
        self.ended: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def publish(self, item: Outgoing, grant: Grant) -> int:
        self.sent.append(item.topic)
        self._held.append(item.topic)
        return len(self.sent) if item.qos else 0

    def ack(self, ack: Ack) -> None:
        self.acked.append(ack.mid)
        self._held.append(f"ack {ack.mid}")

    def hold(self) -> None:
        self._held = []

    def let_go(self) -> None:
        """`together` has what goes to the socket in one go."""
        self.together.append(self._held)

    def pause(self) -> None:
        assert self.reading
        self.reading = False

    def resume(self) -> None:
        assert not self.reading
        self.reading = True


class Rig:
    def __init__(self, max_queued: int = 100) -> None:
        self.outbox = Outbox(max_queued, 1 << 24)
        self.sender = Sender(self.outbox)
        self.wire: Any = None

    def connect(self) -> None:
        self.wire = Wire()
        self.sender.connected(self.wire, Grant())

    async def taken(self, mid: int) -> None:
        self.sender.delivered(mid, "")
        await asyncio.sleep(0)
        await asyncio.sleep(0)


async def test_one_that_connections_end_over_is_given_up_and_nothing_else_is() -> None:
    rig = Rig()
    ends: list[tuple[str, bool]] = []
    rig.connect()
    rig.sender.publish(Outgoing("before", b"", 1))
    rig.sender.publish(Outgoing("poison", b"", 1, ended=lambda why, for_ever: ends.append((why, for_ever))))
    rig.sender.publish(Outgoing("behind", b"", 1))
    assert rig.wire.sent == ["before", "poison", "behind"]
    rig.sender.lost()
    rig.connect()
    assert rig.wire.sent == ["before"]
    await rig.taken(1)
    for _ in range(MAX_TRIES - 1):
        assert rig.wire.sent[-1] == "poison"
        rig.sender.lost()
        rig.connect()
    assert ends == [(f"{MAX_TRIES} connections ended over it", True)]
    assert rig.outbox.dropped == 1
    assert rig.wire.sent == ["behind"]


async def test_what_was_sent_before_goes_alone_and_all_else_again_together() -> None:
    rig = Rig()
    rig.connect()
    rig.sender.publish(Outgoing("a", b"", 1))
    rig.sender.lost()
    for topic in ("b", "c"):
        rig.sender.publish(Outgoing(topic, b"", 1))
    rig.connect()
    assert rig.wire.sent == ["a"]
    await rig.taken(1)
    assert rig.wire.sent == ["a", "b", "c"]


async def test_nothing_is_read_while_more_waits_than_the_socket_takes() -> None:
    rig = Rig(max_queued=100)
    rig.connect()
    rig.wire.drained = False
    for _ in range(UNSENT_PACKETS + 49):
        rig.sender.publish(Outgoing("t", b""))
    assert rig.wire.reading
    rig.sender.publish(Outgoing("t", b""))
    assert not rig.wire.reading
    rig.sender.writable()
    assert rig.sender.waiting == 50 - UNSENT_PACKETS
    assert rig.wire.reading


async def test_no_more_bytes_are_handed_over_than_may_be_kept_for_the_socket() -> None:
    rig = Rig(max_queued=100)
    rig.connect()
    rig.wire.drained = False
    quarter = bytes(UNSENT_BYTES // 4)
    for _ in range(6):
        rig.sender.publish(Outgoing("t", quarter))
    assert len(rig.wire.sent) == 4
    rig.sender.writable()
    assert len(rig.wire.sent) == 6
    rig.sender.writable()
    rig.wire.drained = True
    for _ in range(9):
        rig.sender.publish(Outgoing("t", quarter))
    assert len(rig.wire.sent) == 15, "a socket that takes all of it at once holds nothing back"


async def test_nothing_is_read_while_more_acks_wait_than_the_socket_takes() -> None:
    rig = Rig(max_queued=100)
    rig.connect()
    for mid in range(2 * UNSENT_ACKS):
        rig.sender.ack([Ack(mid, 1)])
    assert rig.wire.reading
    assert not rig.sender.waiting
    rig.sender.lost()
    rig.connect()
    rig.wire.drained = False
    for mid in range(UNSENT_ACKS + 49):
        rig.sender.ack([Ack(mid, 1)])
    assert rig.wire.reading
    rig.sender.ack([Ack(UNSENT_ACKS + 49, 1)])
    assert not rig.wire.reading
    assert rig.wire.acked == list(range(UNSENT_ACKS))
    rig.sender.writable()
    assert rig.wire.acked == list(range(UNSENT_ACKS + 50))
    assert rig.wire.reading


async def test_what_waits_for_acknowledgements_does_not_keep_them_from_being_read() -> None:
    rig = Rig(max_queued=40)
    rig.connect()
    for _ in range(60):
        rig.sender.publish(Outgoing("t", b"", 1))
    assert rig.wire.reading
    rig.wire.drained = False
    for _ in range(60):
        rig.sender.publish(Outgoing("t", b""))
    assert rig.wire.reading


async def test_whoever_found_no_room_is_told_when_something_has_gone() -> None:
    rig = Rig(max_queued=2)
    rig.connect()
    rig.wire.drained = False
    for _ in range(UNSENT_PACKETS + 2):
        assert rig.sender.publish(Outgoing("t", b"", 0, retain=False))
    assert not rig.sender.publish(Outgoing("late", b""))
    waiting = asyncio.ensure_future(rig.sender.room())
    await asyncio.sleep(0)
    assert not waiting.done()
    rig.sender.writable()
    await asyncio.wait_for(waiting, 5)
    assert rig.sender.publish(Outgoing("late", b""))


async def test_an_answer_and_the_acks_that_it_lets_go_are_written_together() -> None:
    rig = Rig()
    rig.connect()
    assert rig.sender.publish(Outgoing("answer", b""), lambda: [Ack(1, 1), Ack(2, 1)])
    assert rig.wire.together[-1] == ["answer", "ack 1", "ack 2"]


async def test_nothing_is_acked_whose_answer_finds_no_room() -> None:
    rig = Rig(max_queued=1)
    rig.sender.publish(Outgoing("waits", b"", 1))
    assert not rig.sender.publish(Outgoing("answer", b"", 1), lambda: [Ack(1, 1)])
    rig.connect()
    assert (rig.wire.sent, rig.wire.acked) == (["waits"], [])
