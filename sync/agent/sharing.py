"""Blobs for neighbours, over HTTP: GET /blobs/sha256/<hex>, whole or by Range, and nothing else.

Rule 1: only blobs that a signed manifest names and lets be shared, of models that are installed here, whole and verified.
Rule 2: who asks gets an answer at once, or is told to come again: at most so many at a time, at most so many bytes a second
together (`SharingLimits`), and none while a model is being swapped or the device runs on its battery. Rule 3: every connection has
an end: its head must come in time, its body must be taken, and it serves one request. Rule 4: nothing is read but blobs, and nothing
is written. Rule 5: who is not on a private network gets no answer.

Source: RFC 9110, sections 14 (ranges) and 15 (status codes)
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from sync.agent.neighbours import is_near
from sync.agent.pace import RateLimit
from sync.agent.places import Places
from sync.domain.digests import Digest
from sync.domain.ports import Clock, Files

log = logging.getLogger(__name__)

STEP_BYTES = 1 << 16
_PATH = re.compile(r"/blobs/sha256/([0-9a-f]{64})\Z", re.ASCII)
_RANGE = re.compile(r"bytes=(\d{1,19})-(\d{0,19})\Z", re.ASCII)
POWER_SUPPLIES = Path("/sys/class/power_supply")

Shared = Callable[[], Mapping[Digest, int]]
"""What may be shared now: digests, with their sizes in bytes."""


@dataclass(frozen=True, slots=True)
class SharingLimits:
    """`uploads`, `connections`: so many at a time. Seconds: `head_s`: for a request's head; `stall_s`: for whoever takes a blob to take
    the next bytes; `again_s`: until one who is refused may come again.

    limit_Bps: bytes per second of all uploads together, 0 for no limit.
    """

    uploads: int = 2
    connections: int = 16
    head_s: float = 5.0
    stall_s: float = 10.0
    again_s: float = 30.0
    limit_Bps: float = 0.0


class Sharing:
    """busy: why nothing is to be given now, "" for nothing."""

    def __init__(
        self,
        files: Files,
        places: Places,
        shared: Shared,
        clock: Clock,
        *,
        busy: Callable[[], str] = lambda: "",
        loopback: bool = False,
        limits: SharingLimits | None = None,
    ) -> None:
        self._files, self._places, self._shared, self._clock = files, places, shared, clock
        self._busy, self._loopback, self._limits = busy, loopback, limits or SharingLimits()
        self._pace = RateLimit(self._limits.limit_Bps, clock.monotonic())
        self._uploads = 0
        self._silent: set[web.RequestHandler] = set()
        self._http: web.Server | None = None
        self._listening: list[asyncio.Server] = []

    async def start(self, hosts: Sequence[str], port: int = 0) -> int:
        """Listen at the addresses, all at one port; 0 for any that is free. Its number. Raises OSError."""
        loop = asyncio.get_running_loop()
        self._http = web.Server(
            self._answer, access_log=None, tcp_keepalive=False, keepalive_timeout=0.0, lingering_time=0.0,
            max_line_size=1024, max_field_size=1024,
        )  # fmt: skip
        try:
            for host in hosts:
                server = await loop.create_server(self._accepted, host, port, backlog=16)
                self._listening.append(server)
                port = server.sockets[0].getsockname()[1]
        except OSError:
            await self.close()
            raise
        return port

    async def close(self) -> None:
        for server in self._listening:
            server.close()
        self._listening.clear()
        if self._http is not None:
            await self._http.shutdown(timeout=0.1)
            self._http = None

    def _accepted(self) -> asyncio.Protocol:
        """A connection's protocol; one too many is closed at once."""
        if self._http is None or len(self._http.connections) >= self._limits.connections:
            return _Closed()
        handler = self._http()
        self._silent.add(handler)
        asyncio.get_running_loop().call_later(self._limits.head_s, self._give_up, handler)
        return handler

    def _give_up(self, handler: web.RequestHandler) -> None:
        if handler in self._silent:
            self._silent.discard(handler)
            handler.force_close()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self._silent.discard(request.protocol)
        answer = await self._blob(request)
        answer.force_close()
        return answer

    async def _blob(self, request: web.BaseRequest) -> web.StreamResponse:
        host = str((request.transport.get_extra_info("peername") or [""])[0]) if request.transport is not None else ""
        if not is_near(host, loopback=self._loopback):
            return web.Response(status=403)
        if request.method != "GET":
            return web.Response(status=405, headers={"Allow": "GET"})
        found = _PATH.match(request.raw_path)
        digest = Digest(f"sha256:{found[1]}") if found is not None else None
        size = self._shared().get(digest) if digest is not None else None
        if digest is None or size is None or await self._size(digest) != size:
            return web.Response(status=404)
        busy = self._busy() or await asyncio.to_thread(on_battery)
        if busy or self._uploads >= self._limits.uploads:
            return web.Response(status=429, headers={"Retry-After": f"{self._limits.again_s:.0f}"})
        self._uploads += 1
        try:
            return await self._give(request, digest, size)
        finally:
            self._uploads -= 1

    async def _give(self, request: web.BaseRequest, digest: Digest, size: int) -> web.StreamResponse:
        asked = request.headers.get("Range", "")
        part = _RANGE.match(asked)
        start = int(part[1]) if part is not None else 0
        end = min(int(part[2]) + 1, size) if part is not None and part[2] else size
        if part is not None and not start < end:
            return web.Response(status=416, headers={"Content-Range": f"bytes */{size}"})
        answer = web.StreamResponse(status=206 if part is not None else 200)
        answer.content_type = "application/octet-stream"
        answer.headers["Accept-Ranges"] = "bytes"
        if part is not None:
            answer.headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        answer.content_length = end - start
        answer.force_close()
        try:
            async with asyncio.timeout(self._limits.stall_s):
                await answer.prepare(request)
            await self._pour(answer, self._places.blob(digest), start, end)
        except (
            OSError,
            TimeoutError,
        ) as error:  # who asked went away or does not take it, or the blob is no longer here
            log.info("a neighbour gets no more of %s: %s", digest, error or "it takes too long to take it")
            if request.transport is not None:
                request.transport.abort()
        return answer

    async def _pour(self, answer: web.StreamResponse, blob: Path, start: int, end: int) -> None:
        at = start
        while at < end:
            data = await asyncio.to_thread(self._files.read_at, blob, at, min(STEP_BYTES, end - at))
            if not data:
                raise FileNotFoundError(f"{blob.name[:12]}: is shorter than it was")
            async with asyncio.timeout(self._limits.stall_s):
                await answer.write(data)
            at += len(data)
            if wait_s := self._pace.wait_s(len(data), self._clock.monotonic()):
                await self._clock.sleep(wait_s)

    async def _size(self, digest: Digest) -> int | None:
        try:
            return await asyncio.to_thread(self._files.size, self._places.blob(digest))
        except OSError:
            return None


class _Closed(asyncio.Protocol):
    """Of a connection too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


def on_battery(supplies: Path = POWER_SUPPLIES) -> str:
    """Why a device without mains gives nothing; "" where it has some, or where nothing is known of its power. Blocks."""
    try:
        kinds = {supply: (supply / "type").read_text().strip() for supply in supplies.iterdir()}
        mains = [supply for supply, kind in kinds.items() if kind in ("Mains", "USB")]
        online = [(supply / "online").read_text().strip() == "1" for supply in mains]
    except OSError:
        return ""
    return "it runs on its battery" if online and not any(online) else ""
