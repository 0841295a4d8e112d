"""Who answers which path.

Rule: the guard comes before everything; then the first that knows the path.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from edge.frontends.http.guard import Guard
from edge.frontends.http.message import Request, Response, json_error

access = logging.getLogger("edge.access")

Handler = Callable[[Request], Awaitable[Response]]


class Site:
    """`local`: this site is reached over a Unix socket. `access_log`: one record for each request."""

    def __init__(
        self,
        *,
        guard: Guard,
        v1: Handler,
        v2: Handler,
        pages: Callable[[Request], Awaitable[Response | None]],
        now: Callable[[], float],
        local: bool = False,
        access_log: bool = False,
    ) -> None:
        self._guard, self._v1, self._v2, self._pages = guard, v1, v2, pages
        self._now, self._local, self._access_log = now, local, access_log

    async def __call__(self, request: Request) -> Response:
        response = self._guard.refusal(request, local=self._local)
        if response is None:
            response = await self._handler(request.path)(request)
        if self._access_log:
            self._log(request, response)
        return response

    def _handler(self, path: str) -> Handler:
        if path.startswith("/v2/") or path == "/v2":
            return self._v2
        if path[:4].lower() == "/v1/":
            return self._v1
        return self._page

    async def _page(self, request: Request) -> Response:
        page = await self._pages(request)
        return page if page is not None else json_error(404, "Not Found")

    def _log(self, request: Request, response: Response) -> None:
        access.info(
            "%s %s %d %d %.1f ms",
            request.method,
            request.target,
            response.status,
            len(response.body),
            (self._now() - request.arrived) * 1000,
            extra={"method": request.method, "target": request.target, "status": response.status},
        )
