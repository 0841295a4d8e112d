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
from sync.domain import update
from sync.domain.journal import ModelState, Phase
from sync.domain.ports import Clock, Files, ModelServer
from sync.domain.update import Target


class Updater:
    """`advance` does the next thing for one model. `targets`: where each model should go, as of the last poll.

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
        self._journal = journal
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
