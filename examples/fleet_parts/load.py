"""Clients that keep asking, and what they saw."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType

import numpy as np
import numpy.typing as npt

from edge.demo.clients import MODEL, Connection

CLIENTS = 4
PAUSE_S = 0.004
"""Between two requests of one client."""
PALE = 9
"""The brightest pixel of a pale picture; of any other it is 16."""
RECONNECT_S = 0.05
HEARD_WITHIN_S = 30.0
STARTING = (404, 503)
"""What a server answers until the model is loaded."""
MAX_TOLD = 3
"""Kinds of failures, the most common ones."""


@dataclass
class Count:
    """`answered`: by version. `failed`: answers that were none, by what they said. `unheard`: there was no server, or it was not ready."""

    sent: int = 0
    answered: Counter[int] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    unheard: int = 0

    def __add__(self, other: Count) -> Count:
        return Count(
            self.sent + other.sent,
            self.answered + other.answered,
            self.failed + other.failed,
            self.unheard + other.unheard,
        )

    def over(self) -> bool:
        """Whether nobody waits for any of it."""
        return self.answered.total() + self.failed.total() + self.unheard == self.sent

    def __str__(self) -> str:
        versions = ", ".join(f"{count} by version {version}" for version, count in sorted(self.answered.items()))
        lost = f", {self.unheard} found no server that was ready" if self.unheard else ""
        text = f"{self.sent} requests sent, {self.failed.total()} failed{lost}; answered: {versions or 'none'}"
        return "".join([text, *(f"\n    {count} times {what}" for what, count in self.failed.most_common(MAX_TOLD))])


class Load:
    """A context manager: clients ask on while it is open. `pale`: whether they send pale pictures only. `total`: of all laps.

    images: uint8 [n,8,8] of 0 to 16.
    """

    def __init__(self, port: int, images: npt.NDArray[np.uint8]) -> None:
        self.pale = False
        self.total, self._count = Count(), Count()
        self._port = port
        self._bright = [as_input(image) for image in images if image.max() > PALE]
        self._dim = [as_input(np.minimum(image, PALE)) for image in images]
        self._clients: list[asyncio.Task[None]] = []
        self._over = asyncio.Event()
        self._news = asyncio.Condition()

    async def __aenter__(self) -> Load:
        self._clients = [asyncio.create_task(self._ask(each)) for each in range(CLIENTS)]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Whatever is under way is waited for, and counted."""
        self._over.set()
        await asyncio.gather(*self._clients)

    async def lap(self) -> Count:
        """What was sent since the last lap, when all of it is over; the clients go on meanwhile. Raises TimeoutError."""
        lap, self._count = self._count, Count()
        await self._until(lap.over)
        self.total += lap
        return lap

    async def heard(self) -> None:
        """Returns when there is an answer in this lap. Raises TimeoutError."""
        await self._until(lambda: bool(self._count.answered))

    async def _until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(HEARD_WITHIN_S), self._news:
            await self._news.wait_for(holds)

    async def _ask(self, turn: int) -> None:
        connection = Connection(self._port)
        while not self._over.is_set():
            pictures = self._dim if self.pale else self._bright
            data = pictures[turn % len(pictures)]
            turn += CLIENTS
            body = {"inputs": [{"name": "image", "shape": [1, 8, 8, 1], "datatype": "INT8", "data": data}]}
            count = self._count
            count.sent += 1
            there = await self._one(connection, body, count)
            async with self._news:
                self._news.notify_all()
            await asyncio.sleep(PAUSE_S if there else RECONNECT_S)
        connection.close()

    async def _one(self, connection: Connection, body: object, count: Count) -> bool:
        """Whether there was a server, and it was ready."""
        try:
            status, answer = await connection.post(f"/v2/models/{MODEL}/infer", body)
        except (OSError, EOFError):
            count.unheard += 1
            connection.close()
            return False
        if status in STARTING:
            count.unheard += 1
            return False
        if status == 200:
            count.answered[int(answer["model_version"])] += 1
        else:
            count.failed[f"{status}: {answer.get('error', answer)}"] += 1
        return True


def as_input(image: npt.NDArray[np.uint8]) -> list[list[list[int]]]:
    """Pixels 0 to 16 of [8,8] → int8 [8,8,1], as the model was quantized: its scale is 16/255, its zero point -128."""
    values = np.clip(np.round(image.astype(np.float32) * 255 / 16) - 128, -128, 127).astype(int)
    nested: list[list[list[int]]] = values[..., None].tolist()
    return nested
