"""A server that answers what a test told it to, over TCP or a Unix socket, and remembers what it was asked."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path


@dataclass
class Asked:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class FarSide:
    """`answers` by `METHOD PATH`: a status, and a body that is JSON unless it is bytes."""

    answers: dict[str, tuple[int, object]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    url: str = ""

    def answer(self, request: Asked) -> tuple[int, bytes]:
        self.asked.append(request)
        status, body = self.answers.get(f"{request.method} {request.path}", (404, {"error": f"no {request.path}"}))
        return status, body if isinstance(body, bytes) else json.dumps(body).encode()


class _UnixServer(socketserver.UnixStreamServer):
    pass


@contextmanager
def far_side(uds: Path | None = None) -> Iterator[FarSide]:
    far = FarSide()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            size = int(self.headers.get("Content-Length", 0))
            request = Asked(self.command, self.path, dict(self.headers), self.rfile.read(size))
            status, body = far.answer(request)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    server: socketserver.BaseServer
    if uds is None:
        server = HTTPServer(("127.0.0.1", 0), Handler)
        far.url = f"http://127.0.0.1:{server.server_address[1]}"
    else:
        server = _UnixServer(str(uds), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield far
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
