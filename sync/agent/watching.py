"""An update from its swap on: what the server makes of the new version, or of the old one that is gone back to.

Rule: the server is asked and never told but by the aspired file; while it does not answer no time passes.
"""

from __future__ import annotations

import msgspec

from sync.agent.limits import UpdateLimits
from sync.agent.moves import Moves
from sync.agent.witness import Seen, version_of, why_it_failed
from sync.domain import update
from sync.domain.errors import Reason, ServerAbsent
from sync.domain.journal import Installed, ModelState, Phase
from sync.domain.judge import judge
from sync.domain.ports import Clock, ModelServer
from sync.domain.update import MAX_TRIES


class Watching:
    """Each method does what is next in its phase, and returns the seconds until there may be more to do. Raises DiskError."""

    def __init__(self, moves: Moves, server: ModelServer, clock: Clock, limits: UpdateLimits) -> None:
        self._moves, self._server, self._clock, self._limits = moves, server, clock, limits

    async def swapping(self, model: str, state: ModelState) -> float:
        assert state.candidate is not None
        if self._moves.no_longer_wanted(model, state.candidate):
            return await self._moves.recall(model, state)
        if state.tries >= MAX_TRIES:
            text = f"{state.tries} ends while it was being swapped in"
            return await self._moves.fail(model, state, Reason.CRASH_LOOP, text)
        seen = await self._look(model, state, state.candidate)
        if seen is None:
            return self._limits.watch_s
        state = await self._answering(model, state)
        if seen.heard and seen.version is not None and seen.version.state == "ready":
            await self._moves.move(model, update.swapped(state, seen.server.boot, self._clock.now()))
            return 0.0
        if seen.heard and seen.version is not None and seen.version.state == "failed":
            return await self._moves.fail(model, state, why_it_failed(seen.version.reason), seen.version.reason)
        if self._moves.witness(model).seconds > self._limits.swap_timeout_s:
            text = seen.problem or f"not ready after {self._limits.swap_timeout_s:g} s"
            return await self._moves.fail(model, state, Reason.TIMED_OUT, text)
        return self._limits.watch_s

    async def probation(self, model: str, state: ModelState) -> float:
        assert state.active is not None
        unwanted = self._moves.no_longer_wanted(model, state.active)
        if unwanted and state.previous is not None:
            return await self._moves.recall(model, state)
        seen = await self._look(model, state, state.active)
        if seen is None:
            return self._limits.watch_s
        if unwanted and seen.heard:
            if seen.version is None or seen.version.state != "ready":
                return await self._moves.recall(model, state)
            await self._moves.move(model, update.outlived(state, self._clock.now()))
            return 0.0
        state = await self._answering(model, state)
        witness = self._moves.witness(model)
        watched = witness.watched(state.watched, seen.server, seen.version)
        if watched is not state.watched:
            state = msgspec.structs.replace(state, watched=watched)
            await self._moves.write(model, state)
        elapsed_s = watched.seconds + witness.seconds
        verdict = judge(state.probation, state.baseline, watched, seen.version, elapsed_s)
        if verdict.reason is not None:
            return await self._moves.fail(model, state, verdict.reason, verdict.detail)
        if verdict.healthy:
            await self._moves.move(model, update.committed(state, verdict.detail, self._clock.now()))
            return 0.0
        if elapsed_s > state.probation.seconds + self._limits.unready_timeout_s:
            return await self._moves.fail(model, state, Reason.TIMED_OUT, f"not ready {elapsed_s:.0f} s after the swap")
        return self._limits.watch_s

    async def rolling_back(self, model: str, state: ModelState) -> float:
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
        if no_model is None and self._moves.witness(model).seconds > self._limits.unready_timeout_s:
            no_model = (
                seen.problem
                or f"nothing was ready {self._limits.unready_timeout_s:g} s after the old one was asked for"
            )
        if no_model is None:
            return self._limits.watch_s
        await self._moves.move(model, update.back(state, self._clock.now(), no_model=no_model))
        return 0.0

    async def _look(self, model: str, state: ModelState, release: Installed | None) -> Seen | None:
        """None while the server does not answer; the state says so then. Raises DiskError."""
        await self._moves.tell(model, state)
        try:
            server = await self._server.health()
        except ServerAbsent as error:
            self._moves.witness(model).absent()
            if state.phase is not Phase.ROLLING_BACK:  # whose reason is why the new version was given up
                await self._moves.note(model, state, error)
            return None
        self._moves.witness(model).look(self._clock.monotonic())
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
            await self._moves.move(model, state)
        return state
