"""Closes the gap between what is aspired and what is there. The only writer of slots and of the registry.

Rule 1: `aspire` is complete and idempotent; the loop decides (`edge.core.decide`) and does one thing at a time for
a model. Rule 2: retiring is publishing: no request can acquire a slot that drains. Rule 3: draining and loading run
in tasks of their own, so that one slow request stops no load.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine
from dataclasses import dataclass
from time import monotonic

from edge.core.deaths import SETTLED_S
from edge.core.decide import BUSY, Load, Retire, VersionView, next_action
from edge.core.loader import Loader
from edge.core.meter import Meter
from edge.core.model import Failure, Model
from edge.core.registry import Registry
from edge.core.slot import Slot
from edge.domain.errors import ControlFailed, LoadError
from edge.domain.lifecycle import Event, State
from edge.domain.models import Aspired, ModelId, Swap

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ManagerLimits:
    """max_load_retries and load_retry_s: how often, and after how long at first, a failed version is tried again;
    the wait doubles. max_loads: versions that may be loading at once. max_ended: versions per model that are
    remembered after they have ended. settled_s: see edge.core.deaths.
    """

    max_load_retries: int = 5
    load_retry_s: float = 60.0
    max_loads: int = 2
    max_ended: int = 8
    settled_s: float = SETTLED_S


class Manager:
    """`swapped(seconds, ok)` is told of every version that took over or failed to, so long after its load began."""

    def __init__(
        self,
        *,
        registry: Registry,
        loader: Loader,
        meters: Callable[[ModelId], Meter],
        limits: ManagerLimits,
        swapped: Callable[[float, bool], None] = lambda seconds, ok: None,
    ) -> None:
        self._registry = registry
        self._loader = loader
        self._meters = meters
        self._limits = limits
        self._swapped = swapped
        self.models: dict[str, Model] = {}
        self.starting = True
        self._wake = asyncio.Event()
        self._changed = asyncio.Event()
        self._loads = 0
        self._spoken = False
        self._tasks: set[asyncio.Task[None]] = set()

    def aspire(self, aspired: Aspired) -> None:
        """Take in one model's whole wish; what it asks for happens in `run`."""
        model = self.models.get(aspired.name)
        if model is None:
            self.models[aspired.name] = Model(aspired)
        else:
            model.aspired, model.removed = aspired, False
        self._wake.set()

    def remove(self, name: str) -> None:
        """Nobody speaks for this model any more: unload it, then forget it."""
        if name in self.models:
            self.models[name].removed = True
            self._wake.set()

    def started(self) -> None:
        """Every source has spoken once: when what they wished for has been tried, the start is over."""
        self._spoken = True
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled; then every load and drain under way is given up."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                for name, model in list(self.models.items()):
                    self._advance(model)
                    if model.gone:
                        del self.models[name]
                self._publish()
                if self.starting and self._spoken and self._loads == 0:
                    self.starting = False
                self._tell()
        finally:
            for task in self._tasks:
                task.cancel()

    async def changed(self) -> None:
        """Returns when anything may have."""
        await self._changed.wait()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _advance(self, model: Model) -> None:
        wish = model.wish
        while True:
            action = next_action(wish, {version: self._view(model, version) for version in model.slots})
            match action:
                case Retire(version):
                    self._retire(model, model.slots[version])
                case Load(version) if self._loads < self._limits.max_loads:
                    self._load(model, wish, version)
                case _:
                    return

    def _view(self, model: Model, version: int) -> VersionView:
        slot = model.slots[version]
        return VersionView(slot.state, retry=slot.state is State.FAILED and self._may_retry(model, version))

    def _may_retry(self, model: Model, version: int) -> bool:
        failure = model.failures.get(version)
        artifact = model.aspired.available.get(version)
        if failure is None or artifact is None:
            return True
        if artifact.fingerprint != failure.fingerprint:
            return True
        # To try again beside nothing costs the old version its memory: only new files are worth that.
        if model.aspired.swap is Swap.REPLACE or failure.count > self._limits.max_load_retries:
            return False
        return failure.due

    def _load(self, model: Model, wish: Aspired, version: int) -> None:
        artifact = wish.available[version]
        slot = Slot(artifact, wish.options, self._meters(artifact.id), lambda slot: self._broke(model, slot))
        slot.advance(Event.LOAD)
        model.slots[version] = slot
        self._loads += 1
        self._spawn(self._bring_up(model, slot))

    async def _bring_up(self, model: Model, slot: Slot) -> None:
        start = monotonic()
        careful = not self.starting and any(each.newest for each in self._registry.models.values())
        try:
            await self._loader.bring_up(slot, careful=careful, last_resort=model.is_last_resort(slot.id.version))
        except LoadError as error:
            self._failed(model, slot, str(error), monotonic() - start)
        except Exception:
            log.exception("%s: the load failed in a way that it never should", slot.id)
            self._failed(model, slot, "internal error; the log has it", monotonic() - start)
        else:
            slot.advance(Event.PASSED)
            model.failures.pop(slot.id.version, None)
            self._publish()
            self._swapped(monotonic() - start, True)
            self._later(self._limits.settled_s, self._settle, slot)
            if slot.broken:
                self._broke(model, slot)
        finally:
            self._loads -= 1
            self._wake.set()

    def _broke(self, model: Model, slot: Slot) -> None:
        """A version that served has come to its end by itself: another takes over, and it is tried again later."""
        if slot.state is State.READY:
            self._give_up(model, slot, slot.broken)
            self._publish()
            self._spawn(self._clear_away(slot))
            self._wake.set()

    async def _clear_away(self, slot: Slot) -> None:
        await slot.unused()
        try:
            await self._loader.take_down(slot)
        except LoadError as error:
            log.error("%s: %s", slot.id, error)

    def _failed(self, model: Model, slot: Slot, reason: str, took_s: float) -> None:
        self._give_up(model, slot, reason)
        self._swapped(took_s, False)

    def _give_up(self, model: Model, slot: Slot, reason: str) -> None:
        slot.advance(Event.FAIL, reason)
        version, fingerprint = slot.id.version, slot.artifact.fingerprint
        last = model.failures.get(version)
        again = last.count + 1 if last and last.fingerprint == fingerprint else 1
        failure = model.failures[version] = Failure(again, fingerprint)
        wait_s = self._limits.load_retry_s * 2.0 ** (again - 1)
        retries = again <= self._limits.max_load_retries
        when = f"in {wait_s:g} s, or when its files change" if retries else "when its files change, or at a reload"
        log.error("%s: failed (%d): %s; to be tried again %s", slot.id, again, reason, when)
        if retries:
            self._later(wait_s, self._try_again, failure)
        model.forget(self._limits.max_ended)

    def _try_again(self, failure: Failure) -> None:
        """The timer's word alone: by another clock it may be early, and nobody would look again."""
        failure.due = True
        self._wake.set()

    def _retire(self, model: Model, slot: Slot) -> None:
        slot.advance(Event.RETIRE)
        self._publish()
        self._spawn(self._drain(model, slot))

    async def _drain(self, model: Model, slot: Slot) -> None:
        await self._clear_away(slot)
        slot.advance(Event.DRAINED)
        log.info("%s: unloaded", slot.id)
        model.forget(self._limits.max_ended)
        self._wake.set()

    def _settle(self, slot: Slot) -> None:
        if slot.state is State.READY:
            self._spawn(self._loader.settled(slot))

    def _publish(self) -> None:
        self._registry.publish({name: model.serving for name, model in self.models.items()})

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _later(self, seconds: float, call: Callable[..., None], *args: object) -> None:
        asyncio.get_running_loop().call_later(seconds, call, *args)

    async def load(self, name: str) -> None:
        """Serve this model again, and try its failed versions now. Raises ControlFailed when none of them loads."""
        model = self._known(name)
        model.held = False
        model.failures.clear()
        await self._loader.forgive({name})
        self._wake.set()
        await self._until(lambda: self._settled(model) and not model.comes_back)
        if model.serving.newest is None:
            raise ControlFailed(model.reasons or f"{name}: there is no version to load")

    async def unload(self, name: str) -> None:
        """Until it is loaded by hand. Returns once it takes no more requests. Raises ControlFailed."""
        model = self._known(name)
        model.held = True
        self._wake.set()
        await self._until(lambda: model.serving.newest is None and self._settled(model))

    def _known(self, name: str) -> Model:
        """Raises ControlFailed."""
        if name not in self.models:
            raise ControlFailed(f"{name}: no such model in the repository")
        return self.models[name]

    async def first_tried(self) -> None:
        """Return once what the sources wished for at first serves or has failed."""
        await self._until(lambda: not self.starting and all(map(self._over, self.models.values())))

    async def tried(self, names: Collection[str]) -> None:
        """Return once what is wished for of these models serves or has failed."""
        await self._until(lambda: all(self._over(self.models[name]) for name in names if name in self.models))

    async def retry(self) -> None:
        """Try every failed version now, blamed ones too."""
        for model in self.models.values():
            model.failures.clear()
        await self._loader.forgive(set(self.models))
        self._wake.set()

    async def _until(self, condition: Callable[[], bool]) -> None:
        self._wake.set()  # once: whatever comes to its end wakes the loop itself, and to wake it always is to spin
        while True:
            changed = self._changed
            await changed.wait()
            if condition():
                return

    def _settled(self, model: Model) -> bool:
        views = {version: self._view(model, version) for version in model.slots}
        return next_action(model.wish, views) is None and not any(view.state in BUSY for view in views.values())

    def _over(self, model: Model) -> bool:
        """Whether what is wished for of it has been tried, as far as it is there."""
        waits = model.aspired.pending and not model.held
        return model.removed or not (waits or model.comes_back or not self._settled(model))

    async def close(self) -> None:
        """Unload everything; blocks nobody for long. For tests and for an orderly end."""
        for model in self.models.values():
            for slot in model.slots.values():
                if slot.lanes is not None:
                    slot.lanes.close()
