"""Checks of the model server: whether it answers, speaks what the agent understands, and does what it was told."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sync.agent.view import View
from sync.config import Config
from sync.doctor.finding import Finding, fail, ok, warn
from sync.domain.errors import Reason, ServerAbsent, Unsuitable
from sync.domain.journal import aspired
from sync.domain.ports import ServerHealth

LEAST_VERSION = (0, 1)
"""Of the server: the first whose status has all that an update is watched by."""


def check_server(config: Config, server: ServerHealth | str) -> Iterator[Finding]:
    if isinstance(server, str):
        do = "start it; until it answers no update goes on, and what it serves is not touched"
        yield fail("server", ServerAbsent(server), do)
        return
    numbers = tuple(int(number) for number in re.findall(r"\d+", server.version)[:2])
    if numbers < LEAST_VERSION:
        wanted = ".".join(map(str, LEAST_VERSION))
        text = f"want edge {wanted} or later, got {server.version or 'one that says no version'}"
        yield fail("server", Unsuitable(text, Reason.INCOMPATIBLE), "update the server")
        return
    yield ok("server", f"edge {server.version} answers; the one before it ended: {server.last_exit}")


def check_told(view: View) -> Iterator[Finding]:
    """Whether the server acts on what the agent wrote for it."""
    if not isinstance(view.server, ServerHealth):
        return
    for name, state in sorted(view.journal.models.items()):
        if aspired(state) is None:
            continue
        known = view.server.models.get(name)
        if known is None:
            text = f"{name}: the server does not know the model"
            yield warn("told", text, "see that the server serves paths.models_dir, and may read it")
        elif known.problem:
            yield warn(
                "told", f"{name}: the server cannot follow its aspired.json: {known.problem}", "see the server's log"
            )
        elif known.generation != state.generation:
            text = f"{name}: the server acts on generation {known.generation}, the agent wrote {state.generation}"
            yield warn("told", text, "ask again in a few seconds; then see the server's log")
        else:
            yield ok("told", f"{name}: the server acts on what the agent wrote")
