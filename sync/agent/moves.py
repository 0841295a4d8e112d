"""A model's state and what follows from each change of it: it is written, told to the server, and reported.

Rule 1: `sync.domain.update` makes the states, this module makes them so. Rule 2: the order is journal, aspired file. Rule 3: the
state is what the journal has, and nothing else is.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from pathlib import Path

from sync.agent.aspire import write_aspired
from sync.agent.backoff import Backoff
from sync.agent.journal import JournalFile
from sync.agent.limits import UpdateLimits
from sync.agent.witness import Witness
from sync.domain import update
from sync.domain.errors import Reason, SyncError
from sync.domain.holds import aimed
from sync.domain.journal import Held, Installed, ModelState, aspired
from sync.domain.ports import Clock, Files
from sync.domain.update import Target

log = logging.getLogger(__name__)

Changed = Callable[[str, ModelState], None]


class Moves:
    """`targets`: where the documents want each model, as of the last poll. changed: called after every transition.

    Methods that write raise DiskError.
    """

    def __init__(
        self,
        *,
        journal: JournalFile,
        files: Files,
        models_dir: Path,
        clock: Clock,
        changed: Changed,
        limits: UpdateLimits,
        chance: random.Random,
    ) -> None:
        self._journal, self._files, self._models_dir = journal, files, models_dir
        self._clock, self._changed, self._limits = clock, changed, limits
        self.targets: Mapping[str, Target] = {}
        self._chance, self._retries = chance, dict[str, Backoff]()
        self._witnesses: dict[str, Witness] = {}
        self._lock = asyncio.Lock()

    def state(self, model: str) -> ModelState:
        return self._journal.value.models.get(model, ModelState())

    def no_longer_wanted(self, model: str, release: Installed) -> bool:
        """Only a document says so, or a hold; before the first poll, and for a model that none names, all goes on."""
        target = self.target(model)
        return target is not None and target.release.release != release.release

    def target(self, model: str) -> Target | None:
        """Where it goes: where the documents say, or where it is held."""
        return aimed(self.state(model), self.held(model), self.targets.get(model), self._clock.now())

    def held(self, model: str) -> Held | None:
        return self._journal.value.holds.get(model)

    async def hold_at(self, model: str, held: Held | None) -> None:
        """None for no hold any more."""
        async with self._lock:
            await asyncio.to_thread(self._journal.hold, model, held)

    def witness(self, model: str) -> Witness:
        return self._witnesses.setdefault(model, Witness())

    def backed_off(self, model: str, retry_after_s: float = 0.0) -> float:
        """Seconds until the next try, about twice as many each time."""
        if model not in self._retries:
            self._retries[model] = Backoff(self._limits.retry_s, self._limits.max_retry_s, self._chance)
        return self._retries[model].failed_s(retry_after_s)

    def went_well(self, model: str) -> None:
        """The next wait is the first again."""
        self._retries.pop(model, None)

    async def recall(self, model: str, state: ModelState) -> float:
        await self.move(model, update.recalled(state, self._clock.now()))
        return 0.0

    async def hold(self, model: str, state: ModelState, error: SyncError) -> float:
        await self.note(model, state, error)
        return self.backed_off(model, min(error.retry_after_s, self._limits.max_retry_s))

    async def note(self, model: str, state: ModelState, error: SyncError) -> None:
        held = update.held_up(state, error.reason, error.message)
        if held.reason != state.reason:
            await self.move(model, held)

    async def fail(
        self, model: str, state: ModelState, reason: Reason, detail: str, again_after_s: float = 0.0
    ) -> float:
        log.error("%s: %s: %s", model, reason.value, detail)
        await self.move(model, update.failed(state, reason, detail, self._clock.now(), again_after_s=again_after_s))
        return 0.0

    async def move(self, model: str, state: ModelState) -> None:
        """A transition: written, told to the server, and reported."""
        before = self.state(model)
        state = update.told(before, state)
        await self.write(model, state, reports=1)
        if state.phase is not before.phase:
            log.info("%s: %s → %s", model, before.phase.value, state.phase.value)
            self._witnesses.pop(model, None)
        if state.generation != before.generation:
            await self.tell(model, state)
        self._changed(model, state)

    async def write(self, model: str, state: ModelState, *, reports: int = 0) -> None:
        async with self._lock:
            models = {**self._journal.value.models, model: state}
            await asyncio.to_thread(self._journal.write, models, reports=reports)

    async def tell(self, model: str, state: ModelState) -> None:
        """Raises DiskError."""
        if (file := aspired(state)) is not None:
            await asyncio.to_thread(write_aspired, self._files, self._models_dir / model, file)
