"""Reports on their way to whoever takes them.

Rule 1: that a report cannot be delivered changes nothing but the outbox, and it goes before all that were made after it.
Rule 2: one that the collector refuses for ever is dropped, for it would hold up all that come after it.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Protocol

from sync.agent.backoff import Backoff
from sync.agent.outbox import Outbox
from sync.domain.errors import Rejected, StoreError
from sync.domain.report import Report, encode_report

log = logging.getLogger(__name__)


class Delivery(Protocol):
    """Where reports go."""

    async def deliver(self, report: bytes) -> None:
        """Returns when it was taken. Raises StoreError: Rejected for a report that would never be taken."""
        ...


class Reporter:
    """retry_s, doubled up to max_retry_s: the longest pauses after a delivery that failed, in seconds; the collector may ask
    for longer ones. show: is given each report too, whatever becomes of it."""

    def __init__(
        self,
        outbox: Outbox,
        delivery: Delivery | None,
        *,
        retry_s: float = 15.0,
        max_retry_s: float = 3600.0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        chance: random.Random | None = None,
        show: Callable[[bytes], None] | None = None,
    ) -> None:
        self._outbox, self._delivery, self._sleep, self._show = outbox, delivery, sleep, show
        self._retries = Backoff(retry_s, max_retry_s, chance or random.Random())
        self._retry_after_s = 0.0
        self._news = asyncio.Event()
        self._again = asyncio.Event()

    async def put(self, report: Report) -> None:
        data = encode_report(report) if self._delivery is not None or self._show is not None else b""
        if self._delivery is not None:
            await asyncio.to_thread(self._outbox.put, report.seq, data)
            self._news.set()
        if self._show is not None:
            self._show(data)

    def again(self) -> None:
        """Whoever takes reports is back: what waits is brought now."""
        self._again.set()

    async def run(self) -> None:
        """Deliver, oldest first, until cancelled."""
        while True:
            self._news.clear()
            self._again.clear()
            if await self.flush():
                self._retries.over()
                await self._news.wait()
            else:
                await self._pause(self._retries.failed_s(self._retry_after_s))

    async def _pause(self, seconds: float) -> None:
        """So long, or until somebody is back."""
        sleep = asyncio.ensure_future(self._sleep(seconds))
        again = asyncio.ensure_future(self._again.wait())
        try:
            await asyncio.wait((sleep, again), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleep.cancel()
            again.cancel()

    async def flush(self) -> bool:
        """Whether the outbox is empty now."""
        self._retry_after_s = 0.0
        while self._delivery is not None and (oldest := await asyncio.to_thread(self._outbox.oldest)) is not None:
            seq, report = oldest
            try:
                await self._delivery.deliver(report)
            except Rejected as error:
                gone = await asyncio.to_thread(self._outbox.drop, seq, report, error.message)
            except StoreError as error:
                log.warning("report %d waits: %s", seq, error.message)
                self._retry_after_s = error.retry_after_s
                return False
            else:
                gone = await asyncio.to_thread(self._outbox.taken, seq, report)
            if not gone:  # it would be brought again at once, and again
                return False
        return True
