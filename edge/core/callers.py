"""Whether one client has the server to itself.

It may then run models of milliseconds on the event loop: nobody else waits for that, and no answer waits for a thread
to wake. Rule: whoever has company, has it for a while: two that ask in turns would else wait for each other.
"""

from __future__ import annotations

UNKNOWN = 0
"""A caller that cannot be told from others: never alone."""
COMPANY_S = 0.25


class Callers:
    """A caller is a connection, by any number that no other connection has at the same time.

    company_s: seconds for which a caller is taken to be there after its last request.
    """

    def __init__(self, company_s: float = COMPANY_S) -> None:
        self._company_s = company_s
        self._last = UNKNOWN
        self._company_until = 0.0

    def alone(self, caller: int, now: float) -> bool:
        """Note a request of `caller` at `now` (seconds of a clock that never goes back): is nobody else asking?"""
        if caller != self._last or caller == UNKNOWN:
            self._last = caller
            self._company_until = now + self._company_s
            return False
        return now >= self._company_until
