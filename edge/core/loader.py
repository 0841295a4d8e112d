"""How one version is brought up and taken down.

blame → memory → trial in a child → load → self-test (`edge.core.first_runs`) → lanes. Rule: a LoadError is the only way to fail, and it
leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import ParamSpec, TypeVar

from edge.core.blackbox import Mark
from edge.core.deaths import Deaths
from edge.core.devices import CPU, Devices
from edge.core.first_runs import Tested, first_runs
from edge.core.instance import Instance
from edge.core.lanes import LanePlan, Lanes
from edge.core.memory import available_bytes, return_memory
from edge.core.own_options import own_options
from edge.core.plan import elements_of, plan_lanes
from edge.core.selftest import warm_up
from edge.core.slot import Slot
from edge.core.threads import in_thread, in_thread_or
from edge.domain.errors import LoadError
from edge.domain.lifecycle import Event
from edge.domain.models import Artifact, ModelOptions, Platform
from edge.domain.ports import Apart, Backend, LoadedModel
from edge.domain.requests import ModelInfo

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")
Trial = Callable[[Artifact, ModelOptions], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class LoaderLimits:
    """load_timeout_s: for one version's load and self-test. inline_run_s: a longer run leaves the event loop,
    unless there is one client only; alone_run_s: one that is longer than this leaves it then too.

    unload_timeout_s: how long a run may keep its version's memory after the last request was answered.
    """

    load_timeout_s: float = 60.0
    unload_timeout_s: float = 30.0
    inline_run_s: float = 300e-6
    alone_run_s: float = 10e-3
    cores: int = os.cpu_count() or 1


class Loader:
    """`trial(artifact, options)` says why a version may not be loaded, or nothing."""

    def __init__(
        self,
        *,
        backend_for: Callable[[Platform], Backend],
        trial: Trial,
        deaths: Deaths,
        limits: LoaderLimits,
        memory: Callable[[], int] = available_bytes,
    ) -> None:
        self._backend_for = backend_for
        self._trial = trial
        self._deaths = deaths
        self._limits = limits
        self._memory = memory
        self._devices = Devices()

    async def bring_up(self, slot: Slot, *, careful: bool, last_resort: bool = False) -> None:
        """From LOADING to TESTING, with lanes that have run. Raises LoadError.

        `careful`: a child tries it first. `last_resort`: its model has no other version that may serve.
        """
        artifact = slot.artifact
        if blame := self._deaths.blamed(artifact, last_resort=last_resort):
            raise LoadError(blame)
        slot.options = replace(
            await self._in_thread("options", own_options, artifact, slot.options),
            max_load_s=self._limits.load_timeout_s,
        )
        backend = self._backend_for(artifact.platform)
        await self._in_thread("memory", self._check_memory, backend, artifact)
        if careful or self._deaths.suspect(artifact):
            reason = await self._trial(artifact, slot.options)
            if reason:
                raise LoadError(reason)
        await self._in_thread("note", self._deaths.loading, artifact)
        serving = False
        try:
            await self._load(slot, backend, gently=careful)
            serving = True
        finally:
            await self._in_thread("note", self._deaths.loaded, artifact, serving=serving)

    async def _load(self, slot: Slot, backend: Backend, *, gently: bool) -> None:
        first = await self._open(slot, backend)
        slot.advance(Event.LOADED)
        try:
            tested = await self._try(slot, first, gently)
        except TimeoutError:
            # A device may hang before it ever served: its twin need not wait for the next attempt.
            why = f"{first.device}: the self-test was not done after {self._limits.load_timeout_s:g} s"
            first = await self._in_thread("load", self._revive, slot, backend, why)
            tested = await self._try(slot, first, gently)
        report, plan, rest, names, batching = tested
        instances = [self._instance(slot, backend, model) for model in (first, *rest)]
        slot.info = ModelInfo(
            id=slot.id,
            platform=slot.artifact.platform.value,
            device=first.device,
            signatures=first.signatures,
            ready_versions=(),
            max_batch=first.max_batch,
            class_names=names,
            image=slot.options.image,
        )
        slot.lanes = Lanes(
            str(slot.id),
            instances,
            plan,
            max_queue=slot.options.max_queue,
            max_run_s=slot.options.max_run_s,
            batching=batching,
            count=slot.meter.ran,
        )
        slot.remember(slot.options.answers_bytes)
        if isinstance(first, Apart):
            loop = asyncio.get_running_loop()
            first.watch(lambda why: _tell(loop, slot, why))
        log.info("%s: ready on %s, %.0f µs a run, %s", slot.id, first.device, report.run_s * 1e6, plan)

    async def _open(self, slot: Slot, backend: Backend) -> LoadedModel:
        """The first instance, on its device unless that hangs. Raises LoadError."""
        device = self._devices.get(slot.options.device)
        if device is not None and device.trouble:
            return await self._in_thread("load", self._revive, slot, backend, f"{device.name}: {device.trouble}")
        timeout_s = self._limits.load_timeout_s
        try:
            return await in_thread_or(
                _close,
                "loader/load",
                timeout_s,
                lambda: backend.load(slot.artifact, slot.options),
            )
        except TimeoutError:
            raise LoadError(f"load: not done after {timeout_s:g} s on {slot.options.device}") from None

    async def _try(self, slot: Slot, first: LoadedModel, gently: bool) -> Tested:
        """Raises LoadError, and TimeoutError where `first` hangs on a device. What fails is closed when it has come back."""
        device = self._devices.get(first.device)

        def too_late(tested: Tested | None) -> None:
            for model in (first, *(tested.rest if tested else ())):
                model.close()
            if device is not None:
                device.trouble = ""

        timeout_s = self._limits.load_timeout_s
        try:
            return await in_thread_or(too_late, "loader/test", timeout_s, lambda: self._test(slot, first, gently))
        except TimeoutError:
            if device is None:
                raise LoadError(f"test: not done after {timeout_s:g} s") from None
            device.trouble = f"a self-test has taken longer than {timeout_s:g} s"
            raise
        except Exception:
            first.close()
            raise

    def _test(self, slot: Slot, first: LoadedModel, gently: bool) -> Tested:
        """Blocks. Raises LoadError."""
        lock = self._devices.lock(first.device)
        return first_runs(slot.artifact, slot.options, first, lock=lock, plan=self._plan, gently=gently)

    def _plan(self, model: LoadedModel, options: ModelOptions, run_s: float) -> LanePlan:
        return plan_lanes(
            options,
            device=model.device,
            run_s=run_s,
            elements=elements_of(model),
            may_run_long=model.may_run_long,
            inline_run_s=self._limits.inline_run_s,
            alone_run_s=self._limits.alone_run_s,
            cores=self._limits.cores,
        )

    def spare(self, slot: Slot) -> Instance:
        """One more instance of a version that is READY, apart from everything that serves. Blocks. Raises LoadError."""
        backend = self._backend_for(slot.artifact.platform)
        self._check_memory(backend, slot.artifact)
        model = backend.apart(slot.artifact, slot.options)
        try:
            warm_up(model)
        except BaseException:
            model.close()
            raise
        return Instance(model)

    def _instance(self, slot: Slot, backend: Backend, model: LoadedModel) -> Instance:
        return Instance(
            model,
            # What runs in a process of its own is not what this one would die of.
            Mark if isinstance(model, Apart) else lambda: self._deaths.mark(slot.artifact),
            on=self._devices.get(model.device),
            revive=lambda why: self._revive(slot, backend, why),
        )

    def _revive(self, slot: Slot, backend: Backend, why: str) -> LoadedModel:
        """The version on the CPU, because of `why`. Blocks. Raises LoadError."""
        try:
            model = backend.load(slot.artifact, replace(slot.options, device=CPU))
        except LoadError as error:
            raise LoadError(f"{why}; {error}") from None
        model.notice = "; ".join(text for text in (why, model.notice) if text)
        return model

    def _check_memory(self, backend: Backend, artifact: Artifact) -> None:
        need, have = backend.memory_bytes(artifact), self._memory()
        if need > have:
            raise LoadError(f"not enough memory: want about {need >> 20} MiB, {have >> 20} MiB are available")

    async def settled(self, slot: Slot) -> None:
        await self._in_thread("note", self._deaths.settled, slot.artifact)

    async def forgive(self, names: set[str]) -> None:
        await self._in_thread("note", self._deaths.forgive, names)

    async def take_down(self, slot: Slot) -> None:
        """Close the lanes of a slot that nobody holds, and give the memory back. A run that hangs is left behind."""
        lanes, slot.lanes = slot.lanes, None
        slot.remember(0)
        if lanes is None:
            return
        lanes.close()
        await self._in_thread("unload", lanes.join, self._limits.unload_timeout_s)
        del lanes
        await self._in_thread("unload", return_memory)

    async def _in_thread(self, what: str, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        timeout_s = self._limits.load_timeout_s
        try:
            return await in_thread(f"loader/{what}", timeout_s, work, *args, **kwargs)
        except TimeoutError:
            raise LoadError(f"{what}: not done after {timeout_s:g} s") from None


def _tell(loop: asyncio.AbstractEventLoop, slot: Slot, why: str) -> None:
    """From any thread; after the loop has gone nobody cares any more."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(slot.break_down, why)


def _close(model: LoadedModel | None) -> None:
    if model is not None:
        model.close()
