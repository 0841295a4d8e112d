"""A static web server over a directory, as any operator has one. `asked`: paths, in the order in which they were."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Handler


@dataclass(slots=True)
class Static:
    url: str = ""
    asked: list[str] = field(default_factory=list)
    token: str = ""


@asynccontextmanager
async def static_server(directory: Path, *, token: str = "") -> AsyncIterator[Static]:
    """On a free loopback port. token: what must be shown, "" for nothing."""
    server = Static(token=token)

    @web.middleware
    async def note(request: web.Request, handler: Handler) -> web.StreamResponse:
        server.asked.append(request.path.lstrip("/"))
        if token and request.headers.get("Authorization") != f"Bearer {token}":
            return web.Response(status=401)
        return await handler(request)

    app = web.Application(middlewares=[note])
    app.router.add_static("/", directory)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        await runner.cleanup()
