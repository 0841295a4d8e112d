"""The link on a broker that sends faster than it is answered."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from edge.mqtt.connection import PACKETS_A_TURN
from edge.mqtt.link import Link
from edge.mqtt.message import Message, variable_length
from tests.functional.linked import IN_TIME_S, packet, scripted, settings
from tests.waiting import until


async def closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_of_a_flood_no_more_is_read_in_a_turn_of_the_loop_than_is_bounded(loop: str) -> None:
    run = asyncio.run if loop == "asyncio" else pytest.importorskip("uvloop").run
    flood = 2_000
    turns: list[int] = []
    over = asyncio.Event()

    async def flooding(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await packet(reader)
        writer.write(b"\x20\x03\x00\x00\x00" + b"\x30\x05\x00\x01a\x00b" * flood)
        await reader.read()
        await closed(writer)
        over.set()

    async def scenario() -> None:
        count = 0

        def came(_message: Message) -> None:
            nonlocal count
            if not count:
                asyncio.get_running_loop().call_soon(turn_is_over)
            count += 1
            link.publish("answer", b"", qos=1)  # what waits for the broker let paho read more at a time

        def turn_is_over() -> None:
            nonlocal count
            turns.append(count)
            count = 0

        async with scripted(flooding) as port:
            link = Link(settings(port), came)
            task = asyncio.create_task(link.run())
            await until(lambda: sum(turns) == flood)
            task.cancel()
            await asyncio.wait([task])
            await asyncio.wait_for(over.wait(), IN_TIME_S)

    run(scenario())
    assert max(turns) <= 2 * PACKETS_A_TURN  # one turn's call comes in the midst of the next one's reading


async def test_while_a_broker_does_not_take_the_answers_no_more_requests_are_read() -> None:
    """It sends as fast as it can, and does not read; then it does, and all that there is room for comes."""
    may_read, over, sent = asyncio.Event(), asyncio.Event(), 0
    answer, room = bytes(50_000), 40
    request = b"\x30" + variable_length(5004) + b"\x00\x01a\x00" + bytes(5000)

    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await packet(reader)
        writer.write(b"\x20\x03\x00\x00\x00")
        while not may_read.is_set():
            writer.write(request * 50)
            sent += 50
            with suppress(TimeoutError):
                await asyncio.wait_for(writer.drain(), 0.3)
                continue
            may_read.set()  # it waits for who reads no more
        while await reader.read(1 << 20):
            pass
        await closed(writer)
        over.set()

    async with scripted(deaf) as port:
        link = Link(settings(port, max_queued=room), lambda _: count())
        came = 0

        def count() -> None:
            nonlocal came
            came += 1
            link.publish("answer", answer)

        task = asyncio.create_task(link.run())
        await may_read.wait()
        assert came < sent
        await until(lambda: came == sent and not link.waiting)
        task.cancel()
        await asyncio.wait([task])
        await asyncio.wait_for(over.wait(), IN_TIME_S)
