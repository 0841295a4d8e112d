"""What goes over a wire, counted: a proxy on the loopback that hides nothing and changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

STEP_BYTES = 1 << 16


@dataclass(slots=True)
class Wire:
    """Bytes of all connections so far: `up` to the server, `down` from it; and requests of HTTP."""

    port: int = 0
    up: int = 0
    down: int = 0
    connections: int = 0
    requests: int = 0
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def taken(self) -> tuple[int, int]:
        """Up and down since the last call."""
        counted = self.up, self.down
        self.up = self.down = 0
        return counted


@asynccontextmanager
async def wire_to(port: int) -> AsyncIterator[Wire]:
    """To a server on the loopback."""
    wire = Wire()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        wire.tasks.add(task)
        wire.connections += 1
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)

        async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter, way: str) -> None:
            while data := await source.read(STEP_BYTES):
                setattr(wire, way, getattr(wire, way) + len(data))
                wire.requests += data.count(b" HTTP/1.1\r\n") if way == "up" else 0
                target.write(data)
                await target.drain()
            target.close()

        try:
            with suppress(ConnectionError, asyncio.CancelledError):
                await asyncio.gather(pump(reader, far_writer, "up"), pump(far_reader, writer, "down"))
        finally:
            writer.close()
            far_writer.close()

    server = await asyncio.start_server(carry, "127.0.0.1", 0)
    wire.port = server.sockets[0].getsockname()[1]
    try:
        yield wire
    finally:
        server.close()
        for task in wire.tasks:
            task.cancel()
        await asyncio.gather(*wire.tasks, return_exceptions=True)
