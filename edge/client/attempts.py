"""When a request may be sent again, and how long to wait before. Pure.

Rule 1: only what the server cannot have begun: no connection came about, or it said that it is full and when to come back.
Rule 2: never past the caller's deadline, and never more often than the caller allows.
"""

from __future__ import annotations

from dataclasses import dataclass

from edge.client.errors import ClientError, DeadlineExceeded, Overloaded, Unreachable

MAX_TIMEOUT_MS = 24 * 3600 * 1000
"""What the server takes at most as X-Request-Timeout-Ms."""


@dataclass(frozen=True, slots=True)
class Retries:
    """`attempts`: requests for one answer, the first one included. `backoff_s`: wait after the first refused connection,
    doubled for each further one."""

    attempts: int = 3
    backoff_s: float = 0.1

    def wait_s(self, error: ClientError, attempt: int, left_s: float) -> float | None:
        """Seconds to wait after attempt number `attempt` (1 is the first) failed; None where the error is the answer."""
        if attempt >= self.attempts:
            return None
        if isinstance(error, Unreachable) and error.unsent:
            wait_s = self.backoff_s * 2.0 ** (attempt - 1)
        elif isinstance(error, Overloaded):
            wait_s = error.retry_after_s
        else:
            return None
        return wait_s if wait_s < left_s else None


ONCE = Retries(attempts=1)


def timeout_header(left_s: float) -> str:
    """X-Request-Timeout-Ms for a caller who waits so long. Raises DeadlineExceeded where nothing is left."""
    if left_s <= 0:
        raise DeadlineExceeded("the time for this call is up")
    return f"{min(left_s * 1000, MAX_TIMEOUT_MS):.3f}"
