"""HTTP for callers that wait, with nothing but the standard library.

Rule 1: any number of threads may ask at once; each request has a connection of its own, and idle ones are kept for the
next. Rule 2: no step of a request waits past its deadline, however slowly the server dribbles. Rule 3: no proxy is used,
no redirection followed, and nothing is asked on a connection that the server has closed meanwhile.
"""

from __future__ import annotations

import http.client
import io
import select
import socket
import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from time import monotonic
from typing import Any

from edge.client.address import Address
from edge.client.attempts import timeout_header
from edge.client.body import check_encoding, content_length, room, too_large
from edge.client.calls import Answer, Ask
from edge.client.errors import BadAnswer, ClientError, DeadlineExceeded, Unreachable, error_of
from edge.client.wire import HEADER

MAX_IDLE = 8
"""Connections that are kept open for the next request."""
IDLE_S = 30.0
"""How long: well below the server's own `http.keepalive_s`."""
CHUNK_BYTES = 1 << 20
ONE_SEND_BYTES = 64 * 1024
"""A body up to this size goes out in one piece."""


class Transport:
    """One server. tls: None for plain HTTP."""

    def __init__(self, address: Address, tls: ssl.SSLContext | None, token: str | None, max_answer_bytes: int) -> None:
        self._address, self._tls, self._max_bytes = address, tls, max_answer_bytes
        self._headers = {"Host": address.authority, "Accept-Encoding": "identity"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"
        self._idle: list[tuple[_Connection, float]] = []
        self._lock = threading.Lock()
        self._closed = False

    def ask(self, ask: Ask, deadline: float) -> Answer:
        """One request, one answer; `deadline` by time.monotonic. Raises ClientError."""
        headers = self._headers | dict(ask.headers) | {"X-Request-Timeout-Ms": timeout_header(deadline - monotonic())}
        connection = self._take() or _Connection(self._address, self._tls)
        whole = False
        try:
            answer, whole = self._exchange(connection, ask, headers, deadline)
        except TimeoutError:
            raise DeadlineExceeded(f"{self._address.url}: no answer within the time for this call") from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._lost(connection, error) from None
        finally:
            if whole:
                self._keep(connection)
            else:
                connection.close()
        if isinstance(answer, ClientError):
            raise answer
        return answer

    def _exchange(
        self, connection: _Connection, ask: Ask, headers: dict[str, str], deadline: float
    ) -> tuple[Answer | ClientError, bool]:
        """The answer, or the error that the server says it is; and whether the connection may be used again."""
        connection.deadline = deadline
        if connection.sock is None:
            connection.connect()
        connection.putrequest(ask.method, self._address.prefix + ask.path, skip_host=True, skip_accept_encoding=True)
        if ask.pieces:
            headers["Content-Length"] = str(sum(map(len, ask.pieces)))
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.sent = True
        _send(connection, ask.pieces)
        response = connection.getresponse()
        head_length = response.headers.get(HEADER, "").strip()
        check_encoding(response.headers.get("Content-Encoding", ""))
        body = _read(response, head_length, self._max_bytes)
        again = not response.will_close
        if response.status not in ask.accepted:
            return error_of(response.status, response.headers.get("Retry-After", ""), body), again
        return Answer(response.status, head_length, body), again

    def _lost(self, connection: _Connection, error: Exception) -> ClientError:
        if isinstance(error, ssl.SSLCertVerificationError):
            return Unreachable(f"{self._address.url}: its certificate is not trusted: {error.verify_message}")
        if isinstance(error, http.client.HTTPException | ValueError) and not isinstance(
            error, ConnectionError | http.client.IncompleteRead
        ):
            return BadAnswer(f"{self._address.url}: want HTTP, got {error!r}"[:400])
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return Unreachable(f"{self._address.url}: {reason}", unsent=not connection.sent)

    def _take(self) -> _Connection | None:
        """An idle connection that the server has left open, the last used first."""
        while True:
            with self._lock:
                if self._closed:
                    raise Unreachable(f"{self._address.url}: this client is closed")
                if not self._idle:
                    return None
                connection, since = self._idle.pop()
            if monotonic() - since < IDLE_S and connection.is_quiet():
                connection.sent = False
                return connection
            connection.close()

    def _keep(self, connection: _Connection) -> None:
        with self._lock:
            if not self._closed and len(self._idle) < MAX_IDLE:
                self._idle.append((connection, monotonic()))
                return
        connection.close()

    def close(self) -> None:
        """Requests of other threads that are under way come to their end."""
        with self._lock:
            self._closed, idle, self._idle = True, self._idle, []
        for connection, _ in idle:
            connection.close()


def _send(connection: _Connection, pieces: Sequence[bytes | memoryview]) -> None:
    """A small request in one piece: its head alone would wake the server for nothing."""
    with connection.at_once() if sum(map(len, pieces)) <= ONE_SEND_BYTES else nullcontext():
        connection.endheaders()
        for piece in pieces:
            connection.send(piece)


def _read(response: http.client.HTTPResponse, head_length: str, max_bytes: int) -> bytearray | memoryview:
    # http.client takes a length that is no number for none at all.
    known = None if response.chunked else content_length(response.headers.get("Content-Length", ""), max_bytes)
    if known is None:
        body = bytearray()
        while len(body) <= max_bytes and (piece := response.read(min(CHUNK_BYTES, max_bytes + 1 - len(body)))):
            body += piece
        if len(body) > max_bytes:
            raise too_large(max_bytes)
        return body
    size = response.length or 0
    view, at = room(size, head_length), 0
    while at < size:
        got = response.readinto(view[at:])
        if not got:
            raise ConnectionResetError(f"the answer broke off after {at} of {size} bytes")
        at += got
    response.read()  # nothing is left, and the connection is told so
    return view


class _Connection(http.client.HTTPConnection):
    """`deadline` is the present request's; `sent`: whether any of it may have gone out."""

    def __init__(self, address: Address, tls: ssl.SSLContext | None) -> None:
        super().__init__(address.host, address.port)
        self._address, self._context = address, tls
        self.deadline, self.sent = 0.0, False
        self._raw: socket.socket | None = None

    def connect(self) -> None:
        self._raw = self._open()
        try:
            if self._context is not None:
                self._raw.settimeout(_left(self.deadline))
                self._raw = self._context.wrap_socket(self._raw, server_hostname=self._address.host)
        except BaseException:
            self._raw.close()
            raise
        self.sock = _Punctual(self._raw, self)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """What is sent in this block goes out together at its end."""
        assert isinstance(self.sock, _Punctual)
        held = self.sock.held = []
        yield
        self.sock.held = None
        self.sock.sendall(b"".join(held))

    def _open(self) -> socket.socket:
        if self._address.uds:
            return self._reach(socket.AF_UNIX, self._address.uds)
        last: OSError | None = None
        for family, _, _, _, address in socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM):
            try:
                made = self._reach(family, address)
                made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return made
            except TimeoutError:
                raise
            except OSError as error:
                last = error
        raise last or OSError(f"{self.host} has no address")

    def _reach(self, family: int, address: Any) -> socket.socket:
        made = socket.socket(family, socket.SOCK_STREAM)
        try:
            made.settimeout(_left(self.deadline))
            made.connect(address)
        except BaseException:
            made.close()
            raise
        return made

    def is_quiet(self) -> bool:
        """Open, and nothing has come that nobody asked for: the end of the stream would be such a thing."""
        if self._raw is None:
            return False
        poll = select.poll()
        poll.register(self._raw, select.POLLIN | select.POLLHUP | select.POLLERR)
        return not poll.poll(0)


class _Punctual:
    """A connected socket, as http.client wants one; every step ends at the connection's deadline."""

    def __init__(self, raw: socket.socket, connection: _Connection) -> None:
        self._raw, self._connection = raw, connection
        self.held: list[bytes | memoryview] | None = None

    def makefile(self, mode: str) -> io.BufferedReader:
        assert mode == "rb"
        return io.BufferedReader(_Reader(self._raw, self._connection))

    def sendall(self, data: bytes | memoryview) -> None:
        if self.held is not None:
            self.held.append(data)
            return
        self._raw.settimeout(_left(self._connection.deadline))
        self._raw.sendall(data)

    def close(self) -> None:
        self._raw.close()


class _Reader(io.RawIOBase):
    """Closed with each answer; the socket is not."""

    def __init__(self, raw: socket.socket, connection: _Connection) -> None:
        self._raw, self._connection = raw, connection

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._raw.settimeout(_left(self._connection.deadline))
        return self._raw.recv_into(buffer)


def _left(deadline: float) -> float:
    left_s = deadline - monotonic()
    if left_s <= 0:
        raise TimeoutError
    return left_s
