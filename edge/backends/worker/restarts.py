"""When a worker that ended is started again. Pure: what happened in, how long to wait out."""

from __future__ import annotations

from dataclasses import dataclass

BACKOFF_S = 0.5
MAX_BACKOFF_S = 30.0
MAX_DEATHS = 5
SETTLED_S = 60.0


@dataclass(frozen=True, slots=True)
class Restarts:
    """backoff_s: the first wait; it doubles, up to max_backoff_s. max_deaths: at the last of so many in a row there is no further start.

    settled_s: who served for so long begins a new row.
    """

    backoff_s: float = BACKOFF_S
    max_backoff_s: float = MAX_BACKOFF_S
    max_deaths: int = MAX_DEATHS
    settled_s: float = SETTLED_S

    def row(self, before: int, served_s: float) -> int:
        """Deaths in a row with the one just now, after `before`."""
        return 1 if served_s >= self.settled_s else before + 1

    def wait_s(self, deaths: int) -> float | None:
        """Seconds until the next start, None for no further one."""
        if deaths >= self.max_deaths:
            return None
        return min(self.max_backoff_s, self.backoff_s * 2.0 ** (deaths - 1))
