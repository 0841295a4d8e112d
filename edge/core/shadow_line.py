"""Where copies of requests run: a thread with an instance of its own, which computes in another process.

Rule 1: nothing of a slot is used but what does not change once it is ready. Rule 2: whatever goes wrong here is a result, and
ends nothing else. Rule 3: what a run hangs in is left behind; no other copy waits for it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from time import monotonic
from typing import NamedTuple

from edge.core.compare import difference
from edge.core.instance import Instance
from edge.core.quantizing import shown, work_for
from edge.core.routes import Routed
from edge.core.slot import Call, Slot
from edge.domain.errors import EdgeError, InferenceFailed, LoadError, NotReady
from edge.domain.models import ModelSpec
from edge.domain.requests import Payload
from edge.domain.tensors import Tensors

log = logging.getLogger(__name__)

SAME, DIFFERENT, INCOMPARABLE, FAILED = "same", "different", "incomparable", "failed"
"""What comes of a copy that was run."""


@dataclass(frozen=True, slots=True)
class Copy:
    """One request that was answered. `inputs` as the client sees them; `payload`: to be bound again where they were made for
    the answering version alone, else None. `outputs` are owned. `size`: bytes held. `at`: a reading of the monotonic clock."""

    spec: ModelSpec
    routed: Routed
    signature_name: str
    dequantize: bool | None
    inputs: Tensors
    payload: Payload | None
    outputs: Tensors
    class_names: tuple[str, ...]
    size: int
    at: float


class Result(NamedTuple):
    """`run_s` None: it did not come to a run. `told`: what differs, or went wrong."""

    result: str
    run_s: float | None = None
    told: str = ""


class Line:
    """One version's. `ready` once its instance is loaded; `trouble`: why it never will be. `hung`: a run does not come back.

    `spare` makes the instance, in this thread; `tell(callback, …)` calls on the event loop.
    """

    def __init__(self, slot: Slot, spare: Callable[[Slot], Instance], tell: Callable[..., None]) -> None:
        assert slot.info is not None
        self.slot, self._info, self._spare, self._tell = slot, slot.info, spare, tell
        self.ready = self.hung = False
        self.trouble = ""
        self._work: SimpleQueue[tuple[Copy, Call, Callable[[Result], None]] | None] = SimpleQueue()
        threading.Thread(target=self._run, name=f"shadow {slot.id}", daemon=True).start()

    @property
    def why_not(self) -> str:
        """Why no copy can run now."""
        return "a run hangs" if self.hung else self.trouble or "it is being loaded"

    def give(self, copy: Copy, done: Callable[[Result], None]) -> None:
        """One at a time; `done` is called on the loop. Raises UnknownSignature."""
        self._work.put((copy, self.slot.call(copy.signature_name, copy.dequantize), done))

    def close(self) -> None:
        """Returns at once; the instance goes when its run has ended."""
        self._work.put(None)

    def _run(self) -> None:
        try:
            instance = self._spare(self.slot)
        except Exception as error:
            if not isinstance(error, LoadError):
                log.exception("%s: no instance for copies of requests", self.slot.id)
            self._tell(self._loaded, str(error) or type(error).__name__)
            return
        self._tell(self._loaded, "")
        while (given := self._work.get()) is not None:
            copy, call, done = given
            result = self._judged(instance, copy, call)
            del given, copy, call
            self._tell(done, result)
            del done
        instance.close()

    def _loaded(self, trouble: str) -> None:
        self.ready, self.trouble = not trouble, trouble
        if trouble:
            log.warning("%s: no copies of requests are run: %s", self.slot.id, trouble)

    def _judged(self, instance: Instance, copy: Copy, call: Call) -> Result:
        run_s = None
        try:
            inputs = copy.inputs if copy.payload is None else copy.payload.bind(call.target)
            work = work_for(call, inputs, max_batch=self._info.max_batch)
            start = monotonic()
            with instance.lock:
                outputs = instance.run(work)
            run_s = monotonic() - start
            names, routing = copy.class_names, copy.routed.routing
            classes = len(names) if names == self._info.class_names else 0
            told = difference(
                copy.outputs,
                shown(call, outputs),
                atol=routing.shadow_atol,
                rtol=routing.shadow_rtol,
                classes=classes,
            )
            return Result(DIFFERENT if told else SAME, run_s, told)
        except (InferenceFailed, NotReady) as error:
            return Result(FAILED, run_s, error.message)
        except EdgeError as error:
            # What the first version took and this one does not: they differ in what they want, or what they give.
            return Result(INCOMPARABLE, run_s, error.message)
        except Exception as error:
            log.exception("%s: a copy of a request failed in a way that it never should", self.slot.id)
            return Result(FAILED, run_s, type(error).__name__)
