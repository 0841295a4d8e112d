"""The admin socket: what the agent watches and a person's tools use. HTTP over a Unix socket.

    GET  /v1/status                 everything about every version
    POST /v1/reload                 look at the sources again, and try failed versions now
    POST /v1/models/<name>/load     serve a model that was unloaded
    POST /v1/models/<name>/unload

Rule: who may open the socket may ask; its mode is the lock.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict
from typing import Any
from urllib.parse import unquote

import msgspec

from edge.domain.errors import ControlFailed
from edge.domain.ports import Catalog, Control, ModelStatus, VersionStatus
from edge.frontends.http.message import Request, Response, json_error
from edge.telemetry.build import Boot

_MODEL = re.compile(r"/v1/models/([^/]+)/(load|unload)")


class Admin:
    def __init__(self, boot: Boot, catalog: Catalog, control: Control, reload: Callable[[], None]) -> None:
        """`reload`: re-read what SIGHUP re-reads."""
        self._boot, self._catalog, self._control, self._reload = boot, catalog, control, reload

    async def __call__(self, request: Request) -> Response:
        if request.path == "/v1/status":
            return self._status() if request.method == "GET" else _wrong_verb("GET")
        if request.path == "/v1/reload":
            return await self._reloaded() if request.method == "POST" else _wrong_verb("POST")
        if match := _MODEL.fullmatch(request.path):
            if request.method != "POST":
                return _wrong_verb("POST")
            return await self._control_model(unquote(match[1]), match[2])
        return json_error(
            404, f"{request.path}: no such path; want /v1/status, /v1/reload, /v1/models/NAME/load or …/unload"
        )

    def _status(self) -> Response:
        body = {
            **asdict(self._boot),
            "ready": self._catalog.ready,
            "models": {model.name: _model(model) for model in self._catalog.models()},
        }
        return Response(200, msgspec.json.encode(body))

    async def _reloaded(self) -> Response:
        self._reload()
        await self._control.reload()
        return Response(200, b"{}")

    async def _control_model(self, name: str, verb: str) -> Response:
        try:
            await (self._control.load(name) if verb == "load" else self._control.unload(name))
        except ControlFailed as error:
            status = 404 if self._catalog.status(name) is None else 500
            return json_error(status, error.message)
        return Response(200, b"{}")


def _model(model: ModelStatus) -> dict[str, Any]:
    return {
        "generation": model.generation,
        "problem": model.problem,
        "labels": dict(model.labels),
        "versions": {str(version.id.version): _version(version) for version in model.versions},
        **({} if model.routing is None else {"routing": asdict(model.routing)}),
    }


def _version(version: VersionStatus) -> dict[str, Any]:
    return {
        "state": version.state.value,
        "reason": version.reason,
        "device": version.device,
        "notice": version.notice,
        "since": version.since,
        "queue_depth": version.queue_depth,
        "window": {
            "requests": version.requests,
            "failures": version.failures,
            "non_finite": version.non_finite,
            "run_p50_s": version.run_p50_s,
            "run_p99_s": version.run_p99_s,
        },
        "totals": {
            "requests": version.total_requests,
            "answered": version.total_answered,
            "failures": version.total_failures,
            "non_finite": version.total_non_finite,
        },
    }


def _wrong_verb(want: str) -> Response:
    return json_error(405, f"want {want}", (("Allow", want),))
