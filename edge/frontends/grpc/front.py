"""The gRPC server on its sockets.

Rule: `close` stops accepting first, lets what runs finish for `drain_s`, then ends the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grpc

from edge.frontends.grpc import limits
from edge.frontends.grpc.calls import Calls
from edge.frontends.http.listener import clear_socket

MODE = 0o660


class Grpc:
    """`services`: handlers by service and method. `port` is what was bound, 0 without a TCP port."""

    def __init__(self, calls: Calls, services: Mapping[str, Mapping[str, Any]]) -> None:
        self._calls = calls
        self._uds: Path | None = None
        self.port = 0
        self._server = grpc.aio.server(options=_options(calls.limits.max_message_bytes))
        self._server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler(name, methods) for name, methods in services.items()]
        )

    def listen_tcp(self, host: str, port: int, credentials: Any | None = None) -> int:
        """The port that was bound; port 0 picks a free one. Raises OSError."""
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            if credentials is None:
                self.port = self._server.add_insecure_port(address)
            else:
                self.port = self._server.add_secure_port(address, credentials)
        except RuntimeError:
            raise OSError(f"port {port} of {host} cannot be had for gRPC: it is taken, or no address of here") from None
        return self.port

    async def listen_unix(self, path: Path) -> None:
        """A socket file left by a dead server is replaced, a living server's is not. Raises OSError."""
        if not re.fullmatch(r"[^\x00%]+", str(path)):
            raise OSError(f"{path}: gRPC takes no socket with such a name")
        await asyncio.to_thread(clear_socket, path)
        before = os.umask(0o777 & ~MODE)
        try:
            self._server.add_insecure_port(f"unix:{path}")
        except RuntimeError:
            raise OSError(f"{path}: cannot be bound for gRPC") from None
        finally:
            os.umask(before)
        self._uds = path

    async def start(self) -> None:
        await self._server.start()

    async def close(self, drain_s: float) -> None:
        """What runs may finish within `drain_s` seconds; streams end after the answer that is under way."""
        if not self._calls.closing.done():
            self._calls.closing.set_result(None)
        await self._server.stop(drain_s)
        if self._uds is not None:
            with contextlib.suppress(OSError):
                await asyncio.to_thread(self._uds.unlink)


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
