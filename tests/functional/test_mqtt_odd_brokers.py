"""The link on brokers that are old, mad, mute or away."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
import threading

import pytest

from edge.mqtt import link as link_module
from edge.mqtt.backoff import Backoff
from edge.mqtt.link import Link
from tests.functional.broker import free_port
from tests.functional.linked import IN_TIME_S, VERSIONS, Halved, packet, running, scripted, settings
from tests.waiting import until


async def test_a_link_that_was_taken_over_says_so_and_waits(caplog: pytest.LogCaptureFixture) -> None:
    connections = []

    async def jealous(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await packet(reader)
        connections.append(1)
        writer.write(b"\x20\x03\x00\x00\x00" + b"\xe0\x01\x8e")

    async with scripted(jealous) as port:
        link = Link(settings(port), lambda message: None, backoff=Backoff(Halved()))
        task = asyncio.create_task(link.run())
        await until(lambda: "another client comes as 'subject'" in caplog.text)
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.wait([task])
    assert connections == [1]


async def test_a_broker_of_the_old_protocol_is_spoken_to_in_it() -> None:
    async def old(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connect = await packet(reader)
        if connect[7] == 5:
            writer.write(b"\x20\x02\x00\x01")  # unacceptable protocol version
            return
        writer.write(b"\x20\x02\x00\x00")
        await reader.read()

    async with scripted(old) as port, running(settings(port)) as subject:
        assert subject.link.protocol == "3.1.1"


async def test_a_broker_that_is_told_to_speak_5_and_cannot_is_not_spoken_to(caplog: pytest.LogCaptureFixture) -> None:
    async def old(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await packet(reader)
        writer.write(b"\x20\x02\x00\x01")

    async with scripted(old) as port, running(settings(port, "5"), connected=False) as subject:
        await until(lambda: "Unsupported protocol version" in caplog.text)
        assert not subject.link.connected


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x30\xff\xff\xff\xff\xff",  # a length of five bytes
        b"\x30\x02\xff\xff",  # a topic that is not there
        b"\x30\x07\x00\x01a\x03\x26\x00\x09",  # a property that is cut off
        b"\x30\x06\x00\x01a\x02\x7f\x00",  # a property that there is not
        b"\xf0\x00\x00",  # a packet that only clients may send
        b"\x00\x00",  # none at all
        b"\x90\x00",  # a SUBACK of nothing
        b"\x20\x03\x00\x00\x00",  # a second CONNACK
        b"\x30\xff\xff\xff\x7f\x00",  # the beginning of 256 MiB
        b"\x90\xff\xff\x7f\x00",  # the beginning of a SUBACK of 2 MiB
        b"\x34\x06\x00\x01a\x00\x01\x00",  # QoS 2, which nobody was granted
        b"\x62\x02\x00\x01",  # a PUBREL
        b"\xc0\x00",  # a PINGREQ, which nobody has to answer
    ],
)
async def test_garbage_ends_the_connection_and_not_the_link(garbage: bytes) -> None:
    connections = []

    async def mad(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await packet(reader)
        connections.append(1)
        writer.write(b"\x20\x03\x00\x00\x00" + (garbage if len(connections) == 1 else b""))
        await reader.read()

    async with scripted(mad) as port, running(settings(port), connected=False) as subject:
        await until(lambda: len(connections) == 2 and subject.link.connected)


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_broker_that_sends_more_than_can_be_told_apart_is_left(
    version: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(link_module, "MAX_UNACKED", 50)
    connections = []
    end = b"\x00" if version == "5" else b""
    message = b"\x32" + bytes((5 + len(end),)) + b"\x00\x01a\x00\x01" + end

    async def greedy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await packet(reader)
        connections.append(1)
        most = 51 if len(connections) == 1 else 50
        writer.write((b"\x20\x03\x00\x00\x00" if version == "5" else b"\x20\x02\x00\x00") + message * most)
        await reader.read()

    async with scripted(greedy) as port, running(settings(port, version), connected=False, answers=False) as subject:
        await until(lambda: subject.messages.qsize() == 101 and subject.link.connected)
        assert len(connections) == 2
    assert "more than 50 messages that are not acknowledged" in caplog.text


async def test_a_message_before_the_connack_ends_the_connection_and_is_nobody_s() -> None:
    connections = []

    async def hasty(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await packet(reader)
        connections.append(1)
        early = b"\x30\x05\x00\x01a\x00b" if len(connections) == 1 else b""
        writer.write(early + b"\x20\x03\x00\x00\x00")
        await reader.read()

    async with scripted(hasty) as port, running(settings(port)) as subject:
        assert len(connections) == 2
        assert subject.messages.empty()


async def test_what_comes_right_behind_the_connack_comes_when_the_link_has_said_that_it_is_connected() -> None:
    connected: list[int] = []
    came: list[int] = []

    async def quick(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await packet(reader)
        writer.write(b"\x20\x03\x00\x00\x00" + b"\x30\x05\x00\x01a\x00b" * 100)
        await reader.read()

    async with scripted(quick) as port:
        link = Link(settings(port), lambda _: came.append(len(connected)), lambda: connected.append(1))
        task = asyncio.create_task(link.run())
        await until(lambda: len(came) == 100)
        task.cancel()
        await asyncio.wait([task])
    assert came == [1] * 100


async def test_a_topic_that_is_no_text_is_nobody_s_and_harms_none() -> None:
    async def odd(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await packet(reader)
        writer.write(b"\x20\x03\x00\x00\x00" + b"\x30\x05\x00\x02\xff\xfe\x00" + b"\x30\x05\x00\x01a\x00b")
        await reader.read()

    async with scripted(odd) as port, running(settings(port)) as subject:
        assert [(await subject.message()).topic for _ in range(2)] == ["", "a"]


async def test_a_broker_that_does_not_answer_is_given_up_in_time(caplog: pytest.LogCaptureFixture) -> None:
    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with scripted(mute) as port, running(settings(port, connect_s=0.2), connected=False):
        await until(lambda: "TimeoutError" in caplog.text)


async def test_no_more_publications_are_under_way_than_the_broker_said() -> None:
    came = []

    async def strict(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await packet(reader)
        writer.write(b"\x20\x06\x00\x00\x03\x21" + struct.pack("!H", 2))
        while True:
            body = await packet(reader)
            came.append(body)
            if len(came) == 2:  # then nothing comes before these have been acknowledged
                await asyncio.sleep(0.1)
                assert len(came) == 2
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(asyncio.shield(reader.read(1)), 0.05)
                came.append(b"waited")
                return

    async with scripted(strict) as port, running(settings(port)) as subject:
        for number in range(5):
            subject.link.publish("t", str(number), qos=1)
        await until(lambda: b"waited" in came)


async def test_an_end_while_connecting_waits_for_nobody() -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(1)
        loop = asyncio.get_running_loop()
        async with running(settings(deaf.getsockname()[1], connect_s=60.0), connected=False):
            await asyncio.sleep(0.05)
            leaving = loop.time()
        assert loop.time() - leaving < 5


async def test_without_a_broker_there_is_one_line_of_log_for_many_tries(caplog: pytest.LogCaptureFixture) -> None:
    async with running(settings(free_port()), connected=False) as subject:
        subject.link.publish("state", b"x", qos=1, retain=True)
        await until(lambda: subject.pauses >= 5)
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1


async def test_a_subscription_that_the_broker_refuses_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def strict(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await packet(reader)
        writer.write(b"\x20\x03\x00\x00\x00")
        subscribe = await packet(reader)
        writer.write(b"\x90\x04" + subscribe[1:3] + b"\x00\x87")
        await reader.read()

    async with scripted(strict) as port, running(settings(port)) as subject:
        subject.link.subscribe("forbidden")
        await until(lambda: "does not let subject subscribe to forbidden: Not authorized" in caplog.text)
        assert subject.link.connected


def test_a_connection_that_is_reset_behind_what_was_sent_is_noticed_at_once() -> None:
    """On uvloop, which tells once that a socket has failed, and never that there is still something to read from it."""
    uvloop = pytest.importorskip("uvloop")
    may_go, gone = threading.Event(), threading.Event()
    connections: list[int] = []

    def broker(listening: socket.socket) -> None:
        while len(connections) < 2:
            opened, _ = listening.accept()
            with opened:
                opened.recv(1000)
                opened.sendall(b"\x20\x03\x00\x00\x00")
                connections.append(1)
                if len(connections) == 1:
                    may_go.wait(IN_TIME_S)
                    opened.sendall(b"\x30\x05\x00\x01a\x00b" * 5)
                    opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            gone.set()

    async def scenario(port: int) -> int:
        async with running(settings(port)) as subject:
            may_go.set()
            gone.wait(IN_TIME_S)  # nobody else may run until all of it is there
            await until(lambda: len(connections) == 2)
            assert subject.link.publish("a", b"", qos=1)
            return subject.messages.qsize()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=broker, args=(listening,))
        thread.start()
        try:
            assert uvloop.run(scenario(listening.getsockname()[1])) == 5
        finally:
            while thread.is_alive():  # let it accept for the last time
                socket.create_connection(listening.getsockname()).close()
                thread.join(0.1)
