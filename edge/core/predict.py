"""The one function that every front end calls.

acquire → bind → check → quantize → run → dequantize. Rule: the slot is held from the first step to the last.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from time import monotonic

import numpy as np

from edge.core.callers import Callers
from edge.core.job import Ran
from edge.core.quantizing import shown, work_for
from edge.core.registry import Registry
from edge.core.rows import Work
from edge.core.slot import Slot
from edge.domain.errors import Code, EdgeError, Overloaded
from edge.domain.requests import Payload, PredictRequest, PredictResponse, Target
from edge.domain.tensors import Tensors
from edge.telemetry.metrics import CANCELLED, INTERNAL

BY_MODEL = frozenset({Code.INFERENCE_FAILED})
INLINE_BIND_BYTES = 1 << 20
MAX_BINDS = 16


class Predict:
    """Implements edge.domain.ports.Predictor. Front ends share `callers`.

    inline_bind_bytes: a body larger than this is turned into tensors off the event loop. max_binds: how many
    may be waiting or under way there.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        offload: Executor,
        callers: Callers | None = None,
        inline_bind_bytes: int = INLINE_BIND_BYTES,
        max_binds: int = MAX_BINDS,
    ) -> None:
        self._registry = registry
        self._offload = offload
        self._callers = callers or Callers()
        self._inline_bind_bytes = inline_bind_bytes
        self._max_binds = max_binds
        self._binds = 0

    async def predict(self, request: PredictRequest) -> PredictResponse:
        """Raises EdgeError only."""
        start = monotonic()
        alone = self._callers.alone(request.caller, start)
        with self._registry.acquire(request.spec, request.carried) as slot:
            assert slot.lanes is not None
            try:
                call = slot.call(request.signature_name, request.dequantize)
                payload = request.payload
                if payload.slow or payload.size > self._inline_bind_bytes:
                    inputs = await self._bind_elsewhere(payload, call.target)
                else:
                    inputs = payload.bind(call.target)
                assert slot.info is not None
                work = work_for(call, inputs, max_batch=slot.info.max_batch)
                deadline = request.deadline
                if slot.cache is not None:
                    ran = await self._remembered(slot, work, request, alone=alone)
                else:
                    ran = slot.lanes.run_now(work, deadline, alone=alone) or await slot.lanes.run(work, deadline)
                outputs = shown(call, ran.outputs)
                response = PredictResponse(
                    slot.id, call.target.signature, outputs, slot.info.class_names, ran.queue_s, ran.run_s
                )
            except EdgeError as error:
                by_model = error.code in BY_MODEL
                slot.meter.failed(request.protocol, error.code.value, monotonic() - start, by_model=by_model)
                raise
            except asyncio.CancelledError:
                slot.meter.failed(request.protocol, CANCELLED, monotonic() - start, by_model=False)
                raise
            except Exception:
                slot.meter.failed(request.protocol, INTERNAL, monotonic() - start, by_model=False)
                raise
            finite = not call.floats or all(bool(np.isfinite(ran.outputs[name]).all()) for name in call.floats)
            slot.meter.answered(request.protocol, monotonic() - start, ran.queue_s, ran.run_s, finite=finite)
            if (shadows := self._registry.shadows) is not None:
                shadows.offer(request, inputs, response)
            return response

    async def _remembered(self, slot: Slot, work: Work, request: PredictRequest, *, alone: bool) -> Ran:
        """The answer that was given to the same inputs before, or a new one. Raises as Lanes.run."""
        from edge.core.cache import bytes_of, digest

        cache, lanes = slot.cache, slot.lanes
        assert cache is not None
        assert lanes is not None
        if bytes_of(work.inputs) > self._inline_bind_bytes:
            key = await asyncio.get_running_loop().run_in_executor(self._offload, digest, work)
        else:
            key = digest(work)
        known = cache.get(key)
        slot.meter.looked_up(hit=known is not None)
        if known is not None:
            return Ran(known, 0.0, 0.0)
        ran = lanes.run_now(work, request.deadline, alone=alone) or await lanes.run(work, request.deadline)
        cache.put(key, ran.outputs)
        slot.meter.keeps(cache.bytes)
        return ran

    async def _bind_elsewhere(self, payload: Payload, target: Target) -> Tensors:
        if self._binds >= self._max_binds:
            raise Overloaded(f"{self._max_binds} large bodies are being read already")
        self._binds += 1
        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(self._offload, payload.bind, target)
        # A client that goes away frees the caller, and not the thread that still reads its body.
        work.add_done_callback(self._bound)
        waiting = asyncio.shield(work)
        del work
        try:
            return await waiting
        finally:
            del waiting  # an error knows this frame: in a circle with it, the body would wait for the garbage collector

    def _bound(self, work: asyncio.Future[Tensors]) -> None:
        self._binds -= 1
        if not work.cancelled():
            work.exception()
