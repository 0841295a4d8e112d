"""What every call goes through: token, a place, its message, its deadline; and how it fails.

Rule 1: nothing of a message is read before the token was right and a place was free. Rule 2: a method gets bytes and gives
bytes, and raises EdgeError; a bug is INTERNAL with a logged traceback. Rule 3: a call that its client gave up is cancelled, as
far as it has come.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from edge.domain.errors import DeadlineExceeded, EdgeError, InvalidInput, NotFound, NotReady, Overloaded, UnknownLabel
from edge.frontends.grpc.limits import GrpcLimits
from edge.frontends.http.admission import Admission
from edge.frontends.http.guard import Guard
from edge.wire.grpc_status import Failure

log = logging.getLogger(__name__)

PROTOCOL = "grpc"
_PUSHBACK = "grpc-retry-pushback-ms"
"""How gRPC's clients are told when to try again."""


class Metadata:
    """What a call carries beside its messages, looked up when somebody asks; `edge.domain.requests.Carried`."""

    __slots__ = ("_context",)

    def __init__(self, context: Any) -> None:
        self._context = context

    def get(self, name: bytes, /) -> bytes | None:
        wanted = name.decode("latin-1")
        for key, value in self._context.invocation_metadata() or ():
            if key == wanted:
                return value.encode("utf-8", "replace") if isinstance(value, str) else bytes(value)
        return None


class Call:
    """One message and what is known of it. `deadline` is a reading of the loop's clock, in seconds; `carried` is the call's
    metadata.

    `reached`: a version has counted it, or will. `model` and `id`: what it names, for the words of an error.
    """

    __slots__ = ("_calls", "_claimed", "body", "carried", "deadline", "id", "model", "reached")

    def __init__(self, calls: Calls, body: bytes, deadline: float, context: Any) -> None:
        self._calls, self._claimed = calls, 0
        self.carried = Metadata(context)
        self.body, self.deadline = body, deadline
        self.reached, self.model, self.id = False, "", ""

    def claim(self, size: int) -> None:
        """What it holds until it is answered comes to `size` bytes. Raises Overloaded."""
        self._claimed += self._calls.claim(max(0, size - self._claimed))

    def release(self) -> None:
        """gRPC keeps the frames of a call that was aborted until the garbage collector comes: without the message, then."""
        self._calls.claim(-self._claimed)
        self._claimed = 0
        self.body = b""


Work = Callable[[Call], Awaitable[bytes]]
Words = Callable[[EdgeError, Call | None], Failure]


class Calls:
    """`refused(protocol, code)` counts what never came to a model."""

    def __init__(
        self, *, guard: Guard, admission: Admission, limits: GrpcLimits, refused: Callable[[str, str], None]
    ) -> None:
        self.admission, self.limits = admission, limits
        self._guard, self._refused = guard, refused
        self._loop = asyncio.get_running_loop()
        self._held = self._streams = 0
        self.closing = self._loop.create_future()

    def now(self) -> float:
        """The loop's time, in seconds."""
        return self._loop.time()

    def claim(self, size: int) -> int:
        """Raises Overloaded."""
        if size > 0 and self._held + size > self.limits.max_held_bytes:
            raise Overloaded("too many bytes of requests are held (server.max_inflight_body_bytes)")
        self._held += size
        return size

    def unary(self, work: Work, words: Words, *, open_to_all: bool = False) -> Any:
        """A method of one message and one answer. `open_to_all`: without a token."""

        async def handle(_: object, context: Any) -> bytes:
            call: Call | None = None
            try:
                self._check_token(context, open_to_all)
                with self.admission:
                    deadline = self._deadline(context)
                    call = Call(self, await self._message(context, deadline), deadline, context)
                    try:
                        call.claim(len(call.body))
                        return await work(call)
                    finally:
                        call.release()
            except EdgeError as error:
                failure = self.failed(error, call, words)
            except Exception as error:
                failure = self.broke(error)
            await end(context, failure)
            raise AssertionError("a call that was ended goes on")

        # Of a stream of messages, so that it is for us to say when the one that comes is read.
        return grpc.stream_unary_rpc_method_handler(handle)

    def stream(self, work: Callable[[Any], Awaitable[None]], words: Words, *, open_to_all: bool = False) -> Any:
        """A method that reads and answers as long as it likes; `work` is given gRPC's context."""

        async def handle(_: object, context: Any) -> None:
            try:
                self._check_token(context, open_to_all)
                with self._place():
                    await work(context)
                    return
            except EdgeError as error:
                failure = self.failed(error, None, words)
            except Exception as error:
                failure = self.broke(error)
            await end(context, failure)

        return grpc.stream_stream_rpc_method_handler(handle)

    async def first(self, context: Any) -> bytes:
        """A stream's first message. Raises DeadlineExceeded, InvalidInput."""
        return await self._message(context, self._loop.time() + self.limits.message_timeout_s)

    async def messages(self, context: Any) -> AsyncIterator[Call]:
        """A stream's messages, one at a time, each with a deadline of its own. Raises NotReady when the server goes."""
        call = Call(self, await self.first(context), self._deadline(context, of_stream=True), context)
        while True:
            try:
                yield call
            finally:
                call.release()
            read = asyncio.ensure_future(context.read())
            try:
                await asyncio.wait((read, self.closing), return_when=asyncio.FIRST_COMPLETED)
                if not read.done():
                    raise NotReady("the server is going down")
                if read.result() is grpc.aio.EOF:
                    return
                call = Call(self, read.result(), self._deadline(context, of_stream=True), context)
            finally:
                read.cancel()
                del read

    def failed(self, error: EdgeError, call: Call | None, words: Words) -> Failure:
        if call is None or not call.reached or isinstance(error, NotFound | UnknownLabel):
            self._refused(PROTOCOL, error.code.value)
        return words(error, call)

    def broke(self, error: Exception) -> Failure:
        """A bug, or no memory."""
        if isinstance(error, MemoryError):
            log.error("gRPC: not enough memory to answer")
            return Failure("UNAVAILABLE", "not enough memory to answer", 1000)
        log.error("gRPC: internal error", exc_info=error)
        return Failure("INTERNAL", "internal error")

    @contextmanager
    def _place(self) -> Iterator[None]:
        if self._streams >= self.limits.max_streams:
            raise Overloaded(f"{self.limits.max_streams} streams are open already (grpc.max_streams)")
        self._streams += 1
        try:
            yield
        finally:
            self._streams -= 1

    def _check_token(self, context: Any, open_to_all: bool) -> None:
        """Raises Unauthenticated."""
        if self._guard.tokens is None or open_to_all:
            return
        refusal = self._guard.without_token(Metadata(context).get(b"authorization") or b"")
        if refusal is not None:
            raise refusal

    def _deadline(self, context: Any, *, of_stream: bool = False) -> float:
        """The call's own; of a stream's messages, and of calls that have none, what the server allows."""
        now = self._loop.time()
        left: float | None = context.time_remaining()
        if left is None:
            return now + self.limits.request_timeout_s
        return now + (min(left, self.limits.request_timeout_s) if of_stream else left)

    async def _message(self, context: Any, deadline: float) -> bytes:
        """Raises DeadlineExceeded, InvalidInput."""
        within = self.limits.message_timeout_s
        try:
            async with asyncio.timeout_at(min(deadline, self._loop.time() + within)):
                message = await context.read()
        except TimeoutError:
            raise DeadlineExceeded(f"want a call's message within {within:g} s (grpc.message_timeout_s)") from None
        if message is grpc.aio.EOF:
            raise InvalidInput("want one message, got none")
        body: bytes = message
        return body


async def end(context: Any, failure: Failure) -> None:
    """Raises what ends the call."""
    told = () if failure.retry_after_ms is None else ((_PUSHBACK, str(failure.retry_after_ms)),)
    await context.abort(grpc.StatusCode[failure.code], failure.text, told)
