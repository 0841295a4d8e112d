"""The link on a real broker."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from edge.mqtt.backoff import Backoff
from edge.mqtt.link import Link
from edge.mqtt.message import Message, Properties
from edge.mqtt.settings import Will
from tests.functional.broker import Broker, Peer, running_broker
from tests.functional.linked import IN_TIME_S, VERSIONS, Halved, in_thread, running, settings
from tests.waiting import until


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("qos", [0, 1])
async def test_messages_come_and_go(broker: Broker, version: str, qos: int) -> None:
    async with running(settings(broker.port, version)) as subject:
        assert subject.link.protocol == version
        with broker.peer() as peer:
            await in_thread(peer.subscribe, "out")
            subject.link.subscribe("in/+", qos)
            assert subject.link.publish("out", "subscribed", qos=1)
            await in_thread(peer.get)
            await in_thread(peer.publish, "in/x", b"hello", qos=qos)
            message = await subject.message()
            assert (message.topic, message.payload, message.qos, message.retain) == ("in/x", b"hello", qos, False)
            assert subject.link.publish("out", b"\0\xff" * 50_000, qos=qos)
            answer = await in_thread(peer.get)
            assert (answer.payload, answer.qos) == (b"\0\xff" * 50_000, qos)


async def test_properties_travel_both_ways(broker: Broker) -> None:
    sent = Properties("a/b", b"\x01\x02", 30, "application/json", (("status", "200"), ("status", "201")), True)
    async with running(settings(broker.port)) as subject:
        subject.link.subscribe("echo")
        subject.link.publish("echo", b"x", qos=1, properties=sent)
        assert (await subject.message()).properties == sent


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_broker_that_was_killed_is_subscribed_to_again(broker: Broker, version: str) -> None:
    async with running(settings(broker.port, version)) as subject:
        subject.link.subscribe("in")
        await in_thread(broker.kill)
        await until(lambda: not subject.link.connected)
        await in_thread(broker.start)
        await until(lambda: subject.connections == 2)
        with broker.peer() as peer:
            await in_thread(peer.publish_until_taken, "in", b"again")
        assert (await subject.message()).payload == b"again"


@pytest.mark.parametrize("version", VERSIONS)
async def test_what_is_published_while_the_broker_is_away_comes_when_it_is_back(broker: Broker, version: str) -> None:
    async with running(settings(broker.port, version)) as subject:
        await in_thread(broker.kill)
        await until(lambda: not subject.link.connected)
        assert subject.link.publish("kept", b"1", qos=1, retain=True)
        assert subject.link.publish("state", b"old", qos=1, retain=True)
        assert subject.link.publish("state", b"new", qos=1, retain=True)
        assert not subject.link.publish("gone", b"3", qos=0)
        await in_thread(broker.start)
        with broker.peer() as peer:
            await in_thread(peer.subscribe, "kept", "state", "gone")
            await in_thread(peer.get_from, "kept")
            assert (await in_thread(peer.get_from, "state")).payload == b"new"
        assert subject.link.dropped == 1


async def test_subscriptions_that_change_while_the_broker_is_away_are_brought_in_line(
    mosquitto: str, tmp_path: Path
) -> None:
    with running_broker(mosquitto, tmp_path / "b", persistence=True) as broker:
        async with running(settings(broker.port, "5")) as subject:
            subject.link.subscribe("old")
            subject.link.subscribe("stays")
            await subject.link.flush(1)
            await until(lambda: "SUBACK" in broker.log.read_text())
            await in_thread(broker.stop)  # in good order: its sessions are on disk
            await until(lambda: not subject.link.connected)
            subject.link.unsubscribe("old")
            subject.link.subscribe("new")
            await in_thread(broker.start)
            await until(lambda: subject.connections == 2)
            with broker.peer() as peer:
                await in_thread(peer.publish_until_taken, "new", b"")
                assert await in_thread(peer.publish, "old", b"") == "No matching subscribers"
                assert await in_thread(peer.publish, "stays", b"") == "Success"


async def test_no_more_unacked_messages_come_than_receive_maximum(broker: Broker) -> None:
    async with running(settings(broker.port, receive_maximum=4), answers=False) as subject:
        subject.link.subscribe("in")
        with broker.peer() as peer:
            for number in range(12):
                await in_thread(peer.publish_until_taken, "in", str(number))
            held = [await subject.message() for _ in range(4)]
            with pytest.raises(asyncio.QueueEmpty):
                subject.messages.get_nowait()
            for message in reversed(held[1:]):
                subject.link.ack(message)
            await subject.link.flush(1)
            with pytest.raises(asyncio.QueueEmpty):
                subject.messages.get_nowait()
            subject.link.ack(held[0])
            more = [await subject.message() for _ in range(4)]
        assert [message.payload for message in (*held, *more)] == [str(number).encode() for number in range(8)]


async def test_what_was_not_acked_comes_again_on_the_next_connection(broker: Broker) -> None:
    wanted = settings(broker.port)
    async with running(wanted, answers=False) as first:
        first.link.subscribe("in")
        with broker.peer() as peer:
            await in_thread(peer.publish_until_taken, "in", b"once more")
        assert not (await first.message()).dup
    async with running(wanted) as second:
        message = await second.message()
        assert message.payload == b"once more"
        assert message.dup


@pytest.mark.parametrize("version", VERSIONS)
async def test_the_will_is_published_when_the_link_is_cut_and_not_after_a_farewell(
    broker: Broker, version: str
) -> None:
    will = Will("status", b"offline", delay_s=0)
    with broker.peer() as peer:
        await in_thread(peer.subscribe, "status")
        async with running(settings(broker.port, version, will=will)) as subject:
            subject.link.publish("status", b"bye", qos=1, retain=True)
            await subject.link.close()
            assert not subject.link.connected
        assert (await in_thread(peer.get)).payload == b"bye"
        async with running(settings(broker.port, version, will=will)):
            pass
        assert (await in_thread(peer.get)).payload == b"offline"


async def test_a_link_that_is_closed_sends_all_that_waits_first(broker: Broker) -> None:
    with broker.peer() as peer:
        await in_thread(peer.subscribe, "out")
        async with running(settings(broker.port)) as subject:
            for number in range(200):
                assert subject.link.publish("out", str(number), qos=1)
            await subject.link.close(IN_TIME_S)
        assert [(await in_thread(peer.get)).payload for _ in range(200)] == [str(n).encode() for n in range(200)]


async def test_two_links_with_one_name_do_not_fight(broker: Broker, caplog: pytest.LogCaptureFixture) -> None:
    """This broker does not say why it closes: it takes a few rounds until they see."""
    links = [Link(settings(broker.port), lambda message: None, backoff=Backoff(Halved())) for _ in range(2)]
    tasks = [asyncio.create_task(link.run()) for link in links]
    await until(lambda: "another client comes as 'subject'" in caplog.text)
    connections = broker.log.read_text().count("New client connected")
    assert connections <= 12
    await asyncio.sleep(2)  # the pause is 12 s now
    assert [link.connected for link in links].count(True) == 1
    assert broker.log.read_text().count("New client connected") <= connections + 1
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def test_the_socket_does_not_wait_for_more_to_send(broker: Broker) -> None:
    async with running(settings(broker.port)) as subject:
        connection = subject.link._connection
        assert connection is not None
        assert connection._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


async def test_a_frozen_broker_is_noticed_within_two_keepalives(broker: Broker) -> None:
    async with running(settings(broker.port, keepalive_s=1)) as subject:
        broker.freeze()
        try:
            await until(lambda: not subject.link.connected)
        finally:
            broker.thaw()
        await until(lambda: subject.link.connected)


async def test_a_bug_of_whoever_listens_stops_nothing(broker: Broker, caplog: pytest.LogCaptureFixture) -> None:
    seen = []

    def buggy(message: Message) -> None:
        seen.append(message.payload)
        raise RuntimeError("a bug")

    link = Link(settings(broker.port, receive_maximum=1), buggy)
    link.subscribe("in")
    task = asyncio.create_task(link.run())
    for payload in (b"1", b"2"):
        link.publish("in", payload, qos=1)
    await until(lambda: len(seen) == 2)
    assert seen == [b"1", b"2"]
    assert "was not dealt with" in caplog.text
    task.cancel()
    await asyncio.wait([task])


def test_a_peer_of_the_tests_is_not_the_link(broker: Broker) -> None:
    with Peer(broker.port) as peer:
        assert peer.publish("nobody", b"") == "No matching subscribers"
