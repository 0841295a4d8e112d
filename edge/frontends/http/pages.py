"""What people and their tools look at: the page, its figures, the API's description, and metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

from edge.domain.errors import EdgeError
from edge.domain.lifecycle import State
from edge.domain.models import ModelSpec
from edge.domain.ports import Catalog
from edge.frontends.http.message import Request, Response, json_error
from edge.frontends.page import load_page
from edge.telemetry.build import Boot
from edge.wire.reply import JSON, TEXT
from edge.wire.stats import stats


class Figures(Protocol):
    """What is counted; edge.telemetry.metrics.Metrics."""

    def render(self, accept: str = "") -> tuple[str, bytes]: ...
    def render_tfserving(self) -> bytes: ...
    def snapshot(self) -> Mapping[str, Mapping[str, float]]: ...


class Pages:
    """`tfserving_metrics`: the path at which to answer in TensorFlow Serving's names, too; empty for none."""

    def __init__(self, boot: Boot, catalog: Catalog, figures: Figures, *, tfserving_metrics: str) -> None:
        self._boot, self._catalog, self._figures = boot, catalog, figures
        html, headers = load_page()
        content_type = headers.get("Content-Type", "text/html; charset=utf-8")
        extra = tuple((name, value) for name, value in headers.items() if name != "Content-Type")
        self._page = Response(200, html, content_type, extra)
        self._gets: dict[str, Callable[[Request], Response] | None] = {
            "/": lambda _: self._page,
            "/stats": self._stats,
            "/openapi.json": self._openapi,
            "/metrics": None,
        }
        self._tfserving_path = tfserving_metrics
        if tfserving_metrics:
            self._gets[tfserving_metrics] = None

    async def __call__(self, request: Request) -> Response | None:
        """None where the path is none of these."""
        if request.path not in self._gets:
            return None
        if request.method not in ("GET", "HEAD"):
            return json_error(405, "Method Not Allowed", (("Allow", "GET, HEAD"),))
        answer = self._gets[request.path]
        if answer is not None:
            return answer(request)
        if request.path == self._tfserving_path:
            return await self._tfserving_metrics(request)
        content_type, body = await asyncio.to_thread(self._figures.render, request.header(b"accept"))
        return Response(200, body, content_type)

    async def _tfserving_metrics(self, request: Request) -> Response:
        if request.target != self._tfserving_path:
            text = f"Unexpected path: {request.target}. Should be {self._tfserving_path}"
            return Response(400, text.encode("latin-1", "replace"), TEXT)
        return Response(200, await asyncio.to_thread(self._figures.render_tfserving), TEXT)

    def _openapi(self, _: Request) -> Response:
        infos = []
        for model in self._catalog.models():
            for version in model.versions:
                if version.state is State.READY:
                    try:
                        infos.append(self._catalog.describe(ModelSpec(model.name, version.id.version)))
                    except EdgeError:
                        continue
        from edge.wire.openapi import openapi  # seldom asked for, and the largest of these modules

        return Response(200, openapi(infos, self._boot.version), JSON)

    def _stats(self, _: Request) -> Response:
        body = stats(self._boot, self._catalog, self._figures.snapshot())
        return Response(200, body, JSON, (("Cache-Control", "no-store"),))
