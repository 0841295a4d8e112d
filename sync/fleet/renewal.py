"""Signatures kept from ending: again and again, for as long as the program runs.

Rule 1: a renewal that fails is tried again, sooner than the next one would be and later each time; nothing but a first one
that can never succeed (a wrong key, no store) ends the loop. Rule 2: who is told to stop ends what was begun: a transaction
is never torn. Rule 3: time that the machine slept counts. Rule 4: what only a person can sign is told in time.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from sync.domain.errors import Missing, OperatorError, SyncError
from sync.domain.ports import Clock
from sync.fleet.keys import ONLINE, ROLES, SOON
from sync.fleet.sign import Repository, Transaction

MOST_S = ROLES["timestamp"].expiry.total_seconds() / 2
"""Between two renewals: there must be time for a few that fail before the timestamp ends."""
RETRY_S = 30.0
MAX_RETRY_S = 1800.0
JITTER = 0.2
SLICE_S = 60.0
"""Between two looks at the clock, which goes on while the machine sleeps."""
LEAST_S = 0.01
"""Less than this moves no clock."""


@dataclass(frozen=True, slots=True)
class Renewed:
    """`signed`: roles that were signed anew. `ending`: offline roles whose signatures end soon."""

    signed: Sequence[str]
    ending: Mapping[str, datetime] = field(default_factory=dict)


class Listener(Protocol):
    """Who is told how it goes."""

    def renewed(self, what: Renewed) -> None: ...
    def failed(self, error: SyncError, again_s: float) -> None: ...


async def renew(repository: Repository, also: Collection[str] = ()) -> Renewed:
    """Once. also: offline roles to sign too, with keys that are here. Raises SyncError."""
    await repository.open()
    if also:
        await repository.commit(Transaction(renew=set(also)))
    signed = await repository.refresh()
    ending: dict[str, datetime] = {}
    for name, role in ROLES.items():
        if role.place != ONLINE:
            ending |= {each: end for each, end in repository.due(role.expiry * SOON).items() if each == name}
    return Renewed(sorted({*signed, *also}), ending)


async def keep_renewed(
    work: Callable[[], Awaitable[Renewed]],
    *,
    every_s: float,
    clock: Clock,
    stop: asyncio.Event,
    listener: Listener,
    chance: random.Random | None = None,
) -> None:
    """Until `stop` is set. Raises what the first renewal cannot ever get over: OperatorError, Missing."""
    dice, retry_s, first = chance or random.Random(), RETRY_S, True
    while not stop.is_set():
        try:
            listener.renewed(await work())
            wait_s, retry_s = every_s, RETRY_S
        except SyncError as error:
            if first and isinstance(error, OperatorError | Missing):
                raise
            wait_s = min(retry_s * (1 + JITTER * (2 * dice.random() - 1)), every_s)
            retry_s = min(retry_s * 2, MAX_RETRY_S)
            listener.failed(error, wait_s)
        first = False
        await _wait(clock, wait_s, stop)


async def _wait(clock: Clock, seconds: float, stop: asyncio.Event) -> None:
    """By whichever clock went further."""
    began, began_at = clock.monotonic(), clock.now()
    while not stop.is_set():
        left = seconds - max(clock.monotonic() - began, clock.now() - began_at)
        if left <= 0:
            return
        slept = asyncio.ensure_future(clock.sleep(min(max(left, LEAST_S), SLICE_S)))
        stopped = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait((slept, stopped), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (slept, stopped):
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
