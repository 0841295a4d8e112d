"""Who answers which path.

Rule: the guard comes before everything; then the first that knows the path.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from edge.domain.errors import Forbidden, Unauthenticated
from edge.frontends.http.guard import Guard
from edge.frontends.http.listener import PROTOCOL
from edge.frontends.http.message import Request, Response, json_error
from edge.wire.status import HTTP_STATUS

access = logging.getLogger("edge.access")

Handler = Callable[[Request], Awaitable[Response]]


class Site:
    """`local`: this site is reached over a Unix socket. `access_log`: one record for each request.

    `refused(protocol, code)` counts what the guard turned away.
    """

    def __init__(
        self,
        *,
        guard: Guard,
        v1: Handler,
        v2: Handler,
        pages: Callable[[Request], Awaitable[Response | None]],
        refused: Callable[[str, str], None],
        now: Callable[[], float],
        local: bool = False,
        access_log: bool = False,
    ) -> None:
        self._guard, self._v1, self._v2, self._pages = guard, v1, v2, pages
        self._refused, self._now, self._local, self._access_log = refused, now, local, access_log

    async def __call__(self, request: Request) -> Response:
        refusal = self._guard.refusal(request, local=self._local)
        if refusal is None:
            response = await self._handler(request.path)(request)
        else:
            response = self._turn_away(refusal)
        if self._access_log:
            self._log(request, response)
        return response

    def _turn_away(self, error: Forbidden | Unauthenticated) -> Response:
        self._refused(PROTOCOL, error.code.value)
        headers = (("WWW-Authenticate", "Bearer"),) if isinstance(error, Unauthenticated) else ()
        return json_error(HTTP_STATUS[error.code], error.message, headers)

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
