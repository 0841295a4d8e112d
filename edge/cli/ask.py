"""One HTTP request to a running server, over TCP, TLS or a Unix socket, with nothing but the standard library.

Rule 1: no proxy is used and no redirect followed. Rule 2: a token is read from a file, and sent nowhere but to the server
that was named.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from edge.cli.exits import FAILED, NOT_FOUND, UNREACHABLE, USAGE, Failure

DEFAULT_URL = "http://127.0.0.1:8501"
MAX_ANSWER_BYTES = 256 * 1024 * 1024
MAX_TOKEN_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """`where` names the server, for messages."""

    status: int
    body: bytes
    where: str

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    def json(self) -> Any:
        """Raises Failure for what is not JSON."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            raise Failure(f"{self.where}: want JSON, got {self.body[:80]!r}") from None

    def or_fail(self) -> Answer:
        """The answer itself if it is a good one. Raises Failure with the server's own words."""
        if self.ok:
            return self
        raise Failure(f"{self.where}: {self.status} {self.error()}", NOT_FOUND if self.status == 404 else FAILED)

    def error(self) -> str:
        """The server's `{"error": …}`, or the beginning of whatever came."""
        try:
            return str(json.loads(self.body)["error"])
        except (ValueError, RecursionError, KeyError, TypeError):
            return self.body[:200].decode(errors="replace").strip() or http.client.responses.get(self.status, "")


@dataclass(frozen=True, slots=True)
class Server:
    """Where to ask. A path in `url` goes before every request's own; with `uds`, `url` is not looked at."""

    url: str = DEFAULT_URL
    uds: Path | None = None
    token_file: Path | None = None
    ca_file: Path | None = None
    timeout_s: float = 30.0

    @property
    def where(self) -> str:
        return str(self.uds) if self.uds else self.url

    def ask(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Answer:
        """Whatever the server answers, errors too. Raises Failure(UNREACHABLE) when it does not."""
        headers = dict(headers or {}) | self._authorization()
        connection = self._connect()
        prefix = "" if self.uds else urlsplit(self.url).path.rstrip("/")
        try:
            connection.request(method, prefix + path, body or None, headers)
            response = connection.getresponse()
            answer = response.read(MAX_ANSWER_BYTES + 1)
        except (OSError, http.client.HTTPException) as error:
            raise Failure(f"{self.where}: {_reason(error)}; is the server running?", UNREACHABLE) from None
        finally:
            connection.close()
        if len(answer) > MAX_ANSWER_BYTES:
            raise Failure(f"{self.where}: want an answer of at most {MAX_ANSWER_BYTES} bytes")
        return Answer(response.status, answer, self.where)

    def post_json(self, path: str, body: bytes = b"{}") -> Answer:
        """`ask` with a body of JSON."""
        return self.ask("POST", path, body, {"Content-Type": "application/json"})

    def _connect(self) -> http.client.HTTPConnection:
        if self.uds is not None:
            return _UnixConnection(self.uds, self.timeout_s)
        try:
            parts = urlsplit(self.url)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise Failure(f"--url {self.url}: {error}", USAGE) from None
        if parts.scheme not in ("http", "https") or not host:
            raise Failure(f"--url: want http://HOST:PORT or https://HOST:PORT, got {self.url}", USAGE)
        if parts.scheme == "http":
            return http.client.HTTPConnection(host, port, timeout=self.timeout_s)
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except OSError as error:
            raise Failure(f"--ca-file {self.ca_file}: {_reason(error)}", USAGE) from None
        return http.client.HTTPSConnection(host, port, timeout=self.timeout_s, context=context)

    def _authorization(self) -> dict[str, str]:
        return {} if self.token_file is None else {"Authorization": f"Bearer {read_token(self.token_file)}"}


def read_token(file: Path) -> str:
    """Raises Failure for a file without one."""
    try:
        with file.open("rb") as opened:
            token = opened.read(MAX_TOKEN_BYTES).decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(f"--token-file {file}: {_reason(error)}", USAGE) from None
    if not token or not token.isprintable() or " " in token:
        raise Failure(f"--token-file {file}: want one line with a token", USAGE)
    return token


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
