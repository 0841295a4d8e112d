"""The sockets, and the bounds that all their connections share.

Rule: `close` stops accepting first, lets what runs finish for `drain_s`, then ends the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import ssl
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from edge.domain.errors import Code
from edge.frontends.http.limits import HttpLimits
from edge.frontends.http.message import Request, Response, json_error
from edge.frontends.http.protocol import HttpProtocol

log = logging.getLogger(__name__)

Handler = Callable[[Request], Coroutine[Any, Any, Response]]

PROTOCOL = "http"
"""The metrics' label of what was turned away before it was known what it speaks."""
CODES = {408: Code.TOO_SLOW, 413: Code.TOO_LARGE, 431: Code.TOO_LARGE, 503: Code.OVERLOADED}
"""The metrics' words for a connection's end, by status; any other is the client's mistake."""


class Listener:
    """Accepts connections for one handler. `handle` never raises: a bug is a 500 with a logged traceback.

    `refused(protocol, code)` counts what was no request, or too much of one.
    """

    def __init__(
        self, handler: Handler, limits: HttpLimits, *, refused: Callable[[str, str], None] = lambda protocol, code: None
    ) -> None:
        self._handler, self._refused = handler, refused
        self.limits = limits
        self.loop = asyncio.get_running_loop()
        self.draining = False
        self._connections: set[HttpProtocol] = set()
        self._servers: list[asyncio.Server] = []
        self._waiting: list[asyncio.Server] = []
        self._sockets: list[Path] = []
        self._body_bytes = 0
        self._empty = asyncio.Event()
        self._ticker: asyncio.TimerHandle | None = None

    async def listen_tcp(self, host: str, port: int, tls: ssl.SSLContext | None = None, *, hold: bool = False) -> int:
        """The port that was bound; port 0 picks a free one. hold: it is bound, and refuses connections until `accept`.
        Raises OSError."""
        try:
            server = await self.loop.create_server(
                lambda: HttpProtocol(self),
                host,
                port,
                ssl=tls,
                backlog=self.limits.backlog,
                reuse_address=True,
                start_serving=not hold,
            )
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            raise OSError(f"port {port} of {host} is taken; --port 0 takes any free one") from None
        self._servers.append(server)
        self._waiting += [server] if hold else []
        self._start_ticking()
        bound: int = server.sockets[0].getsockname()[1]
        return bound

    async def listen_unix(self, path: Path, *, mode: int) -> None:
        """A socket file left by a dead server is replaced, a living server's is not. Raises OSError."""
        bound = await asyncio.to_thread(_bind_unix, path, mode)
        server = await self.loop.create_unix_server(lambda: HttpProtocol(self), sock=bound, backlog=self.limits.backlog)
        self._servers.append(server)
        self._sockets.append(path)
        self._start_ticking()

    async def adopt(self, given: socket.socket, tls: ssl.SSLContext | None = None) -> None:
        """A socket that somebody else made, who listens on it too; its file, if it has one, is theirs.

        Connections wait in its queue until `accept`. Raises OSError.
        """

        def protocol() -> HttpProtocol:
            return HttpProtocol(self)

        backlog = self.limits.backlog
        if given.family == socket.AF_UNIX:
            keep: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}
            server = await self.loop.create_unix_server(
                protocol, sock=given, backlog=backlog, start_serving=False, **keep
            )
        else:
            server = await self.loop.create_server(protocol, sock=given, ssl=tls, backlog=backlog, start_serving=False)
        self._servers.append(server)
        self._waiting.append(server)
        self._start_ticking()

    async def accept(self) -> None:
        """From now on, at the sockets that were held or adopted; nothing happens after `close`."""
        for server in self._waiting:
            if not self.draining:
                await server.start_serving()

    @property
    def connections(self) -> int:
        return len(self._connections)

    async def handle(self, request: Request) -> Response:
        try:
            return await self._handler(request)
        except MemoryError:
            log.error("%s %s: not enough memory to answer", request.method, request.path)
            return json_error(503, "not enough memory to answer", (("Retry-After", "1"),))
        except Exception:
            log.exception("%s %s: internal error", request.method, request.path)
            return json_error(500, "internal error")

    def refused(self, response: Response) -> None:
        """A connection is being told why it is not read on."""
        self._refused(PROTOCOL, CODES.get(response.status, Code.INVALID_INPUT).value)

    def admit(self, connection: HttpProtocol) -> bool:
        self._connections.add(connection)
        return len(self._connections) <= self.limits.max_connections

    def left(self, connection: HttpProtocol) -> None:
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()

    def claim(self, size: int) -> bool:
        if self._body_bytes + size > self.limits.max_inflight_body_bytes:
            return False
        self._body_bytes += size
        return True

    def release(self, size: int) -> None:
        self._body_bytes -= size

    def _start_ticking(self) -> None:
        if self._ticker is None:
            self._tick()

    def _tick(self) -> None:
        now = self.loop.time()
        for connection in tuple(self._connections):
            connection.tick(now)
        self._ticker = self.loop.call_later(self.limits.tick_s, self._tick)

    async def close(self, drain_s: float) -> None:
        self.draining = True
        for server in self._servers:
            server.close()
        if self._connections or self._waiting:
            # What was accepted, and what is on its way on a connection that looks idle, is answered too.
            await asyncio.sleep(min(self.limits.last_call_s, drain_s))
        for connection in tuple(self._connections):
            connection.hang_up(at_once=False)
        if self._connections:
            self._empty.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(drain_s):
                    await self._empty.wait()
        if self._connections:
            log.warning("%d connections did not finish within %g s (drain_s)", len(self._connections), drain_s)
        for connection in tuple(self._connections):
            connection.hang_up(at_once=True)
        if self._ticker is not None:
            self._ticker.cancel()
        for path in self._sockets:
            with contextlib.suppress(OSError):
                await asyncio.to_thread(path.unlink)


def _bind_unix(path: Path, mode: int) -> socket.socket:
    """Blocks. Raises OSError."""
    clear_socket(path)
    made = socket.socket(socket.AF_UNIX)
    before = os.umask(0o777 & ~mode)
    try:
        made.bind(str(path))
    except BaseException:
        made.close()
        raise
    finally:
        os.umask(before)
    return made


def clear_socket(path: Path) -> None:
    """Blocks. Raises FileExistsError when somebody listens there, or when it is no socket."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        if not path.is_socket():
            if path.exists():
                raise FileExistsError(f"{path}: exists and is no socket")
            return
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1.0)
            probe.connect(str(path))
    except (ConnectionRefusedError, FileNotFoundError):
        path.unlink(missing_ok=True)
        return
    raise FileExistsError(f"{path}: another server listens there")
