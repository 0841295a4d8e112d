"""One version in the server: its state, who is using it, and its lanes.

Rule 1: `advance` is the only writer of the state. Rule 2: a slot is held (`with slot:`) for as long as a request
uses it, and what is held is not unloaded. Rule 3: only the event loop's thread touches a slot.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge.core.lanes import Lanes
from edge.core.meter import Meter
from edge.domain.errors import UnknownSignature
from edge.domain.lifecycle import Event, State, step
from edge.domain.models import Artifact, ModelId, ModelOptions
from edge.domain.ports import VersionStatus
from edge.domain.requests import ModelInfo, Target
from edge.domain.tensors import Signature

if TYPE_CHECKING:
    from edge.core.cache import Cache


@dataclass(frozen=True, slots=True)
class Call:
    """One way to call a slot, made once: the model's own signature, and the one that the client sees."""

    signature: Signature
    target: Target
    dequantize: bool
    floats: tuple[str, ...]
    """Names of the outputs that may hold a NaN or an infinity."""


class Slot:
    """`info`, `options` and `lanes` are there once it is READY. `broken`: why it will never answer again, if so; `on_broken`
    is told."""

    def __init__(
        self,
        artifact: Artifact,
        options: ModelOptions,
        meter: Meter,
        on_broken: Callable[[Slot], None] = lambda slot: None,
    ) -> None:
        self.artifact, self.options, self.meter = artifact, options, meter
        self.state = State.NEW
        self.reason = ""
        self.since = time.time()
        self.broken = ""
        self._on_broken = on_broken
        self.info: ModelInfo | None = None
        self.lanes: Lanes | None = None
        self.cache: Cache | None = None
        self._users = 0
        self._idle: asyncio.Future[None] | None = None
        self._calls: dict[tuple[str, bool | None], Call] = {}

    @property
    def id(self) -> ModelId:
        return self.artifact.id

    def advance(self, event: Event, reason: str = "") -> None:
        self.state = step(self.state, event)
        self.reason = reason
        self.since = time.time()

    def remember(self, max_bytes: int) -> None:
        """Answers, of at most so many bytes; 0 forgets them."""
        self.cache = None
        if max_bytes:
            from edge.core.cache import Cache  # few have one

            self.cache = Cache(max_bytes)
        self.meter.keeps(0)

    def break_down(self, why: str) -> None:
        """Its code runs elsewhere, and has come to an end there."""
        self.broken = why
        self._on_broken(self)

    def __enter__(self) -> Slot:
        self._users += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._users -= 1
        if self._users == 0 and self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    @property
    def in_use(self) -> bool:
        return self._users > 0

    async def unused(self) -> None:
        """Return once nobody holds the slot."""
        if self._users:
            self._idle = asyncio.get_running_loop().create_future()
            await self._idle

    def call(self, name: str, dequantize: bool | None) -> Call:
        """The call of that name, or the default one for "". Raises UnknownSignature."""
        try:
            return self._calls[name, dequantize]
        except KeyError:
            return self._make_call(name, dequantize)

    def _make_call(self, name: str, dequantize: bool | None) -> Call:
        assert self.info is not None
        signature = self.info.signatures.get(name) if name else self.info.default_signature
        if signature is None:
            raise UnknownSignature(name, tuple(self.info.signatures))
        floats = self.options.dequantize if dequantize is None else dequantize
        shown = signature.as_floats if floats else signature
        target = Target(self.id, shown, self.options.image, native=signature)
        call = self._calls[name, dequantize] = Call(signature, target, floats, _floats(signature))
        return call

    def status(self) -> VersionStatus:
        lanes, window, totals = self.lanes, self.meter.window(), self.meter.totals()
        first = lanes.instances[0].model if lanes and lanes.instances else None
        return VersionStatus(
            id=self.id,
            state=self.state,
            reason=self.reason or (lanes.wedged if lanes else ""),
            device=first.device if first else "",
            notice=first.notice if first else "",
            since=self.since,
            requests=window.requests,
            failures=window.failures,
            non_finite=window.non_finite,
            run_p50_s=window.run_p50_s,
            run_p99_s=window.run_p99_s,
            queue_depth=lanes.depth if lanes else 0,
            total_requests=totals.requests,
            total_answered=totals.answered,
            total_failures=totals.failures,
            total_non_finite=totals.non_finite,
            total_unserved=totals.unserved,
            total_answered_s=totals.answered_s,
            total_queue_s=totals.queue_s,
            total_run_s=totals.run_s,
            total_failures_s=totals.failures_s,
        )


def _floats(signature: Signature) -> tuple[str, ...]:
    return tuple(name for name, spec in signature.outputs.items() if spec.dtype.numpy.kind == "f")
