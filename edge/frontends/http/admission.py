"""What bounds the requests in flight over HTTP, and the time that each may take."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import ParamSpec, TypeVar

from edge.domain.errors import DeadlineExceeded, InvalidInput, Overloaded
from edge.frontends.http.message import Request

P = ParamSpec("P")
T = TypeVar("T")

MAX_TIMEOUT_MS = 24 * 3600 * 1000
LARGE_BYTES = 1 << 20


class Admission:
    """`with admission:` holds one of `max_inflight` places. `large_bytes`: bodies above it are read off the loop."""

    def __init__(
        self, *, max_inflight: int, request_timeout_s: float, offload: Executor, large_bytes: int = LARGE_BYTES
    ) -> None:
        self._max_inflight, self._timeout_s = max_inflight, request_timeout_s
        self._offload, self._large_bytes = offload, large_bytes
        self._inflight = 0

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

    async def read(self, size: int, deadline: float, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do work whose cost goes with `size` bytes: here, or in a thread where it would hold up everybody else."""
        if self.is_small(size):
            return work(*args, **kwargs)
        return await self.aside(deadline, work, *args, **kwargs)

    async def aside(self, deadline: float, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """In a thread, where it does not hold up everybody else. Raises DeadlineExceeded, and what `work` raises."""
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._offload, lambda: work(*args, **kwargs))
        try:
            return await asyncio.wait_for(asyncio.shield(future), max(0.0, deadline - loop.time()))
        except TimeoutError:
            future.add_done_callback(lambda done: done.cancelled() or done.exception())
            raise DeadlineExceeded("the request's time was up while its body was read") from None
