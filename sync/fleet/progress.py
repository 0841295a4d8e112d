"""How far a long piece of work is: said by who does it, shown by who started it."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """One stage at a time."""

    def begin(self, what: str, total: int, *, in_bytes: bool = False) -> None:
        """total: pieces, or bytes."""
        ...

    def step(self, count: int = 1) -> None: ...
    def end(self) -> None: ...


class Quiet:
    """Shows nothing."""

    def begin(self, what: str, total: int, *, in_bytes: bool = False) -> None: ...
    def step(self, count: int = 1) -> None: ...
    def end(self) -> None: ...
