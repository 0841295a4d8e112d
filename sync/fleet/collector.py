"""Takes devices' reports by HTTP, for whoever counts them.

POST /, POST /v1/reports   one report as JSON. 200: it is durable, or was before; {"new": true|false}
GET /health                200

400 no report, or one that makes no sense · 401 no token, or another · 408 the body did not come in time · 413 too long ·
415 compressed · 429 too often, or too many devices that nobody knows · 503 busy, or the disk fails

Rule 1: 2xx is said after the disk has it. Rule 2: every input has a bound: bytes, seconds, connections, requests at a time,
reports of one device, devices that are new. Rule 3: what a device says is data: it names no path that was not checked, and
goes into no log but cut and quoted.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web
from aiohttp.typedefs import Handler

from sync.domain.errors import DiskError, DocumentError
from sync.domain.report import Report, parse_report
from sync.domain.rollout import pin_bin
from sync.fleet.rates import Rates
from sync.fleet.reports import ReportDirectory, checked

log = logging.getLogger(__name__)

PATHS = ("/", "/v1/reports")


@dataclass(frozen=True, slots=True)
class CollectLimits:
    """Bytes and seconds. `head_s`: from the connection to the end of its first request's head. `new_*`: of devices that were
    never heard of; `device_*`: of reports of one device."""

    max_report_bytes: int = 256 << 10
    head_s: float = 10.0
    body_s: float = 10.0
    idle_s: float = 30.0
    max_connections: int = 1024
    max_requests: int = 64
    max_devices: int = 100_000
    new_per_s: float = 10.0
    new_burst: int = 1000
    device_per_s: float = 1.0
    device_burst: int = 250
    busy_retry_s: int = 5
    disk_retry_s: int = 60


class Collector:
    """token: what must be shown, None for nothing. known: devices that were heard of before."""

    def __init__(
        self,
        reports: ReportDirectory,
        *,
        known: set[str],
        token: str | None = None,
        limits: CollectLimits | None = None,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reports, self._known = reports, known
        self._token, self._limits = token, limits or CollectLimits()
        self._now, self._monotonic = now, monotonic
        self._new = Rates(per_s=self._limits.new_per_s, burst=self._limits.new_burst)
        self._often = Rates(per_s=self._limits.device_per_s, burst=self._limits.device_burst)
        self._locks: dict[str, asyncio.Lock] = {}
        self._under_way = 0

    def app(self) -> web.Application:
        app = web.Application(client_max_size=self._limits.max_report_bytes)
        for path in PATHS:
            app.router.add_post(path, self._post)
        app.router.add_get("/health", self._health)
        return app

    async def _health(self, request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _post(self, request: web.Request) -> web.Response:
        if not self._may(request):
            return _no(401, "want a bearer token", {"WWW-Authenticate": "Bearer"})
        if self._under_way >= self._limits.max_requests:
            return _no(503, "busy", _after(self._limits.busy_retry_s))
        self._under_way += 1
        try:
            return await self._taken(request)
        finally:
            self._under_way -= 1

    def _may(self, request: web.Request) -> bool:
        shown = request.headers.get("Authorization", "")
        wanted = f"Bearer {self._token}"
        return self._token is None or hmac.compare_digest(shown.encode(errors="replace"), wanted.encode())

    async def _taken(self, request: web.Request) -> web.Response:
        if request.headers.get("Content-Encoding", "identity") != "identity":
            return _no(415, "want the report as it is, not compressed")
        if (request.content_length or 0) > self._limits.max_report_bytes:
            return _no(413, f"want at most {self._limits.max_report_bytes} bytes")
        try:
            async with asyncio.timeout(self._limits.body_s):
                report = checked(parse_report(await request.read()))
        except TimeoutError:
            return _no(408, f"want the report within {self._limits.body_s:g} s")
        except web.HTTPRequestEntityTooLarge:
            return _no(413, f"want at most {self._limits.max_report_bytes} bytes")
        except DocumentError as error:
            return _no(400, error.message)
        if wait_s := self.too_often(report.device):
            return _no(429, "too often, or too many new devices", _after(wait_s))
        try:
            return web.json_response({"new": await self.keep(report)})
        except DiskError as error:
            log.error("%s", error.message)
            return _no(503, "the report cannot be kept now", _after(self._limits.disk_retry_s))

    def knows(self, device: str) -> bool:
        return device in self._known

    @property
    def full(self) -> bool:
        """Whether there are as many devices as there may be."""
        return len(self._known) >= self._limits.max_devices

    def too_often(self, device: str) -> float:
        """Seconds to wait; 0 to go on, of which there is one less then."""
        if device in self._known:
            return self._often.wait_s(device, self._monotonic())
        if self.full:
            log.error("%d devices are known, which is the most: no new one is taken", len(self._known))
            return self._limits.disk_retry_s
        return self._new.wait_s("", self._monotonic())

    async def keep(self, report: Report) -> bool:
        """Whether it is new. The disk has it when this returns. Raises DiskError."""
        async with self._locks.setdefault(pin_bin(report.device), asyncio.Lock()):
            new = await asyncio.to_thread(self._reports.take, report, self._now())
        self._known.add(report.device)
        return new


@asynccontextmanager
async def serving(collector: Collector, host: str, port: int, limits: CollectLimits) -> AsyncIterator[tuple[str, int]]:
    """Where it listens; what is under way at the end is finished. Raises OSError."""
    heads = _Heads(limits.head_s)
    runner = web.AppRunner(
        heads.over(collector.app()),
        access_log=None,
        auto_decompress=False,
        keepalive_timeout=limits.idle_s,
        lingering_time=1.0,
        shutdown_timeout=limits.body_s,
        handle_signals=False,
    )
    await runner.setup()
    server = runner.server
    assert server is not None

    def connection() -> asyncio.Protocol:
        return heads.awaited(server()) if len(server.connections) < limits.max_connections else _Full()

    listening = None
    try:
        listening = await asyncio.get_running_loop().create_server(connection, host, port)
        name = listening.sockets[0].getsockname()
        yield name[0], name[1]
    finally:
        if listening is not None:
            listening.close()
        await runner.cleanup()
        if listening is not None:
            await listening.wait_closed()


class _Heads:
    """Ends connections on which nothing was asked within head_s: nothing else has an eye on those."""

    def __init__(self, head_s: float) -> None:
        self._head_s = head_s
        self._silent: set[web.RequestHandler] = set()

    def over(self, app: web.Application) -> web.Application:
        @web.middleware
        async def heard(request: web.Request, handler: Handler) -> web.StreamResponse:
            self._silent.discard(request.protocol)
            return await handler(request)

        app.middlewares.append(heard)
        return app

    def awaited(self, handler: web.RequestHandler) -> asyncio.Protocol:
        self._silent.add(handler)
        asyncio.get_running_loop().call_later(self._head_s, self._give_up, handler)
        return handler

    def _give_up(self, handler: web.RequestHandler) -> None:
        if handler in self._silent:
            self._silent.discard(handler)
            handler.force_close()


class _Full(asyncio.Protocol):
    """Ends a connection that is one too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


def _no(status: int, why: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response({"error": why}, status=status, headers=headers)


def _after(seconds: float) -> dict[str, str]:
    return {"Retry-After": str(math.ceil(seconds))}
