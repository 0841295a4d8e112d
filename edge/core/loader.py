"""How one version is brought up and taken down.

blame → memory → trial in a child → load → self-test → lanes. Rule: a LoadError is the only way to fail, and it
leaves nothing behind.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import ParamSpec, TypeVar

from edge.core.class_names import read_class_names
from edge.core.deaths import Deaths
from edge.core.golden import Golden, load_golden
from edge.core.instance import Instance
from edge.core.lanes import LanePlan, Lanes, NoLock
from edge.core.memory import available_bytes, return_memory
from edge.core.own_options import own_options
from edge.core.plan import CPU, plan_lanes
from edge.core.selftest import SelfTestReport, breathe, selftest, warm_up
from edge.core.slot import Slot
from edge.core.threads import in_thread
from edge.domain.errors import LoadError
from edge.domain.lifecycle import Event
from edge.domain.models import Artifact, ModelOptions, Platform
from edge.domain.ports import Backend, LoadedModel
from edge.domain.requests import ModelInfo, default_signature

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")
Trial = Callable[[Artifact, ModelOptions], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class LoaderLimits:
    """load_timeout_s: for one version's load and self-test. inline_run_s: a longer run leaves the event loop.

    unload_timeout_s: how long a run may keep its version's memory after the last request was answered.
    """

    load_timeout_s: float = 60.0
    unload_timeout_s: float = 30.0
    inline_run_s: float = 300e-6
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
        self._device_locks: dict[str, threading.Lock] = {}

    async def bring_up(self, slot: Slot, *, careful: bool, last_resort: bool = False) -> None:
        """From LOADING to TESTING, with lanes that have run. Raises LoadError.

        `careful`: a child tries it first. `last_resort`: its model has no other version that may serve.
        """
        artifact = slot.artifact
        if blame := self._deaths.blamed(artifact, last_resort=last_resort):
            raise LoadError(blame)
        slot.options = await self._in_thread("options", own_options, artifact, slot.options)
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
        first = await self._in_thread("load", backend.load, slot.artifact, slot.options)
        slot.advance(Event.LOADED)
        try:
            report, plan, rest, names = await self._in_thread("test", self._test, slot, first, gently)
        except BaseException:
            first.close()
            raise
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
            device_lock=self._lock_of(first.device),
        )
        log.info("%s: ready on %s, %.0f µs a run, %s", slot.id, first.device, report.run_s * 1e6, plan)

    def _test(
        self, slot: Slot, first: LoadedModel, gently: bool
    ) -> tuple[SelfTestReport, LanePlan, list[LoadedModel], tuple[str, ...]]:
        """Run the golden vectors, and load as many more instances as the run time asks for. Blocks.

        `gently`: something is being served meanwhile.
        """
        artifact, options = slot.artifact, slot.options
        with self._lock_of(first.device):
            report = selftest(first, _golden(artifact), rest=breathe if gently else lambda took: None)
        if not report.ok:
            raise LoadError(f"self-test: {report.reason}")
        plan = plan_lanes(
            options,
            device=first.device,
            run_s=report.run_s,
            elements=_elements(first),
            may_run_long=first.may_run_long,
            inline_run_s=self._limits.inline_run_s,
            cores=self._limits.cores,
        )
        names = read_class_names(artifact.file("labels.txt"))
        rest: list[LoadedModel] = []
        try:
            for _ in range(max(1, plan.threads + bool(plan.inline_elements)) - 1):
                rest.append(first.another())
                warm_up(rest[-1])
        except BaseException:
            for model in rest:
                model.close()
            raise
        return_memory()  # of what was needed for loading only
        return report, plan, rest, names

    def _instance(self, slot: Slot, backend: Backend, model: LoadedModel) -> Instance:
        def revive(why: str) -> LoadedModel:
            replacement = backend.load(slot.artifact, replace(slot.options, device=CPU))
            replacement.notice = f"{why}; {replacement.notice}"
            return replacement

        mark = self._deaths.mark(slot.artifact)
        return Instance(model, mark, revive if model.device != CPU else None)

    def _check_memory(self, backend: Backend, artifact: Artifact) -> None:
        need, have = backend.memory_bytes(artifact), self._memory()
        if need > have:
            raise LoadError(f"not enough memory: want about {need >> 20} MiB, {have >> 20} MiB are available")

    def _lock_of(self, device: str) -> threading.Lock | NoLock:
        if device == CPU:
            return NoLock()
        return self._device_locks.setdefault(device, threading.Lock())

    async def settled(self, slot: Slot) -> None:
        await self._in_thread("note", self._deaths.settled, slot.artifact)

    async def forgive(self, names: set[str]) -> None:
        await self._in_thread("note", self._deaths.forgive, names)

    async def take_down(self, slot: Slot) -> None:
        """Close the lanes of a slot that nobody holds, and give the memory back. A run that hangs is left behind."""
        lanes, slot.lanes = slot.lanes, None
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


def _golden(artifact: Artifact) -> Golden | None:
    path = artifact.file("golden.npz")
    return load_golden(path) if path.exists() else None


def _elements(model: LoadedModel) -> int:
    """Input elements of a run of zeros, as the self-test times it: one for each open dimension."""
    signature = default_signature(model.signatures)
    total = 0
    for spec in signature.inputs.values():
        size = 1
        for dimension in spec.shape or ():
            size *= max(1, dimension)
        total += size
    return total
