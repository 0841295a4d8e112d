"""A model server's admin socket: everything that any `aspired.json` asks for is ready at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

from edge.domain.layout import ASPIRED_FILE, parse_aspired


class AdminServer:
    """`behind`: generations that it lags; `problem`: what it finds wrong with every file; `unknown`: models it does not serve."""

    def __init__(self, models_dir: Path) -> None:
        self._models_dir = models_dir
        self.version, self.last_exit = "0.1.0", "clean"
        self.behind, self.problem = 0, ""
        self.unknown: set[str] = set()
        self.reloads = 0

    async def status(self, request: web.Request) -> web.Response:
        return web.json_response(
            {"boot_id": "b1", "version": self.version, "last_exit": self.last_exit, "models": self._models()}
        )

    async def reload(self, request: web.Request) -> web.Response:
        self.reloads += 1
        return web.json_response({})

    def _models(self) -> dict[str, Any]:
        models = {}
        for file in sorted(self._models_dir.glob(f"*/{ASPIRED_FILE}")):
            told = parse_aspired(file.read_bytes())
            wanted = {*told.versions, told.fallback} - {None}
            if file.parent.name not in self.unknown:
                models[file.parent.name] = {
                    "generation": told.generation - self.behind,
                    "problem": self.problem,
                    "versions": {str(version): {"state": "ready", "reason": ""} for version in wanted},
                }
        return models


@asynccontextmanager
async def admin_at(socket: Path, server: AdminServer) -> AsyncIterator[AdminServer]:
    app = web.Application()
    app.router.add_get("/v1/status", server.status)
    app.router.add_post("/v1/reload", server.reload)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.UnixSite(runner, str(socket)).start()
    await asyncio.to_thread(socket.chmod, 0o660)
    try:
        yield server
    finally:
        await runner.cleanup()
