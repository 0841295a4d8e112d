"""What bounds the requests in flight over HTTP, and the time that each may take."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

from edge.domain.errors import DeadlineExceeded, InvalidInput, Overloaded
from edge.frontends.http.message import Request
from edge.wire.encoding import Claim

P = ParamSpec("P")
T = TypeVar("T")

Undo = Callable[[bytes, str, int, Claim], bytes]

MAX_TIMEOUT_MS = 24 * 3600 * 1000
LARGE_BYTES = 1 << 20


class Admission:
    """`with admission:` holds one of `max_inflight` places. `large_bytes`: bodies above it are read off the loop.

    max_body_bytes: what one compressed body may come to; max_inflated_bytes: those of all requests in flight.
    """

    def __init__(
        self,
        *,
        max_inflight: int,
        max_body_bytes: int,
        max_inflated_bytes: int,
        request_timeout_s: float,
        offload: Executor,
        large_bytes: int = LARGE_BYTES,
    ) -> None:
        self._max_body_bytes, self._max_inflated_bytes = max_body_bytes, max_inflated_bytes
        self._max_inflight, self._timeout_s = max_inflight, request_timeout_s
        self._offload, self._large_bytes = offload, large_bytes
        self._inflight = 0
        self._inflated_bytes = 0
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        """Raises Overloaded."""
        if self._inflight >= self._max_inflight:
            raise Overloaded(f"{self._max_inflight} requests are in flight already (max_inflight)")
        self._inflight += 1

    def __exit__(self, *_: object) -> None:
        self._inflight -= 1

    def deadline(self, request: Request) -> float:
        """In the loop's time: X-Request-Timeout-Ms from the request's arrival, else the default. Raises InvalidInput."""
        given = request.headers.get(b"x-request-timeout-ms")
        if given is None:
            return request.arrived + self._timeout_s
        try:
            timeout_ms = float(given)
        except ValueError:
            timeout_ms = -1.0
        if not 0 < timeout_ms <= MAX_TIMEOUT_MS:
            raise InvalidInput(
                f"X-Request-Timeout-Ms: want a number of milliseconds up to {MAX_TIMEOUT_MS}, "
                f"got {given.decode('latin-1')[:40]!r}"
            )
        return request.arrived + timeout_ms / 1000

    def is_small(self, size: int) -> bool:
        """Whether work whose cost goes with `size` bytes may be done on the event loop; else it is for `aside`."""
        return size <= self._large_bytes

    @contextmanager
    def inflating(self) -> Iterator[Claim]:
        """How one request claims the bytes that its body inflates to, in any thread; given back when the block ends.

        The claim raises Overloaded, also once the block has ended: a thread may go on after its request was given up.
        """
        mine, over = 0, False

        def claim(size: int) -> None:
            nonlocal mine, over
            with self._lock:
                if over:
                    raise Overloaded("the request was given up")
                if self._inflated_bytes + size > self._max_inflated_bytes:
                    # At once, or those that are under way would all refuse each other.
                    self._inflated_bytes -= mine
                    mine, over = 0, True
                    raise Overloaded("too many bytes of compressed requests are held (max_inflight_body_bytes)")
                self._inflated_bytes += size
                mine += size

        try:
            yield claim
        finally:
            with self._lock:
                self._inflated_bytes -= mine
                mine, over = 0, True

    async def inflated(self, request: Request, deadline: float, claim: Claim, undo: Undo) -> bytes:
        """The request's body without its content encoding. Raises DeadlineExceeded, and what `undo` raises."""
        most = self._max_body_bytes  # what it may come to, which is what it may cost
        encoding = request.header(b"content-encoding")
        return await self.read(most, deadline, undo, request.body, encoding, most, claim)

    async def read(self, size: int, deadline: float, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do work whose cost goes with `size` bytes: here, or in a thread where it would hold up everybody else."""
        if self.is_small(size):
            return work(*args, **kwargs)
        return await self.aside(deadline, work, *args, **kwargs)

    async def aside(self, deadline: float, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """In a thread, where it does not hold up everybody else. Raises DeadlineExceeded, and what `work` raises."""
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._offload, lambda: work(*args, **kwargs))
        # Whoever waits may give up; the thread goes on, and nobody asks for its error then.
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        # Not asyncio.wait_for, which from Python 3.12 on wants a task around it: see edge.frontends.http.eager.
        try:
            await asyncio.wait((future,), timeout=max(0.0, deadline - loop.time()))
            if not future.done():
                raise DeadlineExceeded("the request's time was up while its body was read")
            return future.result()
        finally:
            # An error knows this frame: in a circle with it, all that was read would wait for the garbage collector.
            del future
