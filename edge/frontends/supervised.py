"""What systemd is told of the server: how its models are, in one line, and what it cannot recover from by itself.

Rule: `edge.systemd` does the talking; what to say is a pure function.
"""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from edge.domain.lifecycle import State
from edge.domain.ports import ModelStatus

if TYPE_CHECKING:
    from edge.systemd import Given

ORDER = ("ready", "loading", "unloading", "failed", "not there")
_STANDING = {
    State.READY: "ready",
    State.LOADING: "loading",
    State.TESTING: "loading",
    State.DRAINING: "unloading",
    State.FAILED: "failed",
}


def standing(models: Iterable[ModelStatus]) -> str:
    """Such as "3 models ready, 1 loading, 1 updating": each model counts once, by the best of its versions.

    An update is a version that loads beside one that is ready.
    """
    counts: Counter[str] = Counter()
    for model in models:
        states = {_STANDING.get(version.state, "not there") for version in model.versions}
        counts[next((each for each in ORDER if each in states), "not there")] += 1
        counts["updating"] += states >= {"ready", "loading"}
    words = [f"{counts[each]} {each}" for each in (*ORDER, "updating") if counts[each]]
    if not words:
        return "no models"
    number, _, rest = words[0].partition(" ")
    return ", ".join((f"{number} model{'' if number == '1' else 's'} {rest}", *words[1:]))


class Supervised:
    """The server's side of it; where there is no systemd, nothing is imported and nothing happens."""

    def __init__(self) -> None:
        """Takes what systemd gave the process: once in it, and early."""
        self._given: Given | None = None
        if "NOTIFY_SOCKET" in os.environ or "LISTEN_FDS" in os.environ:
            from edge.systemd import take

            self._given = take()

    @property
    def sockets(self) -> Mapping[str, Sequence[socket.socket]]:
        """By name, listening already."""
        return self._given.sockets if self._given is not None else {}

    def ready(self, text: str) -> None:
        if self._given is not None:
            self._given.notifier.ready(text)

    def reloading(self) -> None:
        if self._given is not None:
            self._given.notifier.reloading()

    def stopping(self, within_s: float) -> None:
        if self._given is not None:
            self._given.notifier.stopping(within_s, "finishing what runs")

    async def tend(self, told: Callable[[], str], hung: Callable[[], str]) -> None:
        """See `edge.systemd.tend`."""
        if self._given is not None:
            from edge.systemd import tend

            await tend(self._given, told, hung)
