"""One HTTP/1.1 connection: bytes in, whole requests to the handler, answers out in order.

Rule 1: one request at a time is answered; while one is, at most one more is read (pipelining), then reading stops.
Rule 2: every phase has a deadline that `tick` holds it to: idle, head, body, sending.
Rule 3: memory is claimed from the listener before a body is kept, and given back when its request is answered.
Rule 4: a client that goes away cancels its request. One that only closes its sending side looks the same, and is
taken to be gone too.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from functools import partial
from typing import TYPE_CHECKING

import httptools

from edge.frontends.http import eager
from edge.frontends.http.message import (
    CLOSE,
    KEEP_ALIVE,
    PERSISTENT,
    Request,
    Response,
    encode,
    head_without_upgrade,
    json_error,
)

if TYPE_CHECKING:
    from edge.frontends.http.listener import Listener

log = logging.getLogger(__name__)

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class HttpProtocol(asyncio.Protocol):
    """See the module's rules."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._limits = listener.limits
        self._loop = listener.loop
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None
        self._waiting: deque[tuple[Request, bytes, int]] = deque()
        self._busy = False
        self._claimed = 0
        self._closing = False
        self._can_write = True
        self._unsent = 0
        # Bytes since the parser last had something to say: an endless header or trailer shows here.
        self._unheard = 0
        self.deadline = 0.0
        self._reset()

    def _reset(self) -> None:
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._header_bytes = 0
        self._in_head = False
        self._body: list[bytes] = []
        self._body_bytes = 0

    # -- the transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # a stream's transport is an asyncio.Transport
        self.deadline = self._loop.time() + self._limits.header_timeout_s
        if not self._listener.admit(self):
            self._refuse(json_error(503, "too many connections (max_connections)", (("Retry-After", "1"),)))

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._closing = True
        if self._task is not None:
            self._task.cancel()
        self._release(self._claimed)
        for _, _, claimed in self._waiting:
            self._release(claimed)
        self._waiting.clear()
        self._claimed = 0
        self._listener.left(self)

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        if not (self._busy or self._in_head or self._body_bytes or self._waiting):  # idle, as below
            self._expect_within(self._limits.header_timeout_s)
        self._unheard += len(data)
        try:
            self._feed(data)
        except httptools.HttpParserError as error:
            cause = error.__context__
            if isinstance(cause, _Refused):
                self._refuse(cause.response)
            else:
                self._refuse(json_error(400, f"malformed HTTP request: {error}"))
        if self._unheard > self._limits.max_header_bytes:
            self._refuse(self._head_too_large())

    def _feed(self, data: bytes) -> None:
        while data:
            try:
                self._parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as offer:
                data = self._without_upgrade() + data[offer.args[0] :]

    def _without_upgrade(self) -> bytes:
        """The head of what was read last, to be read again without its offer of another protocol."""
        method, version = self._parser.get_method(), self._parser.get_http_version()
        if method == b"CONNECT":
            raise httptools.HttpParserError("CONNECT is for proxies")
        head = head_without_upgrade(method, self._url, version, self._headers)
        self._parser = httptools.HttpRequestParser(self)
        self._reset()
        return head

    def pause_writing(self) -> None:
        self._can_write = False
        self._unsent = self._transport.get_write_buffer_size() if self._transport is not None else 0
        self.deadline = self._loop.time() + self._limits.send_timeout_s

    def resume_writing(self) -> None:
        self._can_write = True
        self._next()

    # -- the parser's side

    def on_message_begin(self) -> None:
        self._in_head = True

    def on_url(self, url: bytes) -> None:
        self._url += url
        self._header_bytes += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if self._headers.setdefault(name, value) is not value and name == b"host":
            raise _Refused(json_error(400, "want one Host header, got two"))
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > self._limits.max_header_bytes:
            raise _Refused(self._head_too_large())

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._expect_within(self._limits.body_timeout_s)
        self._unheard = 0
        length = self._headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self._limits.max_body_bytes:
            raise _Refused(self._too_large())
        if b"host" not in self._headers and self._parser.get_http_version() == "1.1":
            raise _Refused(json_error(400, "want a Host header (RFC 9112, section 3.2)"))
        if self._headers.get(b"expect", b"").lower() == b"100-continue" and self._transport is not None:
            self._transport.write(_CONTINUE)

    def on_body(self, body: bytes) -> None:
        self._unheard = 0
        self._body_bytes += len(body)
        if self._body_bytes > self._limits.max_body_bytes:
            raise _Refused(self._too_large())
        if not self._listener.claim(len(body)):
            raise _Refused(
                json_error(
                    503, "too many bytes of requests are held (max_inflight_body_bytes)", (("Retry-After", "1"),)
                )
            )
        self._claimed += len(body)
        self._body.append(body)

    def on_message_complete(self) -> None:
        self._unheard = 0
        if self._parser.should_upgrade():
            return  # read again: see _without_upgrade
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        request = Request(
            self._parser.get_method().decode("latin-1"),
            self._url.decode("latin-1"),
            self._headers,
            body,
            self._loop.time(),
        )
        self._waiting.append((request, self._connection(), self._claimed))
        self._claimed = 0
        self._reset()
        if self._busy:
            if self._transport is not None:
                self._transport.pause_reading()
        else:
            self._next()

    def _connection(self) -> bytes:
        if not self._parser.should_keep_alive():
            return CLOSE
        # Only HTTP/1.0 needs to be told, and it has asked.
        asked = b"connection" in self._headers and self._parser.get_http_version() == "1.0"
        return KEEP_ALIVE if asked else PERSISTENT

    def _head_too_large(self) -> Response:
        limit = self._limits.max_header_bytes
        return json_error(431, f"the request's head is larger than {limit} bytes (max_header_bytes)")

    def _too_large(self) -> Response:
        return json_error(413, f"the body is larger than {self._limits.max_body_bytes} bytes (max_body_bytes)")

    def _expect_within(self, seconds: float) -> None:
        # What is pipelined behind an answer that is being made or sent may not give that one more time.
        if self._can_write and not self._busy:
            self.deadline = self._loop.time() + seconds

    # -- answering

    def _next(self) -> None:
        while self._waiting and not (self._busy or self._closing) and self._can_write and self._transport is not None:
            request, connection, claimed = self._waiting.popleft()
            self._busy = True
            self.deadline = float("inf")
            later = partial(self._answer_later, request.method, connection, claimed)
            outcome = eager.start(self._listener.handle(request), self._loop, later)
            if isinstance(outcome, asyncio.Task):
                self._task = outcome
                outcome.add_done_callback(partial(self._ended, claimed))
                return
            self._answer(outcome, request.method, connection, claimed)

    def _answer_later(self, method: str, connection: bytes, claimed: int, response: Response) -> None:
        self._task = None
        self._answer(response, method, connection, claimed)
        self._next()

    def _ended(self, claimed: int, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            self._release(claimed)
        else:
            task.result()  # a bug of ours is for the loop to log

    def _answer(self, response: Response, method: str, connection: bytes, claimed: int) -> None:
        self._release(claimed)
        transport = self._transport
        if transport is None:
            return
        self._busy = False
        self.deadline = self._loop.time() + self._limits.keepalive_s
        if self._listener.draining or self._closing:
            connection = CLOSE
        transport.write(encode(response, connection, head_only=method == "HEAD"))
        if connection is CLOSE:
            self._closing = True
            transport.close()
        elif not self._can_write:
            self.deadline = self._loop.time() + self._limits.send_timeout_s
        else:
            transport.resume_reading()

    def _refuse(self, response: Response) -> None:
        """Say why, and hang up: what follows on this connection cannot be trusted to be a request."""
        if self._transport is None or self._closing:
            return
        self._closing = True
        if self._busy:
            # The request before this one still gets its answer; this one's would come out of order.
            return
        self._transport.write(encode(response, CLOSE, head_only=False))
        if self._transport.can_write_eof():
            # To close on bytes that were not read resets the connection, and may take the answer with it.
            self._transport.write_eof()
            self._transport.resume_reading()
            self.deadline = self._loop.time() + self._limits.linger_s
        else:
            self._transport.close()

    def _release(self, claimed: int) -> None:
        if claimed:
            self._listener.release(claimed)

    # -- the listener's side

    @property
    def idle(self) -> bool:
        return not self._busy and not self._waiting and not self._in_head and not self._body_bytes

    def tick(self, now: float) -> None:
        """Called about once a second: hold the connection to its deadline."""
        if now < self.deadline or self._transport is None:
            return
        if not self._can_write and self._reads_on(self._transport, now):
            return
        if not self._can_write or self._closing:
            self._transport.abort()
        elif self.idle:
            self._closing = True
            self._transport.close()
        else:
            self._refuse(json_error(408, "the request did not arrive in time"))

    def _reads_on(self, transport: asyncio.Transport, now: float) -> bool:
        """Whether the client has taken enough of its answer to be given as much time again: its line may be slow."""
        unsent = transport.get_write_buffer_size()
        if self._unsent - unsent < self._limits.min_send_bytes:
            return False
        self._unsent, self.deadline = unsent, now + self._limits.send_timeout_s
        return True

    def hang_up(self, *, at_once: bool) -> None:
        """Close now if nothing is under way, else after the answer; `at_once` regardless."""
        if self._transport is None:
            return
        if at_once:
            self._transport.abort()
        elif self.idle:
            self._closing = True
            self._transport.close()


class _Refused(Exception):
    """Raised within the parser's callbacks, to leave it."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status)
        self.response = response
