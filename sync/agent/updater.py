"""One model's update: which phase it is in, and who does what is next in it.

Rule 1: `sync.domain.update` decides, `bringing` and `watching` do, `moves` writes. Rule 2: every step may be done again: a crash
anywhere leads back to the phase that the journal has. Rule 3: the order is blobs durable, version directory, journal, aspired file.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from sync.agent.bringing import Bringing, Stage
from sync.agent.journal import JournalFile
from sync.agent.limits import UpdateLimits
from sync.agent.moves import Changed, Moves
from sync.agent.watching import Watching
from sync.domain import holds, update
from sync.domain.journal import Held, ModelState, Phase
from sync.domain.ports import Clock, Files, ModelServer
from sync.domain.update import Target


class Updater:
    """`advance` does the next thing for one model. `targets`: where the documents want each model, as of the last poll.

    `changed(model, state)` is called after every transition.
    """

    def __init__(
        self,
        *,
        journal: JournalFile,
        files: Files,
        models_dir: Path,
        stage: Stage,
        server: ModelServer,
        clock: Clock,
        changed: Changed = lambda model, state: None,
        limits: UpdateLimits | None = None,
        chance: random.Random | None = None,
    ) -> None:
        limits, chance = limits or UpdateLimits(), chance or random.Random()
        self._journal, self._clock = journal, clock
        self._moves = Moves(
            journal=journal,
            files=files,
            models_dir=models_dir,
            clock=clock,
            changed=changed,
            limits=limits,
            chance=chance,
        )
        bringing = Bringing(self._moves, stage, server, clock, limits, chance)
        watching = Watching(self._moves, server, clock, limits)
        self._phases: Mapping[Phase, Callable[[str, ModelState], Awaitable[float]]] = {
            Phase.IDLE: bringing.idle,
            Phase.STAGING: bringing.staging,
            Phase.SWAPPING: watching.swapping,
            Phase.PROBATION: watching.probation,
            Phase.ROLLING_BACK: watching.rolling_back,
        }

    @property
    def targets(self) -> Mapping[str, Target]:
        return self._moves.targets

    @targets.setter
    def targets(self, targets: Mapping[str, Target]) -> None:
        self._moves.targets = targets

    def state(self, model: str) -> ModelState:
        return self._moves.state(model)

    async def pin(self, model: str, version: int | None = None) -> Held:
        """Stay at what runs, or at `version` where that is here. Raises OperatorError, DiskError."""
        moves = self._moves
        held = holds.pin(moves.state(model), version, moves.targets.get(model), self._clock.now())
        await moves.hold_at(model, held)
        return held

    async def roll_back(self, model: str) -> Held:
        """Go back to the version before, and stay there. Raises OperatorError, DiskError."""
        moves, before = self._moves, self._moves.held(model)
        held = holds.rollback(moves.state(model), before, moves.targets.get(model), self._clock.now())
        if held is not before:
            await moves.hold_at(model, held)
        return held

    async def unpin(self, model: str) -> bool:
        """Go with the documents again; whether it was held. Raises DiskError."""
        was = self._moves.held(model) is not None
        if was:
            await self._moves.hold_at(model, None)
        return was

    async def recover(self) -> None:
        """After a start: what a crash cut short counts as a try, and the server is told again. Raises DiskError."""
        clean = self._journal.value.clean
        for model, state in dict(self._journal.value.models).items():
            if state.phase in (Phase.STAGING, Phase.SWAPPING):
                state = state if clean else update.retried(state)
                await self._moves.write(model, state)
            await self._moves.tell(model, state)

    async def stop(self) -> None:
        """This process ends as it was asked to: what is under way was not cut short by a crash. Raises DiskError."""
        if any(state.phase is not Phase.IDLE for state in self._journal.value.models.values()):
            await asyncio.to_thread(self._journal.end)

    async def advance(self, model: str) -> float:
        """Do what is next; return the seconds until there may be more to do. Raises DiskError: `backed_off` says when again."""
        state = self._moves.state(model)
        wait_s = await self._phases[state.phase](model, state)
        if state.phase not in (Phase.IDLE, Phase.STAGING):  # which say themselves whether it went well
            self._moves.went_well(model)
        return wait_s

    def backed_off(self, model: str) -> float:
        """Seconds until the next try, about twice as many each time."""
        return self._moves.backed_off(model)
