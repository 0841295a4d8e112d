"""Where the operator sits: the commands of `edge-sync`, a static web server for the store, and whoever takes reports."""

from __future__ import annotations

import asyncio
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

from aiohttp import web

from fleet_parts.device import DemoFailed, environment
from sync.domain.errors import DocumentError
from sync.domain.report import MAX_REPORT_BYTES, ModelReport, Report, parse_report

REPORT_WITHIN_S = 60.0


class Office:
    """An async context manager. Keys, store and root.json lie in `room`; `url` of the web server ends without a slash."""

    def __init__(self, room: Path) -> None:
        self.store, self.keys = room / "store", room / "keys"
        self.url = ""
        self.reports: list[Report] = []
        self._room = room
        self._news = asyncio.Condition()
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Office:
        self.store.mkdir()
        app = web.Application(client_max_size=MAX_REPORT_BYTES)
        app.router.add_post("/reports", self._take)
        app.router.add_static("/store", self.store)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *error: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def edge_sync(self, *arguments: object, fails_with: int = 0) -> str:
        """Run a command, tell it with what it says, and return that. Raises DemoFailed for another exit code."""
        words = [str(each) for each in arguments]
        print("$ edge-sync " + shlex.join(word.replace(f"{self._room}/", "") for word in words), flush=True)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "sync", *words),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=environment() | {"EDGE_SYNC_STORE": str(self.store), "EDGE_SYNC_KEYS": str(self.keys)},
        )
        try:
            said = (await process.communicate())[0].decode().replace(f"{self._room}/", "").rstrip()
        except asyncio.CancelledError:
            process.kill()
            await process.wait()
            raise
        for line in said.splitlines():
            print("  " + line, flush=True)
        if process.returncode != fails_with:
            raise DemoFailed(f"edge-sync {words[0]}: want exit code {fails_with}, got {process.returncode}")
        return said

    async def report(self, model: str, what: Callable[[ModelReport], bool], *, after: int) -> Report:
        """The first one beyond `after` reports of which `what` holds. Raises TimeoutError."""

        def found() -> Report | None:
            return next(
                (each for each in self.reports[after:] if model in each.models and what(each.models[model])), None
            )

        async with asyncio.timeout(REPORT_WITHIN_S), self._news:
            while (report := found()) is None:
                await self._news.wait()
        return report

    async def _take(self, request: web.Request) -> web.Response:
        try:
            report = parse_report(await request.read())
        except DocumentError as error:
            return web.Response(status=400, text=error.message)
        async with self._news:
            if all(report.seq != each.seq for each in self.reports):  # the same may come twice
                self.reports.append(report)
                self._news.notify_all()
        return web.Response(status=204)
