"""Takes devices' reports from an MQTT broker, for whoever counts them: into the directory that those by HTTP go to.

Rule 1: a report is acked when the disk has it; until then the broker keeps it. Rule 2: a device speaks for itself: a report by another's
topic is none. Rule 3: what makes no sense, or comes too often, is acked, counted, and logged once in a while. Rule 4: devices that are
new are waited for, not turned away: at the first connection the broker brings what each device said last.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from edge.mqtt.link import Link
from edge.mqtt.message import Message
from edge.mqtt.settings import LinkSettings
from edge.mqtt.topics import PROTOCOL
from sync.domain.errors import DiskError, DocumentError
from sync.domain.report import Report, parse_report
from sync.fleet.collector import CollectLimits, Collector
from sync.fleet.reports import checked

log = logging.getLogger(__name__)

MAX_WAITING = 256
"""Reports that wait to be written. Those with QoS 1 are fewer: the broker sends no more than may be unacked."""
LOG_S = 60.0
"""Between two lines of the log about what was ignored."""
SESSION_S = 86_400
"""For which a broker keeps what comes while nobody is there to take it."""
CLOSE_S = 2.0


class Bridge:
    """`taken`, `ignored`: messages. collector: keeps reports, within `limits`."""

    def __init__(
        self,
        settings: LinkSettings,
        prefix: str,
        collector: Collector,
        limits: CollectLimits,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._collector, self._limits, self._monotonic = collector, limits, monotonic
        self._levels = [*prefix.split("/"), PROTOCOL]
        self._link = Link(settings, self._heard)
        self._link.subscribe(f"{prefix}/{PROTOCOL}/+/reported", 1)
        self._waiting: asyncio.Queue[Message] = asyncio.Queue(MAX_WAITING)
        self._logged_at = -LOG_S
        self.taken = self.ignored = 0

    @property
    def listening(self) -> bool:
        """What devices say from now on comes here."""
        return self._link.settled

    async def run(self) -> None:
        """Until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._link.run())
                group.create_task(self._take())
        finally:
            await self._link.close(CLOSE_S)

    def _heard(self, message: Message) -> None:
        try:
            self._waiting.put_nowait(message)
        except asyncio.QueueFull:
            self._ignore(message, f"want at most {MAX_WAITING} reports to wait")

    async def _take(self) -> None:
        while True:
            message = await self._waiting.get()
            if not message.payload:  # what was kept there was taken away
                self._link.ack(message)
                continue
            try:
                report = self._report(message)
                await self._allowed(report.device)
            except DocumentError as error:
                self._ignore(message, error.message)
                continue
            await self._keep(report)
            self.taken += 1
            self._link.ack(message)

    def _report(self, message: Message) -> Report:
        """Raises DocumentError."""
        *root, node, _ = message.topic.split("/") if message.topic.count("/") >= 2 else ("", "", "")
        if len(message.payload) > self._limits.max_report_bytes:
            raise DocumentError(f"want at most {self._limits.max_report_bytes} bytes, got {len(message.payload)}")
        report = checked(parse_report(message.payload))
        if root != self._levels or report.device != node:
            raise DocumentError(f"report: device: want that of the topic, {node[:128]!r}, got {report.device!r}")
        return report

    async def _allowed(self, device: str) -> None:
        """Returns when it may be taken. Raises DocumentError for a device that is known, and says too much, or one too many."""
        while wait_s := self._collector.too_often(device):
            if self._collector.knows(device) or self._collector.full:
                raise DocumentError(f"{device}: too often, or too many devices")
            await asyncio.sleep(wait_s)

    async def _keep(self, report: Report) -> None:
        """Returns when the disk has it."""
        while True:
            try:
                await self._collector.keep(report)
                return
            except DiskError as error:
                log.error("%s; what comes waits at the broker", error.message)
                await asyncio.sleep(self._limits.disk_retry_s)

    def _ignore(self, message: Message, why: str) -> None:
        self.ignored += 1
        now = self._monotonic()
        if now - self._logged_at >= LOG_S:
            self._logged_at = now
            log.warning(
                "mqtt: %d messages were ignored so far, the last: %r: %s", self.ignored, message.topic[:200], why
            )
        self._link.ack(message)
