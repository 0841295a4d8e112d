"""An update up to its swap: its turn, its files, and what is kept of them afterwards.

Rule 1: every step may be done again. Rule 2: what waits for the world (the network, its hour, room on the disk, the server) is no
try, and waits for as long as it takes; what fails is one, and after MAX_TRIES the release is bad.
"""

from __future__ import annotations

import random
from typing import Protocol

from sync.agent.keeper import Keeper, Shelf
from sync.agent.limits import UpdateLimits
from sync.agent.moves import Moves
from sync.agent.witness import version_of
from sync.domain import update
from sync.domain.errors import Deferred, DiskFull, Reason, ServerAbsent, StoreError, SyncError
from sync.domain.journal import Baseline, Installed, ModelState
from sync.domain.ports import Clock, ModelServer
from sync.domain.update import MAX_TRIES


class Stage(Shelf, Protocol):
    """Brings a release's files here."""

    async def bring(
        self, model: str, release: Installed, bases: list[Installed], *, min_rate_Bps: int, urgent: bool
    ) -> None:
        """Every blob is durable, and the version's directory whole, when it returns; what is there already is kept.

        urgent: no window for downloads holds it back. Raises StoreError, HashMismatch, Deferred, DiskFull, DiskError.
        """
        ...


class Bringing:
    """Each method does what is next in its phase, and returns the seconds until there may be more to do. Raises DiskError."""

    def __init__(
        self, moves: Moves, stage: Stage, server: ModelServer, clock: Clock, limits: UpdateLimits, chance: random.Random
    ) -> None:
        self._moves, self._stage, self._server = moves, stage, server
        self._clock, self._limits, self._chance = clock, limits, chance
        self._keeper = Keeper(stage, clock, limits.keep_s)

    async def idle(self, model: str, state: ModelState) -> float:
        target = self._moves.target(model)
        if target is not None and (kept := update.unwished(state, target.wished)) is not state:
            await self._moves.write(model, state := kept)
        if target is None or (state.active is not None and target.release.release == state.active.release):
            return await self._keep(model, state)
        now = self._clock.now()
        if update.known_bad(state, target.release.release, target.wish, now) is not None:
            return await self._keep(model, state)  # it failed since the documents were read
        noted = update.seen(state, target.wish, now)
        if noted is not state:
            await self._moves.write(model, noted)
        wait_s = update.waits_s(noted, target.wish, now)
        if wait_s > 0:
            return wait_s
        await self._moves.move(model, update.begin(noted, target, now))
        return 0.0

    async def staging(self, model: str, state: ModelState) -> float:
        release = state.candidate
        assert release is not None
        target = self._moves.target(model)
        if self._moves.no_longer_wanted(model, release):
            await self._moves.move(model, update.abandoned(state, self._clock.now()))
            return 0.0
        if state.tries >= MAX_TRIES:
            reason = Reason(state.reason) if state.reason else Reason.IO_ERROR
            return await self._moves.fail(model, state, reason, state.detail or "given up", self._limits.cool_down_s)
        try:
            bases = [each for each in (state.active, state.previous) if each is not None]
            await self._stage.bring(
                model,
                release,
                bases,
                min_rate_Bps=target.min_rate_Bps if target else 0,
                urgent=state.active is None or (target is not None and target.urgent) or self._is_overdue(state),
            )
            health = await self._server.health()
        except Deferred as error:
            await self._moves.note(model, state, error)
            return self._deferred_s(state, error)
        except (StoreError, DiskFull, ServerAbsent) as error:
            return await self._moves.hold(model, state, error)
        except SyncError as error:
            await self._moves.move(model, update.retried(state, error.reason, error.message))
            return self._moves.backed_off(model)
        self._moves.went_well(model)
        old = version_of(health, model, state.active)
        baseline = Baseline(old.answered, old.failures, old.non_finite, old.run_p99_s) if old else Baseline()
        await self._moves.move(model, update.staged(state, baseline, self._clock.now()))
        return 0.0

    def _is_overdue(self, state: ModelState) -> bool:
        """Whether it has waited for its hour for as long as it may."""
        return bool(self._limits.deadline_s) and self._clock.now() - state.since >= self._limits.deadline_s

    def _deferred_s(self, state: ModelState, error: Deferred) -> float:
        at_s = error.wait_s
        if self._limits.deadline_s:
            at_s = min(at_s, max(state.since + self._limits.deadline_s - self._clock.now(), 0.0))
        at_s += self._limits.stagger_s * self._chance.random()
        return min(at_s, self._limits.max_retry_s)  # a clock may be set meanwhile

    async def _keep(self, model: str, state: ModelState) -> float:
        """Nothing is to be done but to see that what was told and what is installed still stand."""
        await self._moves.tell(model, state)
        if not await self._keeper.look(model, state):
            return self._moves.backed_off(model)
        self._moves.went_well(model)
        return self._limits.max_retry_s
