"""One caller of a worker: its line, and the arenas that tensors cross in.

Rule 1: inputs are copied once, into an arena; outputs once, into the same one by the worker, where they are looked at: small
ones are copied out of it. Rule 2: an arena is used again when nobody looks at it any more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from functools import partial

from edge.backends.worker.arena import Arena, pack, unpack
from edge.backends.worker.messages import BAD_OUTPUTS, Failed, Garbage, Ran, Run, Tensor
from edge.backends.worker.process import WorkerProcess
from edge.domain.errors import BadOutputs, EdgeError, GraphFailed, InvalidInput, Overloaded, Unsupported
from edge.domain.tensors import Array, Tensors

COPY_BYTES = 64 * 1024
"""Outputs of at most so much are copied; larger ones stay where they are for as long as somebody looks at them."""
MAX_LENT = 3
"""Arenas that one caller's outputs may lie in at once; beyond, outputs are copied."""
KEEP_BYTES = 64 * 2**20
"""A larger arena is given back after its run."""
_ERRORS: Mapping[str, type[EdgeError]] = {
    **{each.code.value: each for each in (InvalidInput, Unsupported, Overloaded, GraphFailed)},
    BAD_OUTPUTS: BadOutputs,
}


class NotBegun(Exception):
    """The worker had ended before it was asked."""


class Last(Exception):
    """What the worker has to say before it ends: it can no longer be trusted."""


class Caller:
    """One line to one worker, and the arenas that go with it."""

    def __init__(self, process: WorkerProcess, max_bytes: int) -> None:
        """Raises NotBegun."""
        self.process, self._max_bytes = process, max_bytes
        try:
            self._line = process.attach()
        except OSError:
            raise NotBegun from None
        self._spare: list[Arena] = []
        self._forget: deque[int] = deque()
        self._made = 0
        self._lent: set[int] = set()
        self._closed = False

    def run(self, signature: str, inputs: Tensors, timeout_s: float) -> dict[str, Array]:
        """Raises Full, EdgeError, NotBegun, Last, Garbage, TimeoutError, EOFError, OSError."""
        arena = self._take()
        kept = False
        try:
            self._say(signature, arena, inputs)
            answer = self._line.hear(timeout_s)
            if isinstance(answer, Failed):
                if answer.last:
                    raise Last(answer.reason)
                raise _ERRORS.get(answer.code, GraphFailed)(answer.reason)
            if not isinstance(answer, Ran):
                raise Garbage(type(answer).__name__)
            arena.follow(answer.arena_bytes)
            if self._may_lend(answer.outputs):
                kept = True
                self._lent.add(arena.number)
                return unpack(arena.lend(partial(self._back, arena)), answer.outputs)
            return unpack(arena.bytes(), answer.outputs, copy=True)
        finally:
            if not kept:
                self._back(arena)

    def _say(self, signature: str, arena: Arena, inputs: Tensors) -> None:
        """Raises Full, Overloaded, Garbage, NotBegun."""
        try:
            places, end = pack(arena, inputs)
        except OSError:
            raise Overloaded("not enough memory for the inputs") from None
        # One by one: more may be given back in other threads meanwhile.
        forget = tuple(self._forget.popleft() for _ in range(len(self._forget)))
        run = Run(signature, arena.number, arena.size, places, end, forget)
        try:
            self._line.say(run, () if arena.shared else [arena.file])
        except OSError:
            raise NotBegun from None
        arena.shared = True

    def _take(self) -> Arena:
        """Raises Overloaded."""
        if self._spare:
            return self._spare.pop()
        self._made += 1
        try:
            return Arena.new(self._made, max_bytes=self._max_bytes)
        except OSError as error:
            raise Overloaded(f"no memory can be shared: {error.strerror}") from None

    def _may_lend(self, outputs: tuple[Tensor, ...]) -> bool:
        return len(self._lent) < MAX_LENT and sum(each.size for each in outputs) > COPY_BYTES

    def _back(self, arena: Arena) -> None:
        """In any thread, also where the garbage collector runs: it waits for nothing."""
        self._lent.discard(arena.number)
        if self._closed or arena.size > KEEP_BYTES:
            self._forget.append(arena.number)
            arena.close()
        else:
            self._spare.append(arena)

    def close(self) -> None:
        self._closed = True
        self._line.close()
        while self._spare:
            self._spare.pop().close()
