"""What is wrong with a store, collected: whoever looks at all of it goes on after each fault.

Rule: a store that does not answer any more is left after MAX_SILENT faults of that kind in a row; nobody waits for each of
a thousand objects in turn.
"""

from __future__ import annotations

from types import TracebackType
from typing import NamedTuple

from sync.domain.errors import Reason, SyncError, TooSlow, Unreachable

MAX_SILENT = 5
EXPIRY = (Reason.STALE_METADATA, Reason.TRUST_EXPIRED)
MAX_FAULTS = 10_000
"""That are kept; more are counted."""


class Fault(NamedTuple):
    """`where`: an object's path, a role's or a document's name."""

    where: str
    error: SyncError

    def __str__(self) -> str:
        return self.error.message if self.where in self.error.message else f"{self.where}: {self.error.message}"


class Faults:
    """`count`: of all; `found`: the first of them."""

    def __init__(self) -> None:
        self.found: list[Fault] = []
        self.count = 0
        self._silent = 0

    def add(self, where: str, error: SyncError) -> None:
        """Raises the error itself where the store has fallen silent."""
        self.count += 1
        if len(self.found) < MAX_FAULTS:
            self.found.append(Fault(where, error))
        self._silent = self._silent + 1 if isinstance(error, Unreachable | TooSlow) else 0
        if self._silent >= MAX_SILENT:
            raise error

    def heard(self) -> None:
        """The store has answered."""
        self._silent = 0

    def noting(self, where: str) -> _Noting:
        """What is raised in the block is a fault of `where`, and goes no further."""
        return _Noting(self, where)

    @property
    def but_expiry(self) -> list[Fault]:
        """Those that hide something: what has expired can be read all the same."""
        return [fault for fault in self.found if fault.error.reason not in EXPIRY]

    def __bool__(self) -> bool:
        return self.count > 0


class _Noting:
    def __init__(self, faults: Faults, where: str) -> None:
        self._faults, self._where = faults, where

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if isinstance(error, SyncError):
            self._faults.add(self._where, error)
            return True
        if error is None:
            self._faults.heard()
        return False
