"""The part of the server that the page talks to, with models that a test makes up."""

from __future__ import annotations

import json
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from edge.frontends.page import load_page

HOSTILE = "<img src=x onerror=alert(1)>"


def version(number: int, state: str, **more: Any) -> dict[str, Any]:
    plain = {"reason": "", "device": "cpu", "notice": "", "requests": 0, "failures": 0, "queue": 0}
    return {"version": str(number), "state": state, **plain, **more}


def example_models() -> list[dict[str, Any]]:
    return [
        {
            "name": "mobilenet", "labels": {"stable": 2, "canary": 3}, "problem": "", "rate": 41.7, "p50_ms": 4.8, "p99_ms": 9.3,
            "versions": [
                version(3, "loading"),
                version(2, "ready", device="edgetpu:0", requests=182_404, failures=3, queue=1),
                version(1, "draining", requests=9_120, device="edgetpu:0", queue=2),
            ],
        },
        {
            "name": "digits", "labels": {}, "problem": "", "rate": 3.2, "p50_ms": 0.21, "p99_ms": 0.64,
            "versions": [
                version(8, "failed", device="", reason=f"golden output 'scores', run 3: 12 of 40 values differ by more than 0.02 {HOSTILE}"),
                version(7, "ready", requests=5_021),
            ],
        },
        {
            "name": "detector", "labels": {"stable": 12}, "problem": "aspired.json: want a list of versions, got \"12\"",
            "rate": 0.0, "p50_ms": 0.0, "p99_ms": 0.0,
            "versions": [version(12, "ready", notice="edgetpu:0 is missing; runs on the CPU twin", requests=77)],
        },
    ]  # fmt: skip


METADATA: dict[str, Any] = {
    "mobilenet": {"inputs": [{"name": "input", "datatype": "UINT8", "shape": [1, 224, 224, 3]}]},
    "digits": {"inputs": [{"name": "x", "datatype": "INT8", "shape": [-1, 3]}]},
    "detector": {
        "inputs": [
            {"name": "picture", "datatype": "FP32", "shape": [1, 2]},
            {"name": "words", "datatype": "BYTES", "shape": [1]},
        ]
    },
}


class FakeEdge:
    """`replies` by model: (status, JSON). `token`, when set, must come with each request but the page's own."""

    def __init__(self) -> None:
        self.models = example_models()
        self.token = ""
        self.down = False
        self.boot_id = "b1"
        self.replies: dict[str, tuple[int, Any]] = {}
        self.requests: list[tuple[str, str, bytes]] = []
        self.url = ""
        self._page, self._headers = load_page()
        self._polls = 0
        self._started = time.time() - 12_240

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[FakeEdge]:
        app = web.Application(middlewares=[self._guard], client_max_size=2**24)
        app.router.add_get("/", self._root)
        app.router.add_get("/stats", self._stats)
        app.router.add_get(r"/v2/models/{model}{rest:.*}", self._metadata)
        app.router.add_post(r"/v1/models/{model:[^/:]+}{rest:.*}:predict", self._predict)
        runner = web.AppRunner(app, shutdown_timeout=1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
        try:
            yield self
        finally:
            await runner.cleanup()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if self.down and request.transport is not None:
            request.transport.abort()
        if self.token and request.path != "/" and request.headers.get("Authorization") != f"Bearer {self.token}":
            return web.json_response({"error": "want a token"}, status=401)
        response: web.StreamResponse = await handler(request)
        return response

    async def _root(self, _: web.Request) -> web.Response:
        return web.Response(body=self._page, headers=dict(self._headers))

    async def _stats(self, _: web.Request) -> web.Response:
        self._polls += 1
        wave = 1 + 0.35 * math.sin(self._polls / 7) + 0.1 * math.sin(self._polls * 2.7)
        models = [
            {**m, "rate": m["rate"] * wave, "p50_ms": m["p50_ms"] * wave, "p99_ms": m["p99_ms"] / wave}
            for m in self.models
        ]
        server = {"version": "0.1.0", "started": self._started, "boot_id": self.boot_id, "ready": True}
        return web.json_response({"server": server, "models": models})

    async def _metadata(self, request: web.Request) -> web.Response:
        name = request.match_info["model"]
        return web.json_response(
            {"name": name, "versions": [], "platform": "tflite", "outputs": [], **METADATA.get(name, {"inputs": []})}
        )

    async def _predict(self, request: web.Request) -> web.Response:
        self.requests.append((request.path_qs, request.content_type, await request.read()))
        status, body = self.replies.get(request.match_info["model"], (200, {"predictions": [[0.25, 0.75]]}))
        return web.json_response(body, status=status, dumps=json.dumps)
