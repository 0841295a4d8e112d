"""One model's update, top to bottom: what is done in each phase, and what the next one is.

Rule 1: `sync.domain.update` decides, this module does. Rule 2: every step may be done again: a crash anywhere leads back
to the phase that the journal has. Rule 3: the order is blobs durable, version directory, journal, aspired file.
Rule 4: what waits for the world (the network, its hour, room on the disk, the server) is no try, and waits for as long as it takes;
what fails is one, and after MAX_TRIES the release is bad.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec

from sync.agent.aspire import write_aspired
from sync.agent.backoff import Backoff
from sync.agent.journal import JournalFile
from sync.agent.keeper import Keeper, Store
from sync.agent.witness import Seen, Witness, version_of, why_it_failed
from sync.domain import update
from sync.domain.errors import Deferred, DiskFull, Reason, ServerAbsent, StoreError, SyncError
from sync.domain.journal import Baseline, Installed, ModelState, Phase, aspired
from sync.domain.judge import judge
from sync.domain.ports import Clock, Files, ModelServer
from sync.domain.update import MAX_TRIES, Target

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class UpdateLimits:
    """Seconds. watch_s: between two looks at the server. swap_timeout_s: for trial, load and swap, while the server answers.

    cool_down_s: until a release is tried again that failed for its bytes' sake. retry_s: the longest that the first wait is after
    the network failed, doubled up to max_retry_s. stagger_s: within which devices begin whose common hour has come. unready_timeout_s: for which a version in probation, or the one that is gone back to,
    may not be ready. keep_s: between two looks at whether what is installed has rotted.
    """

    watch_s: float = 1.0
    swap_timeout_s: float = 900.0
    cool_down_s: float = 3600.0
    retry_s: float = 15.0
    max_retry_s: float = 3600.0
    stagger_s: float = 300.0
    unready_timeout_s: float = 900.0
    keep_s: float = 86400.0


class Stage(Store, Protocol):
    """Brings a release's files here."""

    async def bring(
        self, model: str, release: Installed, bases: list[Installed], *, min_rate_Bps: int, urgent: bool
    ) -> None:
        """Every blob is durable, and the version's directory whole, when it returns; what is there already is kept.

        urgent: no window for downloads holds it back. Raises StoreError, HashMismatch, Deferred, DiskFull, DiskError.
        """
        ...


Changed = Callable[[str, ModelState], None]


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
        self._journal, self._files, self._models_dir = journal, files, models_dir
        self._stage, self._server, self._clock = stage, server, clock
        self._changed, self._limits = changed, limits or UpdateLimits()
        self.targets: Mapping[str, Target] = {}
        self._chance, self._retries = chance or random.Random(), dict[str, Backoff]()
        self._witnesses: dict[str, Witness] = {}
        self._keeper = Keeper(stage, clock, self._limits.keep_s)
        self._lock = asyncio.Lock()

    def state(self, model: str) -> ModelState:
        return self._journal.value.models.get(model, ModelState())

    async def recover(self) -> None:
        """After a start: what a crash cut short counts as a try, and the server is told again. Raises DiskError."""
        clean = self._journal.value.clean
        for model, state in dict(self._journal.value.models).items():
            if state.phase in (Phase.STAGING, Phase.SWAPPING):
                state = state if clean else update.retried(state)
                await self._write(model, state)
            await self._tell(model, state)

    async def stop(self) -> None:
        """This process ends as it was asked to: what is under way was not cut short by a crash. Raises DiskError."""
        if any(state.phase is not Phase.IDLE for state in self._journal.value.models.values()):
            await asyncio.to_thread(self._journal.end)

    async def advance(self, model: str) -> float:
        """Do what is next; return the seconds until there may be more to do. Raises DiskError: `backed_off` says when again."""
        state = self.state(model)
        if state.phase is Phase.IDLE:
            return await self._idle(model, state)
        if state.phase is Phase.STAGING:
            return await self._staging(model, state)
        if state.phase is Phase.SWAPPING:
            wait_s = await self._swapping(model, state)
        elif state.phase is Phase.PROBATION:
            wait_s = await self._probation(model, state)
        else:
            wait_s = await self._rolling_back(model, state)
        self._retries.pop(model, None)
        return wait_s

    def backed_off(self, model: str, retry_after_s: float = 0.0) -> float:
        """Seconds until the next try, about twice as many each time."""
        if model not in self._retries:
            self._retries[model] = Backoff(self._limits.retry_s, self._limits.max_retry_s, self._chance)
        return self._retries[model].failed_s(retry_after_s)

    # -- phases

    async def _idle(self, model: str, state: ModelState) -> float:
        target = self.targets.get(model)
        if target is not None and (kept := update.unwished(state, target.wished)) is not state:
            await self._write(model, state := kept)
        if target is None or (state.active is not None and target.release.release == state.active.release):
            return await self._keep(model, state)
        now = self._clock.now()
        if update.known_bad(state, target.release.release, target.wish, now) is not None:
            return await self._keep(model, state)  # it failed since the documents were read
        noted = update.seen(state, target.wish, now)
        if noted is not state:
            await self._write(model, noted)
        wait_s = update.waits_s(noted, target.wish, now)
        if wait_s > 0:
            return wait_s
        await self._move(model, update.begin(noted, target, now))
        return 0.0

    async def _keep(self, model: str, state: ModelState) -> float:
        """Nothing is to be done but to see that what was told and what is installed still stand."""
        await self._tell(model, state)
        if not await self._keeper.look(model, state):
            return self.backed_off(model)
        self._retries.pop(model, None)
        return self._limits.max_retry_s

    async def _staging(self, model: str, state: ModelState) -> float:
        release = state.candidate
        assert release is not None
        target = self.targets.get(model)
        if self._no_longer_wanted(model, release):
            await self._move(model, update.abandoned(state, self._clock.now()))
            return 0.0
        if state.tries >= MAX_TRIES:
            reason = Reason(state.reason) if state.reason else Reason.IO_ERROR
            return await self._fail(model, state, reason, state.detail or "given up", self._limits.cool_down_s)
        try:
            bases = [each for each in (state.active, state.previous) if each is not None]
            await self._stage.bring(
                model,
                release,
                bases,
                min_rate_Bps=target.min_rate_Bps if target else 0,
                urgent=state.active is None or (target is not None and target.urgent),
            )
            health = await self._server.health()
        except Deferred as error:
            await self._note(model, state, error)
            at_s = error.wait_s + self._limits.stagger_s * self._chance.random()
            return min(at_s, self._limits.max_retry_s)  # a clock may be set meanwhile
        except (StoreError, DiskFull, ServerAbsent) as error:
            return await self._hold(model, state, error)
        except SyncError as error:
            await self._move(model, update.retried(state, Reason(error.reason), error.message))
            return self.backed_off(model)
        self._retries.pop(model, None)
        old = version_of(health, model, state.active)
        baseline = Baseline(old.answered, old.failures, old.non_finite, old.run_p99_s) if old else Baseline()
        await self._move(model, update.staged(state, baseline, self._clock.now()))
        return 0.0

    async def _swapping(self, model: str, state: ModelState) -> float:
        assert state.candidate is not None
        if self._no_longer_wanted(model, state.candidate):
            return await self._recall(model, state)
        if state.tries >= MAX_TRIES:
            text = f"{state.tries} ends while it was being swapped in"
            return await self._fail(model, state, Reason.CRASH_LOOP, text)
        seen = await self._look(model, state, state.candidate)
        if seen is None:
            return self._limits.watch_s
        state = await self._answering(model, state)
        if seen.heard and seen.version is not None and seen.version.state == "ready":
            await self._move(model, update.swapped(state, seen.server.boot, self._clock.now()))
            return 0.0
        if seen.heard and seen.version is not None and seen.version.state == "failed":
            return await self._fail(model, state, why_it_failed(seen.version.reason), seen.version.reason)
        if self._witness(model).seconds > self._limits.swap_timeout_s:
            text = seen.problem or f"not ready after {self._limits.swap_timeout_s:g} s"
            return await self._fail(model, state, Reason.TIMED_OUT, text)
        return self._limits.watch_s

    async def _probation(self, model: str, state: ModelState) -> float:
        assert state.active is not None
        if self._no_longer_wanted(model, state.active):
            return await self._recall(model, state)
        seen = await self._look(model, state, state.active)
        if seen is None:
            return self._limits.watch_s
        state = await self._answering(model, state)
        witness = self._witness(model)
        watched = witness.watched(state.watched, seen.server, seen.version)
        if watched is not state.watched:
            state = msgspec.structs.replace(state, watched=watched)
            await self._write(model, state)
        elapsed_s = watched.seconds + witness.seconds
        verdict = judge(state.probation, state.baseline, watched, seen.version, elapsed_s)
        if verdict.reason is not None:
            return await self._fail(model, state, verdict.reason, verdict.detail)
        if verdict.healthy:
            await self._move(model, update.committed(state, verdict.detail, self._clock.now()))
            return 0.0
        if elapsed_s > state.probation.seconds + self._limits.unready_timeout_s:
            return await self._fail(model, state, Reason.TIMED_OUT, f"not ready {elapsed_s:.0f} s after the swap")
        return self._limits.watch_s

    async def _rolling_back(self, model: str, state: ModelState) -> float:
        seen = await self._look(model, state, state.active)
        if seen is None:
            return self._limits.watch_s
        no_model = None
        if state.active is None:
            no_model = "there was no version before it" if seen.heard or not seen.known else None
        elif seen.heard and seen.version is not None and seen.version.state == "ready":
            no_model = ""
        elif seen.heard and seen.version is not None and seen.version.state == "failed":
            no_model = f"version {state.active.version}, which served before, failed too: {seen.version.reason}"
        if no_model is None and self._witness(model).seconds > self._limits.unready_timeout_s:
            no_model = (
                seen.problem
                or f"nothing was ready {self._limits.unready_timeout_s:g} s after the old one was asked for"
            )
        if no_model is None:
            return self._limits.watch_s
        await self._move(model, update.back(state, self._clock.now(), no_model=no_model))
        return 0.0

    # -- what the phases share

    def _no_longer_wanted(self, model: str, release: Installed) -> bool:
        """Only a document says so; before the first poll, and for a model that none names, all goes on."""
        target = self.targets.get(model)
        return target is not None and target.release.release != release.release

    async def _recall(self, model: str, state: ModelState) -> float:
        await self._move(model, update.recalled(state, self._clock.now()))
        return 0.0

    async def _look(self, model: str, state: ModelState, release: Installed | None) -> Seen | None:
        """None while the server does not answer; the state says so then. Raises DiskError."""
        await self._tell(model, state)
        try:
            server = await self._server.health()
        except ServerAbsent as error:
            self._witness(model).absent()
            if state.phase is not Phase.ROLLING_BACK:  # whose reason is why the new version was given up
                await self._note(model, state, error)
            return None
        self._witness(model).look(self._clock.monotonic())
        known = server.models.get(model)
        return Seen(
            server=server,
            known=known is not None,
            heard=known is not None and known.generation == state.generation,
            problem=known.problem if known is not None else "",
            version=version_of(server, model, release),
        )

    async def _answering(self, model: str, state: ModelState) -> ModelState:
        """The server answers: that it did not is over."""
        if state.reason == Reason.NO_SERVER.value:
            state = update.going_on(state)
            await self._move(model, state)
        return state

    def _witness(self, model: str) -> Witness:
        return self._witnesses.setdefault(model, Witness())

    async def _hold(self, model: str, state: ModelState, error: SyncError) -> float:
        await self._note(model, state, error)
        return self.backed_off(model, min(getattr(error, "retry_after_s", 0.0), self._limits.max_retry_s))

    async def _note(self, model: str, state: ModelState, error: SyncError) -> None:
        held = update.held_up(state, Reason(error.reason), error.message)
        if held.reason != state.reason:
            await self._move(model, held)

    async def _fail(
        self, model: str, state: ModelState, reason: Reason, detail: str, again_after_s: float = 0.0
    ) -> float:
        log.error("%s: %s: %s", model, reason.value, detail)
        await self._move(model, update.failed(state, reason, detail, self._clock.now(), again_after_s=again_after_s))
        return 0.0

    async def _move(self, model: str, state: ModelState) -> None:
        """A transition: written, told to the server, and reported."""
        before = self.state(model)
        state = update.told(before, state)
        await self._write(model, state, reports=1)
        if state.phase is not before.phase:
            log.info("%s: %s → %s", model, before.phase.value, state.phase.value)
            self._witnesses.pop(model, None)
        if state.generation != before.generation:
            await self._tell(model, state)
        self._changed(model, state)

    async def _write(self, model: str, state: ModelState, *, reports: int = 0) -> None:
        async with self._lock:
            models = {**self._journal.value.models, model: state}
            await asyncio.to_thread(self._journal.write, models, reports=reports)

    async def _tell(self, model: str, state: ModelState) -> None:
        """Raises DiskError."""
        if (file := aspired(state)) is not None:
            await asyncio.to_thread(write_aspired, self._files, self._models_dir / model, file)
