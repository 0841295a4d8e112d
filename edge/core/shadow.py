"""Shadow traffic: copies of requests that were answered are run by another version, and the answers compared and dropped.

Rule 1: a request never waits for a copy, nor fails by one: a copy is taken when the answer is there, and runs in a process of
its own, which may crash, and which gets the processor when nobody else wants it. Rule 2: a copy is run when nothing has come and nothing has run for a while, and one at a time in the
whole server; what finds no such time is dropped and counted. Rule 3: what is held is bounded, by number and by bytes.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from random import random
from time import monotonic

import numpy as np

from edge.core.instance import Instance
from edge.core.registry import Registry, Serving
from edge.core.shadow_line import FAILED, INCOMPARABLE, Copy, Line, Result
from edge.core.slot import Slot
from edge.domain.errors import EdgeError
from edge.domain.requests import PredictRequest, PredictResponse
from edge.domain.tensors import Tensors

log = logging.getLogger(__name__)

BUSY, FULL, NOT_READY, TOO_LARGE = "busy", "full", "not_ready", "too_large"
"""Why a copy was not run."""
STRING_BYTES = 64
"""Of an element that is a string, roughly."""


@dataclass(frozen=True, slots=True)
class ShadowLimits:
    """grace_s: how much longer than `max_run_s` a run may take until it is given up that should have been ended. quiet_s: how long nothing may have come or run before a copy is. max_wait_s: how long a copy waits for that. max_copies:
    that wait. max_bytes: that they hold together. max_look: the share of the time that looking for quiet may take."""

    quiet_s: float = 0.002
    max_wait_s: float = 2.0
    max_copies: int = 16
    max_bytes: int = 64 * 2**20
    max_look: float = 0.01
    grace_s: float = 10.0


class Shadows:
    """`spare(slot)` makes an instance apart from all that serve, in any thread. Made on the loop and used on it alone."""

    def __init__(
        self,
        registry: Registry,
        spare: Callable[[Slot], Instance],
        *,
        limits: ShadowLimits | None = None,
        draw: Callable[[], float] = random,
    ) -> None:
        self._registry, self._spare, self._draw = registry, spare, draw
        self._limits = limits or ShadowLimits()
        self._loop = asyncio.get_running_loop()
        self._lines: dict[str, Line] = {}
        self._waiting: deque[Copy] = deque()
        self._bytes = 0
        self._running: Copy | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._seen = -1
        self._due = 0.0

    def follow(self, models: Mapping[str, Serving]) -> None:
        """An instance for every shadow that is ready, and none for any other."""
        for name, line in list(self._lines.items()):
            if name not in models or models[name].shadow is not line.slot:
                del self._lines[name]
                line.close()
        for name, serving in models.items():
            if serving.shadow is not None and name not in self._lines:
                self._lines[name] = Line(serving.shadow, self._spare, self._tell)

    def forgive(self) -> None:
        """Instances that could not be loaded are tried again at the next `follow`."""
        for name in [name for name, line in self._lines.items() if line.trouble]:
            self._lines.pop(name).close()

    def offer(self, request: PredictRequest, inputs: Tensors, response: PredictResponse) -> None:
        """A request that was answered, to be copied if it is one of those. Never raises."""
        spec = request.spec
        if spec.version is not None or spec.label is not None:
            return
        serving = self._registry.models.get(spec.name)
        routed = serving.routed if serving is not None else None
        if serving is None or routed is None or not routed.routing.shadow:
            return
        shadow, share = serving.shadow, routed.routing.shadow_share
        if (shadow is not None and shadow.id == response.model) or (share < 1 and self._draw() >= share):
            return
        try:
            self._take(request, inputs, response, serving)
        except Exception:
            log.exception("%s: a request was not copied", spec.name)

    def close(self) -> None:
        """Copies that wait are dropped."""
        if self._timer is not None:
            self._timer.cancel()
        self._waiting.clear()
        for line in self._lines.values():
            line.close()
        self._lines.clear()

    def _take(self, request: PredictRequest, inputs: Tensors, response: PredictResponse, serving: Serving) -> None:
        line, routed = self._lines.get(request.spec.name), serving.routed
        assert routed is not None
        if line is None or not line.ready or line.hung:
            version, why = (0, "") if line is None else (line.slot.id.version, line.why_not)
            routed.meter.shadowed(version, NOT_READY, told=why)
            return
        try:
            payload = (
                None if _fits(request, serving.versions.get(response.model.version), line.slot) else request.payload
            )
        except EdgeError as error:
            routed.meter.shadowed(line.slot.id.version, INCOMPARABLE, told=error.message)
            return
        size = _nbytes(inputs) + _nbytes(response.outputs) + (payload.size if payload is not None else 0)
        if refusal := self._refusal(size):
            routed.meter.shadowed(line.slot.id.version, refusal)
            return
        self._bytes += size
        self._waiting.append(
            Copy(
                spec=request.spec,
                routed=routed,
                signature_name=request.signature_name,
                dequantize=request.dequantize,
                inputs=inputs,
                payload=payload,
                # They may lie in memory that is lent: what is kept is our own.
                outputs={name: np.array(array) for name, array in response.outputs.items()},
                class_names=response.class_names,
                size=size,
                at=monotonic(),
            )
        )
        if self._timer is None:
            self._look_later()

    def _refusal(self, size: int) -> str:
        limits = self._limits
        if size > limits.max_bytes:
            return TOO_LARGE
        full = len(self._waiting) >= limits.max_copies or self._bytes + size > limits.max_bytes
        return FULL if full else ""

    def _look_later(self, took_s: float = 0.0) -> None:
        wait_s = max(self._limits.quiet_s, took_s / self._limits.max_look)
        self._due = monotonic() + wait_s
        self._timer = self._loop.call_later(wait_s, self._look)

    def _look(self) -> None:
        """Run the oldest copy, if the server has had nothing to do since the last look."""
        start = monotonic()
        # A timer that comes late was held up by somebody's work.
        late = start - self._due > self._limits.quiet_s
        while self._waiting and start - self._waiting[0].at > self._limits.max_wait_s:
            self._drop(self._waiting.popleft(), BUSY)
        used, seen = False, 0
        for slot in self._registry.slots:
            used = used or slot.in_use
            seen += slot.meter.requests
        quiet = not used and not late and seen == self._seen
        self._seen = seen
        if quiet and self._waiting and self._running is None:
            self._begin(self._waiting.popleft())
        self._timer = None
        if self._waiting:
            self._look_later(monotonic() - start)

    def _begin(self, copy: Copy) -> None:
        line = self._lines.get(copy.spec.name)
        if line is None or line.hung:
            self._drop(copy, NOT_READY)
            return
        wait_s = line.slot.options.max_run_s + self._limits.grace_s
        alarm = self._loop.call_later(wait_s, self._hangs, line, copy)
        self._running = copy
        try:
            line.give(copy, lambda result: self._done(line, copy, alarm, result))
        except EdgeError as error:
            alarm.cancel()
            self._end(line, copy, Result(INCOMPARABLE, None, error.message))

    def _hangs(self, line: Line, copy: Copy) -> None:
        line.hung = True
        told = f"a run has taken longer than {line.slot.options.max_run_s:g} s (max_run_s)"
        log.error("%s: a copy of a request: %s", line.slot.id, told)
        self._end(line, copy, Result(FAILED, None, told))

    def _done(self, line: Line, copy: Copy, alarm: asyncio.TimerHandle, result: Result) -> None:
        alarm.cancel()
        if line.hung:  # it was counted when it was given up
            line.hung = False
        else:
            self._end(line, copy, result)

    def _end(self, line: Line, copy: Copy, result: Result) -> None:
        self._running = None
        self._drop(copy, result.result, line.slot.id.version, result)

    def _drop(self, copy: Copy, result: str, version: int | None = None, told: Result | None = None) -> None:
        self._bytes -= copy.size
        if version is None:
            line = self._lines.get(copy.spec.name)
            version = line.slot.id.version if line else 0
        copy.routed.meter.shadowed(version, result, told and told.run_s, told.told if told else "")

    def _tell(self, call: Callable[..., None], *args: object) -> None:
        """From a line's thread; after the loop has gone nobody cares any more."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call, *args)


def _fits(request: PredictRequest, first: Slot | None, shadow: Slot) -> bool:
    """Whether the inputs of the first version do for the shadow. What is not a picture is the same for all versions, and an
    input that the shadow does not take would not be taken anew. Raises UnknownSignature."""
    theirs = shadow.call(request.signature_name, request.dequantize).target
    if not request.payload.slow or first is None:
        return True
    ours = first.call(request.signature_name, request.dequantize).target
    return ours.image == theirs.image and ours.signature.inputs == theirs.signature.inputs


def _nbytes(tensors: Tensors) -> int:
    return sum(array.nbytes + (STRING_BYTES * array.size if array.dtype == object else 0) for array in tensors.values())
