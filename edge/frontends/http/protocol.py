"""One HTTP/1.1 connection: whole requests to the handler, answers out in order, and no longer than each may take.

Rule 1: one request at a time is answered; while one is, at most one more is read (pipelining), then reading stops.
Of those that came together, some are answered before other connections have their turn, and then some more.
Rule 2: every phase has a deadline that `tick` holds it to: idle, head, body, sending.
Rule 3: the memory that was claimed for a body is given back when its request is answered. What a client does not take of
its answer is claimed too, and for whom there is no room the connection ends.
Rule 4: a client that goes away cancels its request. One that only closes its sending side looks the same, and is
taken to be gone too.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from functools import partial
from typing import Protocol

from edge.frontends.http import eager
from edge.frontends.http.limits import HttpLimits
from edge.frontends.http.message import CLOSE, Request, Response, encode, json_error
from edge.frontends.http.reading import Reader, Refused

log = logging.getLogger(__name__)

MAX_AT_ONCE = 16
"""Answers to the requests of one read, before other connections have their turn."""
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Shared(Protocol):
    """What all connections of a listener share."""

    limits: HttpLimits
    loop: asyncio.AbstractEventLoop
    draining: bool

    async def handle(self, request: Request) -> Response:
        """Never raises."""
        ...

    def refused(self, response: Response) -> None:
        """Count what was turned away by a connection itself."""
        ...

    def admit(self, connection: HttpProtocol) -> bool:
        """Whether there is room for one more; it has been noted either way."""
        ...

    def left(self, connection: HttpProtocol) -> None: ...

    def claim(self, size: int) -> bool:
        """Whether there is room for so many bytes more of requests and answers; they are then taken."""
        ...

    def release(self, size: int) -> None: ...


class HttpProtocol(asyncio.Protocol):
    """See the module's rules."""

    def __init__(self, listener: Shared) -> None:
        self._listener = listener
        self._limits = listener.limits
        self._loop = listener.loop
        self._reader = Reader(
            self._limits,
            claim=listener.claim,
            now=self._loop.time,
            head=self._head,
            whole=self._whole,
            caller=id(self),
        )
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None
        self._waiting: deque[tuple[Request, bytes, int]] = deque()
        self._busy = self._resting = False
        self._at_once = 0
        self._refused: Response | None = None
        self._closing = False
        self._can_write = True
        self._unsent = self._unsent_claimed = 0
        self.deadline = 0.0

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
        self._release(self._reader.claimed + self._unsent_claimed)
        self._unsent_claimed = 0
        for _, _, claimed in self._waiting:
            self._release(claimed)
        self._waiting.clear()
        self._listener.left(self)

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        if not (self._busy or self._waiting or self._reader.under_way):  # idle, without a call
            self._expect_within(self._limits.header_timeout_s)
        self._at_once = 0
        try:
            self._reader.feed(data)
        except Refused as refused:
            self._refuse(refused.response)

    def pause_writing(self) -> None:
        self._can_write = False
        self.deadline = self._loop.time() + self._limits.send_timeout_s
        if self._transport is None:
            return
        self._unsent = self._transport.get_write_buffer_size()
        if self._listener.claim(self._unsent):
            self._unsent_claimed = self._unsent
        else:
            log.warning("an answer of %d bytes waits for a client, and there is no room for more", self._unsent)
            self._closing = True
            self._loop.call_soon(self._transport.abort)  # not amid its own writing

    def resume_writing(self) -> None:
        self._can_write = True
        self._release(self._unsent_claimed)
        self._unsent_claimed = 0
        self._next()

    # -- the reader's side

    def _head(self, expects: bool) -> None:
        self._expect_within(self._limits.body_timeout_s)
        if expects and self._transport is not None:
            self._transport.write(_CONTINUE)

    def _whole(self, request: Request, connection: bytes, claimed: int) -> None:
        self._waiting.append((request, connection, claimed))
        if not (self._busy or self._resting):
            self._next()
        elif self._transport is not None:
            self._transport.pause_reading()

    def _expect_within(self, seconds: float) -> None:
        # What is pipelined behind an answer that is being made or sent may not give that one more time.
        if self._can_write and not self._busy:
            self.deadline = self._loop.time() + seconds

    # -- answering

    def _next(self) -> None:
        while self._waiting and not (self._busy or self._resting or self._closing) and self._can_write:
            if self._transport is None:
                return
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
            self._at_once += 1
            if self._at_once >= MAX_AT_ONCE:
                self._rest()

    def _rest(self) -> None:
        """Let others have their turn."""
        if self._transport is not None and not (self._resting or self._closing):
            self._resting = True
            self._transport.pause_reading()
            self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        self._resting, self._at_once = False, 0
        self._next()
        if self._refused is not None:
            self._refuse(self._refused)
        if self._transport is not None and not (self._closing or self._waiting or self._resting):
            self._transport.resume_reading()

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
        if self._resting and self._waiting:
            # What came whole before it is answered first.
            self._refused = response
            return
        self._closing = True
        self._listener.refused(response)
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
        return not self._busy and not self._waiting and not self._reader.under_way

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
