"""The two clients under one face, so that each test proves its sentence of both; and servers that follow a script."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from edge.client import AsyncClient, Client

HEADERS_END = b"\r\n\r\n"


class Awaited:
    """An AsyncClient whose calls are waited for."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._client = AsyncClient(*arguments, **options)
        self._runner = asyncio.Runner()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)
        return lambda *arguments, **options: self._runner.run(method(*arguments, **options))

    def __enter__(self) -> Awaited:
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.run(self._client.close())
        self._runner.close()


Maker = Callable[..., contextlib.AbstractContextManager[Any]]
both = pytest.mark.parametrize("made", [Client, Awaited], ids=["waiting", "awaiting"])


class Script:
    """A server on loopback that answers each request, on whatever connection, with the next of `answers`, and keeps what it
    was asked. An answer is bytes, or what is done with the connection; the last one serves for all that follow."""

    def __init__(self, *answers: bytes | Callable[[socket.socket], object]) -> None:
        self._answers = list(answers)
        self.asked: list[bytes] = []
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            self._threads.append(threading.Thread(target=self._serve, args=(connection,)))
            self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            while (request := _request(connection)) is not None:
                self.asked.append(request)
                answer = self._next(request)
                if isinstance(answer, bytes):
                    connection.sendall(answer)
                else:
                    answer(connection)

    def _next(self, request: bytes) -> bytes | Callable[[socket.socket], object]:
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)


class Routes(Script):
    """The same, whose answers go by the path that is asked for; any other is 404."""

    def __init__(self, routes: dict[str, bytes]) -> None:
        super().__init__(b"")
        self._routes = routes

    def _next(self, request: bytes) -> bytes:
        return self._routes.get(request.split(b" ")[1].decode(), answer(404))


@contextmanager
def routed(routes: dict[str, bytes]) -> Iterator[Routes]:
    script = Routes(routes)
    try:
        yield script
    finally:
        script.close()


@contextmanager
def scripted(*answers: bytes | Callable[[socket.socket], object]) -> Iterator[Script]:
    script = Script(*answers)
    try:
        yield script
    finally:
        script.close()


def _request(connection: socket.socket) -> bytes | None:
    """One request, its body included; None at the end of the stream."""
    data = b""
    while HEADERS_END not in data:
        piece = connection.recv(65536)
        if not piece:
            return None
        data += piece
    head, _, body = data.partition(HEADERS_END)
    lengths = [line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
    want = int(lengths[0].split(b":")[1]) if lengths else 0
    while len(body) < want:
        body += connection.recv(65536)
    return head + HEADERS_END + body


def answer(status: int, body: bytes = b"{}", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Said", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + HEADERS_END + body
