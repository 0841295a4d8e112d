"""The demo's clients: what they send, and what they saw."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

MODEL = "digits"
PAUSE_S = 0.002
"""Between two requests of one client."""


@dataclass
class Tally:
    """What a load saw. Times in seconds, by when the request was sent."""

    sent: int = 0
    failed: int = 0
    versions: Counter[str] = field(default_factory=Counter)
    latencies: list[tuple[float, float]] = field(default_factory=list)
    last_failure: str = ""
    swapped: asyncio.Event = field(default_factory=asyncio.Event)

    def p99(self, start: float, end: float) -> float:
        times = sorted(took for at, took in self.latencies if start <= at < end)
        return times[min(len(times) - 1, int(len(times) * 0.99))] if times else 0.0


class Connection:
    """One kept-alive HTTP connection to the server."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, path: str, body: object) -> tuple[int, Any]:
        """Status and JSON. Raises OSError, asyncio.IncompleteReadError, ValueError."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        data = json.dumps(body).encode()
        writer.write(f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        length = int(head.partition("content-length:")[2].split("\r\n", 1)[0])
        return int(head.split(" ", 2)[1]), json.loads(await reader.readexactly(length))

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def ask_again_and_again(port: int, tally: Tally, over: asyncio.Event, inputs: Sequence[Any]) -> None:
    """One client, until `over`: each of the inputs in turn, as int8 [8,8,1] in lists."""
    connection = Connection(port)
    turn = 0
    while not over.is_set():
        data = inputs[turn % len(inputs)]
        turn += 1
        body = {"inputs": [{"name": "image", "shape": [1, 8, 8, 1], "datatype": "INT8", "data": data}]}
        at = time.monotonic()
        tally.sent += 1
        try:
            status, answer = await connection.post(f"/v2/models/{MODEL}/infer", body)
            if status != 200:
                raise ValueError(f"{status}: {answer}")
            tally.versions[answer["model_version"]] += 1
            if answer["model_version"] == "2":
                tally.swapped.set()
            tally.latencies.append((at, time.monotonic() - at))
        except (OSError, asyncio.IncompleteReadError, ValueError) as error:
            tally.failed += 1
            tally.last_failure = str(error)
            connection.close()
        await asyncio.sleep(PAUSE_S)
    connection.close()
