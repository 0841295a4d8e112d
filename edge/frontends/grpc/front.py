"""The gRPC server on its sockets.

Rule 1: `close` stops accepting first, lets what runs finish for `drain_s`, then ends the rest. Rule 2: a socket that is held
is taken at once, and refuses connections until `start`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import socket
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import grpc

from edge.frontends.grpc import limits
from edge.frontends.grpc.calls import Calls
from edge.frontends.grpc.holding import hold_port
from edge.frontends.http.listener import bind_unix, clear_socket

log = logging.getLogger(__name__)

MODE = 0o660


def _is_news(record: logging.LogRecord) -> bool:
    """gRPC tells with a traceback that a client has gone in the very moment in which it was answered."""
    return not (record.exc_info and isinstance(record.exc_info[1], grpc.aio.InternalError))


logging.getLogger("grpc._cython.cygrpc").addFilter(_is_news)


class Grpc:
    """`services`: handlers by service and method. `port` is what was bound, 0 without a TCP port; `addresses` are for people."""

    def __init__(self, calls: Calls, services: Mapping[str, Mapping[str, Any]]) -> None:
        self._calls = calls
        self._uds: Path | None = None
        self._held: list[socket.socket] = []
        self._later: list[Callable[[], Awaitable[object]]] = []
        self.port = 0
        self.addresses: list[str] = []
        self._server = grpc.aio.server(options=_options(calls.limits.max_message_bytes))
        self._server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler(name, methods) for name, methods in services.items()]
        )

    async def listen_tcp(self, host: str, port: int, credentials: Any | None = None, *, hold: bool = False) -> int:
        """The port that was bound; port 0 picks a free one. Raises OSError."""
        if hold:
            try:
                held, self.port = await asyncio.to_thread(hold_port, host, port)
            except OSError:
                raise _taken(host, port) from None
            self._held += held
            self._later.append(partial(self._bind_tcp, host, self.port, credentials))
        else:
            await self._bind_tcp(host, port, credentials)
        self.addresses.append(f"{host}:{self.port}" + (" with TLS" if credentials else ""))
        return self.port

    async def listen_unix(self, path: Path, *, hold: bool = False) -> None:
        """A socket file left by a dead server is replaced, a living server's is not. Raises OSError."""
        if not re.fullmatch(r"[^\x00%]+", str(path)):
            raise OSError(f"{path}: gRPC takes no socket with such a name")
        if hold:
            self._held.append(await asyncio.to_thread(bind_unix, path, MODE))
            self._later.append(partial(self._bind_unix, path))
        else:
            await self._bind_unix(path)
        self._uds = path
        self.addresses.append(str(path))

    async def _bind_tcp(self, host: str, port: int, credentials: Any | None) -> None:
        """Raises OSError."""
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            if credentials is None:
                self.port = self._server.add_insecure_port(address)
            else:
                self.port = self._server.add_secure_port(address, credentials)
        except RuntimeError:
            raise _taken(host, port) from None

    async def _bind_unix(self, path: Path) -> None:
        """Raises OSError."""
        await asyncio.to_thread(clear_socket, path)
        before = os.umask(0o777 & ~MODE)
        try:
            self._server.add_insecure_port(f"unix:{path}")
        except RuntimeError:
            raise OSError(f"{path}: cannot be bound for gRPC") from None
        finally:
            os.umask(before)

    async def start(self) -> None:
        """From now on; nothing happens after `close`. Raises OSError where somebody was quicker to listen."""
        if self._calls.closing.done():
            return
        for bind in self._later:
            await bind()
        await self._server.start()
        self._let_go()
        for address in self.addresses:
            log.info("gRPC at %s", address)

    def _let_go(self) -> None:
        while self._held:
            self._held.pop().close()

    async def close(self, drain_s: float) -> None:
        """What runs may finish within `drain_s` seconds; streams end after the answer that is under way."""
        if not self._calls.closing.done():
            self._calls.closing.set_result(None)
        self._let_go()
        await self._server.stop(drain_s)
        if self._uds is not None:
            with contextlib.suppress(OSError):
                await asyncio.to_thread(self._uds.unlink)


def _taken(host: str, port: int) -> OSError:
    return OSError(f"port {port} of {host} cannot be had for gRPC: it is taken, or no address of here")


def _options(max_message_bytes: int) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", -1),  # how large an answer is, the model says
        ("grpc.max_metadata_size", limits.MAX_METADATA_BYTES),
        ("grpc.max_concurrent_streams", limits.MAX_PER_CONNECTION),
        ("grpc.so_reuseport", 0),  # or two servers could have one port, and each half of the calls
        ("grpc.keepalive_time_ms", limits.KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", limits.KEEPALIVE_TIMEOUT_MS),
        ("grpc.http2.min_ping_interval_without_data_ms", limits.MIN_PING_MS),
    ]
