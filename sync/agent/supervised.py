"""What systemd is told of the agent: in one line, what runs and what kept the last poll; and that its loop turns.

Rule: where there is no systemd, nothing is imported and nothing happens.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from sync.domain.errors import SyncError
from sync.domain.journal import Journal, ModelState, Phase

STOP_WITHIN_S = 30.0
"""Asked of systemd for the end: what is written is synced, on a slow disk."""


def standing(journal: Journal, problem: SyncError | None) -> str:
    """Such as "det 17 → 18 (staging), ocr 3; poll: the store does not answer"."""
    models = [f"{name} {_of(state)}" for name, state in sorted(journal.models.items())]
    told = ", ".join(models) or "no models yet"
    return told if problem is None else f"{told}; poll: {problem.message}"


def _of(state: ModelState) -> str:
    runs = str(state.active.version) if state.active is not None else "none"
    if state.candidate is not None:
        runs += f" → {state.candidate.version}"
    return runs if state.phase is Phase.IDLE else f"{runs} ({state.phase.value.replace('_', ' ')})"


@asynccontextmanager
async def supervised(told: Callable[[], str]) -> AsyncIterator[None]:
    """While it is open, systemd knows that the agent is at work; `told` says how things are, and may not block."""
    if "NOTIFY_SOCKET" not in os.environ:
        yield
        return
    from edge.systemd import take, tend

    given = take()
    given.notifier.ready(told())
    task = asyncio.create_task(tend(given, told), name="systemd")
    try:
        yield
    finally:
        given.notifier.stopping(STOP_WITHIN_S, "stopping")
        task.cancel()
        await asyncio.wait([task])
        given.notifier.close()
