"""grpc.health.v1: what load balancers and orchestrators ask.

A service is "" or one that is served, for whether every model answers; or the name of a model, for whether that one does.
Source: https://github.com/grpc/grpc/blob/master/doc/health-checking.md
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any, Protocol

from edge.domain.errors import EdgeError, NotFound
from edge.domain.models import ModelSpec
from edge.domain.ports import Catalog
from edge.frontends.grpc.calls import Call, Calls
from edge.wire.grpc_status import Failure, plain_failure
from edge.wire.proto.messages import message, parse, to_bytes

SERVICE = "grpc.health.v1.Health"


class WatchedCatalog(Catalog, Protocol):
    async def changed(self) -> None:
        """Returns when any state may have changed."""
        ...


class Health:
    """`services`: the names of those that are served."""

    def __init__(self, calls: Calls, *, catalog: WatchedCatalog, services: Collection[str]) -> None:
        self._calls, self._catalog = calls, catalog
        self._services = {"", SERVICE, *services}

    def services(self) -> dict[str, dict[str, Any]]:
        """Handlers by service and method. No token is asked for, as for HTTP's health."""
        check = self._calls.unary(self._check, _words, open_to_all=True)
        return {SERVICE: {"Check": check, "Watch": self._calls.stream(self._watch, _words, open_to_all=True)}}

    async def _check(self, call: Call) -> bytes:
        service = parse("grpc.health.v1.HealthCheckRequest", call.body).service
        status = self._status(service)
        if status == "SERVICE_UNKNOWN":
            raise NotFound(ModelSpec(service), model_known=False)
        return _said(status)

    async def _watch(self, context: Any) -> None:
        """Says the state, and says it again whenever it is another."""
        service = parse("grpc.health.v1.HealthCheckRequest", await self._calls.first(context)).service
        told = ""
        while True:
            changed = asyncio.ensure_future(self._catalog.changed())
            try:
                if (status := self._status(service)) != told:
                    await context.write(_said(status))
                    told = status
                if self._calls.closing.done():
                    return
                await asyncio.wait((changed, self._calls.closing), return_when=asyncio.FIRST_COMPLETED)
            finally:
                changed.cancel()

    def _status(self, service: str) -> str:
        if self._calls.closing.done():
            return "NOT_SERVING"
        if service in self._services:
            return "SERVING" if self._catalog.ready else "NOT_SERVING"
        if self._catalog.status(service) is None:
            return "SERVICE_UNKNOWN"
        try:
            self._catalog.describe(ModelSpec(service))
        except EdgeError:
            return "NOT_SERVING"
        return "SERVING"


def _said(status: str) -> bytes:
    made = message("grpc.health.v1.HealthCheckResponse")
    return to_bytes(made(status=made.ServingStatus.Value(status)))


def _words(error: EdgeError, call: Call | None) -> Failure:
    return plain_failure(error)
