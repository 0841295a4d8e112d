"""How far each update is, told while it goes on.

Rule 1: at most once in TELL_S, and only what has changed. Rule 2: nothing is looked at while nothing is under way, or nobody listens.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

import msgspec

from sync.agent.here import bytes_here, bytes_of
from sync.agent.places import Places
from sync.domain.errors import DiskError
from sync.domain.journal import Installed, Journal, ModelState, Phase
from sync.domain.ports import Files

TELL_S = 1.0


class Listener(Protocol):
    @property
    def connected(self) -> bool: ...
    def tell(self, progress: bytes) -> None: ...


class Progress(msgspec.Struct, frozen=True):
    """Of `version`, on its way. `bytes` of `total` are here."""

    model: str
    version: int
    bytes: int
    total: int
    phase: str


async def tell_progress(files: Files, places: Places, journal: Callable[[], Journal], listener: Listener) -> None:
    """For ever."""
    last: dict[str, Progress] = {}
    while True:
        if listener.connected:
            for model, state in journal().models.items():
                if (one := await _of(files, places, model, state, model in last)) is None:
                    continue
                if one != last.get(model):
                    listener.tell(msgspec.json.encode(one))
                    last[model] = one
                if state.phase is Phase.IDLE:
                    del last[model]
        await asyncio.sleep(TELL_S)


async def _of(files: Files, places: Places, model: str, state: ModelState, told: bool) -> Progress | None:
    """None where there is nothing to tell; told: it was under way when it was looked at last."""
    release = _on_its_way(state, told)
    if release is None:
        return None
    total = here = bytes_of(release)
    if state.phase is Phase.STAGING:
        try:
            here = min(await asyncio.to_thread(bytes_here, files, places, release), total)
        except DiskError:
            return None
    return Progress(model, release.version, here, total, state.phase.value)


def _on_its_way(state: ModelState, told: bool) -> Installed | None:
    if state.phase is Phase.IDLE:
        return state.active if told else None
    return state.candidate or state.active
