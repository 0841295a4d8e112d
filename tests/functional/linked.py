"""A link under test with what it was told, and servers that answer it as a script says."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from edge.mqtt.backoff import Backoff
from edge.mqtt.link import Link
from edge.mqtt.message import Message
from edge.mqtt.settings import LinkSettings
from tests.waiting import until

VERSIONS = ("5", "3.1.1")
IN_TIME_S = 10.0


class Soon(random.Random):
    """Pauses are short. `pauses` counts them: one for each connection that ended, or was not to be had."""

    pauses = 0

    def uniform(self, a: float, b: float) -> float:
        self.pauses += 1
        return min(b, 0.05)


class Halved(random.Random):
    """Pauses as they are on average."""

    def uniform(self, a: float, b: float) -> float:
        return (a + b) / 2


class Subject:
    """A link with what it was told."""

    def __init__(self, settings: LinkSettings, *, answers: bool = True) -> None:
        self.messages: asyncio.Queue[Message] = asyncio.Queue()
        self.connections = 0
        self._answers, self._chance = answers, Soon()
        self.link = Link(settings, self._message, self._connected, backoff=Backoff(self._chance))

    @property
    def pauses(self) -> int:
        return self._chance.pauses

    def _message(self, message: Message) -> None:
        self.messages.put_nowait(message)
        if self._answers:
            self.link.ack(message)

    def _connected(self) -> None:
        self.connections += 1

    async def message(self) -> Message:
        async with asyncio.timeout(IN_TIME_S):
            return await self.messages.get()


def settings(port: int, version: str = "auto", **more: Any) -> LinkSettings:
    wanted: dict[str, Any] = {"host": "127.0.0.1", "port": port, "client_id": "subject", "protocol": version}
    return LinkSettings(**(wanted | more))


@asynccontextmanager
async def running(wanted: LinkSettings, *, connected: bool = True, **more: Any) -> AsyncIterator[Subject]:
    subject = Subject(wanted, **more)
    task = asyncio.create_task(subject.link.run())
    try:
        if connected:
            await until(lambda: subject.link.connected)
        yield subject
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def in_thread(work: Callable[..., Any], *args: Any, **kwargs: Any) -> Awaitable[Any]:
    return asyncio.to_thread(work, *args, **kwargs)


Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def scripted(script: Script, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """The port of a server that runs the script for each connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await script(reader, writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def packet(reader: asyncio.StreamReader) -> bytes:
    """The next packet's head byte and body; bodies here are shorter than 128 bytes."""
    head, length = await reader.readexactly(2)
    return bytes((head,)) + await reader.readexactly(length)
