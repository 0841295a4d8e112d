"""HTTP as bytes: what no client library would send, and answers as they came."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Answer:
    """Names of headers are lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        return str(self.json()["error"])


class Wire:
    """One connection: to a port of loopback, to a Unix socket, or over a socket that is there already."""

    def __init__(self, to: int | Path | socket.socket, *, timeout_s: float = TIMEOUT_S) -> None:
        self.socket = to if isinstance(to, socket.socket) else connect(to, timeout_s=timeout_s)
        self._stream = self.socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self._stream.close()
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def ask(self, data: bytes, *, method: str = "GET") -> Answer:
        self.send(data)
        return self.answer(method=method)

    def answer(self, *, method: str = "GET") -> Answer:
        """The next answer. Raises ConnectionError when there is none, OSError where the connection was reset."""
        line = self._stream.readline()
        if not line:
            raise ConnectionError("closed without an answer")
        headers = {}
        while (header := self._stream.readline()) not in (b"\r\n", b""):
            name, _, value = header.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        status = int(line.split(b" ")[1])
        length = 0 if method == "HEAD" or status < 200 else int(headers["content-length"])
        body = self._stream.read(length)
        assert len(body) == length, f"{len(body)} bytes of a body of {length}"
        return Answer(status, headers, body)

    def rest(self) -> bytes:
        """Everything until the server closes."""
        return self._stream.read()


def connect(to: int | Path, *, timeout_s: float = TIMEOUT_S) -> socket.socket:
    """A stream socket to a port of loopback or to a Unix socket."""
    made = socket.socket(socket.AF_INET if isinstance(to, int) else socket.AF_UNIX)
    made.settimeout(timeout_s)
    try:
        made.connect(("127.0.0.1", to) if isinstance(to, int) else str(to))
    except BaseException:
        made.close()
        raise
    return made


def request(method: str, target: str, body: bytes | None = None, headers: Iterable[str] = ()) -> bytes:
    """A request with a Host and, where there is a body, its length."""
    lines = [f"{method} {target} HTTP/1.1", "Host: 127.0.0.1", *headers]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


def ask(to: int | Path, method: str, target: str, body: bytes | None = None, headers: Iterable[str] = ()) -> Answer:
    """One request on a connection of its own."""
    with Wire(to) as wire:
        return wire.ask(request(method, target, body, headers), method=method)


def answers(to: Path, target: str) -> bool:
    """Whether somebody is there and has it."""
    try:
        return ask(to, "GET", target).status == 200
    except OSError:
        return False


def chunked(*chunks: bytes) -> bytes:
    """A body in chunks, its end included."""
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
