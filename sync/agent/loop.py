"""The agent at work: polls, one worker for each model, reports.

Rule 1: a poll that fails changes nothing: what runs goes on, and the next poll is later. Rule 2: polls and heartbeats are
spread: a fleet that starts at one moment does not ask at one moment. Rule 3: one model's trouble is no other's. Rule 4: what
is refused is reported when it is news, and with every report after that.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from sync.agent.asked import Asked
from sync.agent.board import Board
from sync.agent.planner import Documents, Planner
from sync.agent.polls import PollLimits, Polls
from sync.agent.refusals import Refusals
from sync.agent.reporter import Reporter
from sync.agent.staging import Staging
from sync.agent.updater import Updater
from sync.agent.words import advice, plain
from sync.domain.errors import DiskError, NoRollout, OperatorError, SyncError
from sync.domain.journal import Held, Installed, Journal, ModelState, Phase
from sync.domain.ports import Clock
from sync.domain.report import Report

log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LoopLimits(PollLimits):
    """Seconds. heartbeat_s: between reports when nothing happens, jittered as polls are. last_reports_s: for reports that wait to be
    sent at the end of `once`, also where it is called off."""

    heartbeat_s: float = 6 * 3600.0
    last_reports_s: float = 30.0


class Agent:
    """`problem`: why the last poll failed, or None. `refusals`: why a model does not go where it was wished."""

    def __init__(
        self,
        *,
        documents: Documents,
        planner: Planner,
        updater: Updater,
        staging: Staging,
        reporter: Reporter,
        journal: Callable[[], Journal],
        report: Callable[[], Report],
        clock: Clock,
        board: Board | None = None,
        limits: LoopLimits | None = None,
        chance: random.Random | None = None,
        asked: Asked | None = None,
    ) -> None:
        self._documents, self._planner, self._updater = documents, planner, updater
        self._staging, self._reporter, self._journal, self._facts = staging, reporter, journal, report
        self._clock, self._limits, self._board = clock, limits or LoopLimits(), board
        self._asked = asked or Asked(clock)
        self._polls = Polls(self._limits, chance or random.Random())
        self._news: dict[str, asyncio.Event] = {}
        self._refused = Refusals()
        self.problem: SyncError | None = None
        self.refusals: dict[str, SyncError] = {}

    async def run(self) -> None:
        """Until cancelled. Raises DiskError where the journal cannot be read or written at the start."""
        await self._begin()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._reporter.run(), name="reporter")
                group.create_task(self._heartbeat(), name="heartbeat")
                if self._board is not None:
                    group.create_task(self._board.follow(), name="board")
                for model in self._journal().models:
                    self._watch(group, model)
                await self._poll_for_ever(group)
        except asyncio.CancelledError:
            await self._end()
            raise

    async def _begin(self) -> None:
        await self._updater.recover()
        try:
            await self._collect()
        except DiskError as error:
            log.error("%s", error.message)

    async def _end(self) -> None:
        try:
            await self._updater.stop()
        except DiskError as error:
            log.error("%s", error.message)

    async def _collect(self) -> None:
        """Raises DiskError."""
        await asyncio.to_thread(self._staging.collect, lambda: kept(self._journal()))

    async def once(self, *, within_s: float) -> bool:
        """Poll, and follow every update to its end, for at most so long; whether nothing is under way then. At its end, also where
        it is cancelled, reports that wait are sent."""
        try:
            return await self._once(within_s)
        except asyncio.CancelledError:
            await self._end()
            raise
        finally:
            await self._send_last()

    async def _once(self, within_s: float) -> bool:
        await self._begin()
        polled = await self.poll()
        end = self._clock.monotonic() + within_s
        while self._clock.monotonic() < end:
            models = {*self._journal().models, *self._updater.targets}
            waits = [await self._advance(model) for model in models]
            states = [self._updater.state(model) for model in models]
            if all(state.phase is Phase.IDLE for state in states) and min(waits, default=1.0) > 0:
                await self._reporter.put(self._report())
                return polled
            wait_s = min([wait for wait in waits if wait > 0], default=0.0)
            await self._clock.sleep(min(wait_s, end - self._clock.monotonic()))
        await self._end()
        return False

    async def _send_last(self) -> None:
        """For as long as `last_reports_s`; what is not taken by then waits for the next agent."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._limits.last_reports_s):
                await self._reporter.flush()

    async def poll(self) -> bool:
        """Whether the documents could be had, and were planned by."""
        polled = await self._ask()
        if self._board is not None:
            await self._board.polled(self.problem, self.refusals, self._updater.targets)
        return polled

    async def _ask(self) -> bool:
        try:
            await self._documents.refresh()
            plan = await self._planner.plan(self._journal().models)
        except SyncError as error:
            if self.problem is None or self.problem.message != error.message:
                log.warning("poll: %s", plain(advice(error.reason.value, error.message)))
            self.problem = error
            await self._tell_if(self._refused.failed(error))
            return False
        for model, refusal in plan.refusals.items():
            if model not in self.refusals or self.refusals[model].message != refusal.message:
                log.info("%s: %s", model, refusal.message)
        self.problem, self.refusals = None, plan.refusals
        self._updater.targets = plan.targets
        await self._tell_if(self._refused.planned(plan.refused))
        return True

    async def report_now(self) -> None:
        """Put a report into the outbox, though nothing has happened."""
        await self._reporter.put(self._report())

    async def pin(self, model: str, version: int | None = None) -> Held:
        """As `Updater.pin`, for a model that is known here. Raises OperatorError, DiskError."""
        return await self._changed(model, lambda: self._updater.pin(self._known(model), version))

    async def roll_back(self, model: str) -> Held:
        """As `Updater.roll_back`. Raises OperatorError, DiskError."""
        return await self._changed(model, lambda: self._updater.roll_back(self._known(model)))

    async def unpin(self, model: str) -> bool:
        """As `Updater.unpin`. Raises OperatorError, DiskError."""
        return await self._changed(model, lambda: self._updater.unpin(self._known(model)))

    def _known(self, model: str) -> str:
        journal = self._journal()
        if model not in journal.models and model not in journal.holds:
            raise OperatorError(
                f"want a model that is here, {', '.join(sorted(journal.models)) or 'of none'}, got {model}"
            )
        return model

    async def _changed(self, model: str, change: Callable[[], Awaitable[T]]) -> T:
        """What is held has changed: it is acted upon, and reported."""
        before = self._journal().holds
        done = await change()
        if self._journal().holds != before:
            if model in self._news:
                self._news[model].set()
            await self.report_now()
        return done

    def _report(self) -> Report:
        return self._refused.on(self._facts())

    async def _tell_if(self, news: bool) -> None:
        if news:
            await self._reporter.put(self._report())

    async def _poll_for_ever(self, group: asyncio.TaskGroup) -> None:
        at = self._clock.monotonic() + self._polls.first_s(serves=self._serves())
        while True:
            asked = await self._until(at)
            ok = await self.poll() or isinstance(self.problem, NoRollout)  # of a new group, which waits for its first
            for model in self._updater.targets:
                self._watch(group, model)
                self._news[model].set()
            now, after_s = self._clock.monotonic(), self.problem.retry_after_s if self.problem is not None else 0.0
            if ok:
                at = now + self._polls.good_s()
            elif asked:  # whoever asks makes the ordinary polls no rarer
                at = max(at, now + after_s)
            else:
                at = now + self._polls.failed_s(after_s)
            self._asked.polled(ok=ok, asked=asked, retry_after_s=after_s)

    async def _until(self, ordinary_at: float) -> bool:
        """Until the next poll; whether it is one that was asked for."""
        while True:
            self._asked.news.clear()
            asked_at = self._asked.at
            at = ordinary_at if asked_at is None else min(ordinary_at, asked_at)
            wait_s = max(at - self._clock.monotonic(), 0.0)
            if self._board is not None:
                await self._board.polls_in(wait_s)
            if await self._slept(wait_s, self._asked.news):
                return at != ordinary_at

    async def _slept(self, seconds: float, news: asyncio.Event) -> bool:
        """Whether so long has passed; else there was news first."""
        sleep = asyncio.ensure_future(self._clock.sleep(seconds))
        heard = asyncio.ensure_future(news.wait())
        try:
            await asyncio.wait((sleep, heard), return_when=asyncio.FIRST_COMPLETED)
            return sleep.done()
        finally:
            sleep.cancel()
            heard.cancel()

    def _watch(self, group: asyncio.TaskGroup, model: str) -> None:
        if model not in self._news:
            self._news[model] = asyncio.Event()
            group.create_task(self._work(model), name=f"update {model}")

    async def _work(self, model: str) -> None:
        news = self._news[model]
        while True:
            news.clear()
            wait_s = await self._advance(model)
            if self._board is not None:
                await self._board.acts_in(model, wait_s)
            if wait_s > 0:
                await self._slept(wait_s, news)

    async def _advance(self, model: str) -> float:
        before = self._updater.state(model)
        try:
            wait_s = await self._updater.advance(model)
            after = self._updater.state(model)
            if after.phase is Phase.IDLE and before.phase is not Phase.IDLE:
                await self._collect()
        except DiskError as error:
            log.error("%s: %s", model, error.message)
            return self._updater.backed_off(model)
        if after.reason and after.reason != before.reason:
            log.warning("%s: %s", model, plain(advice(after.reason, after.detail)))
        if after is not before:
            await self._reporter.put(self._report())
        return wait_s

    def _serves(self) -> bool:
        return any(state.active is not None for state in self._journal().models.values())

    async def _heartbeat(self) -> None:
        await self._clock.sleep(self._polls.first_s(serves=self._serves()))
        while True:
            await self._reporter.put(self._report())
            await self._clock.sleep(self._polls.jittered(self._limits.heartbeat_s))


def kept(journal: Journal) -> dict[str, list[Installed]]:
    """The releases of each model whose files stay."""

    def of(state: ModelState) -> list[Installed]:
        return [each for each in (state.active, state.previous, state.candidate) if each is not None]

    return {model: of(state) for model, state in journal.models.items()}
