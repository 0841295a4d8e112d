"""The end of a listener: who had connected is answered, and a socket of somebody else stays as it is."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from edge.frontends.http.limits import HttpLimits
from edge.frontends.http.listener import Listener
from edge.frontends.http.message import Request, Response
from tests.waiting import until

REQUEST = b"GET /v2 HTTP/1.1\r\nHost: localhost\r\n\r\n"
DRAIN_S = 5.0


async def hello(request: Request) -> Response:
    return Response(200, b"hello")


@asynccontextmanager
async def adopting(given: socket.socket, *, last_call_s: float = 0.5) -> AsyncIterator[Listener]:
    listener = Listener(hello, HttpLimits(last_call_s=last_call_s))
    await listener.adopt(given)
    try:
        yield listener
    finally:
        await listener.close(0.0)


@pytest.fixture
def given() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        made.setblocking(False)
        yield made


async def answer(to: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> bytes:
    """All that comes until the other side closes."""
    reader, writer = to
    text = await asyncio.wait_for(reader.read(), 10.0)
    writer.close()
    return text


async def connected(given: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(*given.getsockname())


async def test_those_who_wait_at_a_socket_that_was_adopted_are_let_in_when_it_accepts(given: socket.socket) -> None:
    async with adopting(given) as listener:
        early = await connected(given)
        early[1].write(REQUEST)
        await asyncio.sleep(0.05)
        assert listener.connections == 0
        await listener.accept()
        assert (await asyncio.wait_for(early[0].readuntil(b"hello"), 10.0)).startswith(b"HTTP/1.1 200")
        early[1].close()


async def test_who_had_connected_when_the_end_began_may_still_ask(given: socket.socket) -> None:
    async with adopting(given) as listener:
        await listener.accept()
        fresh, idle = await connected(given), await connected(given)
        idle[1].write(REQUEST)
        assert b"200" in await idle[0].readline()
        await until(lambda: listener.connections == 2)
        ending = asyncio.create_task(listener.close(DRAIN_S))
        await asyncio.sleep(0)
        for each in fresh, idle:
            each[1].write(REQUEST)
        assert (await answer(fresh)).endswith(b"hello")
        assert (await answer(idle)).count(b"hello") == 2
        await ending


async def test_who_waits_at_the_socket_is_not_taken_in_at_the_end_and_is_the_next_ones(given: socket.socket) -> None:
    kept = given.dup()
    with kept:
        kept.setblocking(False)
        async with adopting(given, last_call_s=0.0):
            early = await connected(kept)
            early[1].write(REQUEST)
        async with adopting(kept) as after:
            await after.accept()
            assert b"hello" in await asyncio.wait_for(early[0].readuntil(b"hello"), 10.0)
            early[1].close()


async def test_an_end_waits_for_nobody_who_does_not_ask(given: socket.socket) -> None:
    async with adopting(given, last_call_s=0.05) as listener:
        await listener.accept()
        silent = await connected(given)
        await until(lambda: listener.connections)
        start = asyncio.get_running_loop().time()
        await listener.close(DRAIN_S)
        assert asyncio.get_running_loop().time() - start < 1.0
        assert await answer(silent) == b""
