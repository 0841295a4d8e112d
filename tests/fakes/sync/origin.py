"""A web server that does what a hostile, broken or slow one may do, one thing at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from aiohttp import web


class Origin:
    """Serves `objects` by path. `behave(request number)` names what is done to the answer; "" for nothing.

    status 500, 503, 403 …: a number as text; `break:N`: N bytes, then the connection is cut; `norange`: all of it, whatever was
    asked for; `etag`: another tag each time; `short`, `long`: a length that is not the body's; `endless`; `gzip`: says so;
    `flip`: one bit; `dribble`: a byte at a time; `elsewhere`: a redirect to another host; `nowhere`: to what is no URL;
    `around`: to itself; `wrongrange`: from another byte; `othertag`: the range of another object; `complaint`: an error
    without end; `noise`: no HTTP.
    """

    def __init__(self, objects: dict[str, bytes], behave: Callable[[int], str] = lambda number: "") -> None:
        self.objects, self.behave = objects, behave
        self.asked: list[tuple[str, str]] = []
        self.sent = 0
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        number = len(self.asked)
        self.asked.append((request.path, request.headers.get("Range", "")))
        what, _, count = self.behave(number).partition(":")
        if what.isdigit():
            return web.Response(status=int(what), headers={"Retry-After": count} if count else {})
        places = {"elsewhere": "http://127.0.0.2:1/blob", "nowhere": "http://[::1", "around": str(request.rel_url)}
        if what in places:
            return web.Response(status=302, headers={"Location": places[what]})
        if what == "complaint":
            return await self._complain(request)
        if what == "noise" and request.transport is not None:
            request.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: none\r\n\r\n" + bytes(range(256)))
            request.transport.close()
        data = self.objects.get(request.path)
        if data is None:
            return web.Response(status=404)
        tag = f'"{number}"' if what in ("etag", "othertag") else '"1"'
        if request.headers.get("If-None-Match") == tag:
            return web.Response(status=304)
        start = 0
        asked = request.headers.get("Range")
        if request.headers.get("If-Match", tag) != tag and what != "othertag":
            return web.Response(status=412)
        if asked and what != "norange" and (request.headers.get("If-Range", tag) == tag or what == "othertag"):
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(data):
                return web.Response(status=416, headers={"Content-Range": f"bytes */{len(data)}"})
        return await self._answer(request, data, start, what, int(count or 0), tag)

    async def _complain(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(status=403, headers={"Content-Type": "application/xml"})
        await answer.prepare(request)
        with suppress(ConnectionError):
            while True:
                await answer.write(b" " * (1 << 16))
                self.sent += 1 << 16
        return answer

    async def _answer(
        self, request: web.Request, data: bytes, start: int, what: str, count: int, tag: str
    ) -> web.StreamResponse:
        body = data[start:]
        if what == "flip":
            body = bytes([body[0] ^ 1]) + body[1:]
        length = len(body) + {"short": -10, "long": 10}.get(what, 0)
        answer = web.StreamResponse(status=206 if start else 200, headers={"ETag": tag})
        if start:
            begin = start + 1 if what == "wrongrange" else start
            answer.headers["Content-Range"] = f"bytes {begin}-{len(data) - 1}/{len(data)}"
        if what == "gzip":
            answer.headers["Content-Encoding"] = "gzip"
        if what == "endless":
            answer.enable_chunked_encoding()
        else:
            answer.content_length = length
        await answer.prepare(request)
        with suppress(ConnectionError):
            await self._body(answer, body[:length], what, count)
        if what in ("break", "long") and request.transport is not None:
            request.transport.abort()
        return answer

    async def _body(self, answer: web.StreamResponse, body: bytes, what: str, count: int) -> None:
        if what == "break":
            body = body[:count]
        step = 1 if what == "dribble" else 1 << 16
        for at in range(0, len(body), step):
            await answer.write(body[at : at + step])
            self.sent += len(body[at : at + step])
            if what == "dribble":
                await asyncio.sleep(0.005)
        if what == "break":
            await asyncio.sleep(0.05)  # for what was written to go out before the connection is cut
        while what == "endless":
            await answer.write(b"x" * (1 << 16))
            self.sent += 1 << 16


@asynccontextmanager
async def serving(origin: Origin) -> AsyncIterator[Origin]:
    """On a free loopback port; `origin.url` is its address."""
    app = web.Application()
    app.router.add_get("/{path:.*}", origin.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    origin.url = f"http://{host}:{port}"
    try:
        yield origin
    finally:
        await runner.cleanup()
