"""A version whose code runs in a worker, as the server sees it.

Rule 1: all instances of a version share one worker, and each has its own line and its own arenas. Rule 2: a worker that ends is
started again, after longer and longer waits; meanwhile its version is not ready, and after too many it is broken. Rule 3:
a run that takes too long, or garbage for an answer, is the worker's end. Rule 4: InferenceFailed, NotReady and what the
worker's Failed names are all that comes out of a run.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from functools import partial
from time import monotonic
from types import MappingProxyType

from edge.backends.worker.arena import MAX_ARENA_BYTES, Arena, Full, pack, unpack
from edge.backends.worker.line import Line
from edge.backends.worker.messages import Failed, Garbage, Loaded, Ran, Run, Tensor
from edge.backends.worker.process import WorkerMemory, WorkerProcess
from edge.backends.worker.restarts import Restarts
from edge.domain.errors import (
    EdgeError,
    InferenceFailed,
    InvalidInput,
    LoadError,
    NotReady,
    Overloaded,
    Unsupported,
)
from edge.domain.tensors import Array, Signature, Tensors

log = logging.getLogger(__name__)

COPY_BYTES = 64 * 1024
"""Outputs of at most so much are copied; larger ones stay where they are for as long as somebody looks at them."""
MAX_LENT = 3
"""Arenas that one instance's outputs may lie in at once; beyond, outputs are copied."""
KEEP_BYTES = 64 * 2**20
"""A larger arena is given back after its run."""
CLOSE_WITHIN_S = 5.0
CAUSE_WITHIN_S = 2.0
_ERRORS: Mapping[str, type[EdgeError]] = {
    each.code.value: each for each in (InvalidInput, Unsupported, Overloaded, InferenceFailed)
}


class Keeper:
    """Keeps a worker running, in a thread of its own, until nobody holds it any more.

    `start` makes the process, `restarts` says how often. `name` is for logs.
    """

    def __init__(self, name: str, start: Callable[[], WorkerProcess], restarts: Restarts | None = None) -> None:
        self._name, self._start, self._restarts = name, start, restarts or Restarts()
        self._lock = threading.Lock()
        self._over, self._opened, self._ended = threading.Event(), threading.Event(), threading.Event()
        self._holders = 0
        self._process: WorkerProcess | None = None
        self._live: WorkerProcess | None = None
        self._loaded: Loaded | None = None
        self._refused = ""
        self._watcher: Callable[[str], None] | None = None
        self.trouble = self.broken = ""
        self._thread = threading.Thread(target=self._keep, name=f"{name}/worker", daemon=True)

    def open(self) -> Loaded:
        """The first start. Blocks. Raises LoadError."""
        self._thread.start()
        self._opened.wait()
        if self._loaded is None:
            raise LoadError(self._refused)
        return self._loaded

    def process(self) -> WorkerProcess:
        """The worker that answers. Raises NotReady."""
        if (live := self._live) is None:
            raise NotReady(f"{self._name}: {self.broken or self.trouble or 'its worker is being started'}")
        return live

    def cause(self, process: WorkerProcess) -> str:
        """How it ended; waits a little for it to have."""
        end = monotonic() + CAUSE_WITHIN_S
        while self._live is process and (left := end - monotonic()) > 0:
            self._ended.wait(left)
        return self.trouble or self.broken or "its worker has ended"

    def hold(self) -> None:
        with self._lock:
            self._holders += 1

    def release(self) -> None:
        """The last one ends the worker, and waits until its memory is back, for at most CLOSE_WITHIN_S."""
        with self._lock:
            self._holders -= 1
            if self._holders > 0:
                return
            self._over.set()
            process = self._process
        if process is not None:
            process.kill("was unloaded")
        self._thread.join(CLOSE_WITHIN_S)

    def watch(self, broken: Callable[[str], None]) -> None:
        """As edge.domain.ports.Apart has it."""
        with self._lock:
            self._watcher = broken
        if self.broken:
            broken(self.broken)

    def _keep(self) -> None:
        deaths = 0
        while not self._over.is_set():
            why, served_s = self._one_life()
            if self._loaded is None:
                self._refused = why
                self._opened.set()
                return
            if self._over.is_set():
                return
            deaths = self._restarts.row(deaths, served_s)
            wait_s = self._restarts.wait_s(deaths)
            if wait_s is None:
                self._break(f"its worker ended {deaths} times in a row; the last one {why}")
                return
            log.error("%s: its worker %s; another is started in %g s (%d)", self._name, why, wait_s, deaths)
            self._over.wait(wait_s)

    def _one_life(self) -> tuple[str, float]:
        """How it ended, and how long it served."""
        began = monotonic()
        try:
            process = self._start()
            with self._lock:
                self._process = process
                if self._over.is_set():
                    process.kill("was unloaded")
            loaded = process.load()
            if self._loaded is not None and _differs(self._loaded, loaded):
                process.kill(f"found another model in its files: {_differs(self._loaded, loaded)}")
                return process.end(), 0.0
        except LoadError as error:
            self._tell(f"its worker cannot load it: {error}")
            return str(error), 0.0
        self._loaded, began = self._loaded or loaded, monotonic()
        self._ended.clear()
        self._live = process
        self._tell("")
        self._opened.set()
        why = process.wait()
        self._tell(f"its worker {why}")
        self._live = None
        self._ended.set()
        return why, monotonic() - began

    def _tell(self, trouble: str) -> None:
        self.trouble = trouble

    def _break(self, why: str) -> None:
        log.error("%s: %s", self._name, why)
        with self._lock:
            self.broken, watcher = why, self._watcher
        if watcher is not None:
            watcher(why)


class WorkerModel:
    """A `LoadedModel`, and `Apart`. `run_s`: a run that takes longer is the worker's end."""

    may_run_long = True  # never on the event loop: the answer comes from elsewhere

    def __init__(self, keeper: Keeper, loaded: Loaded, *, run_s: float, max_bytes: int = MAX_ARENA_BYTES) -> None:
        keeper.hold()
        self._keeper, self._loaded, self._run_s, self._max_bytes = keeper, loaded, run_s, max_bytes
        self.signatures: Mapping[str, Signature] = MappingProxyType(
            {call.name: call.signature for call in loaded.calls}
        )
        self.device, self.max_batch, self._notice = loaded.device, loaded.max_batch, loaded.notice
        self._caller: _Caller | None = None
        self._closed = False

    @property
    def notice(self) -> str:
        return "; ".join(text for text in (self._notice, self._keeper.broken or self._keeper.trouble) if text)

    @notice.setter
    def notice(self, text: str) -> None:
        self._notice = text

    def run(self, signature: str, inputs: Tensors) -> Tensors:
        """Raises InferenceFailed, NotReady while there is no worker, InvalidInput and others as the worker says."""
        if self._closed:
            raise InferenceFailed("the model was unloaded")
        process = self._keeper.process()
        caller = self._caller
        try:
            if caller is None or caller.process is not process:
                caller = self._call(process)
            return caller.run(signature, inputs, self._run_s)
        except Full as error:
            raise InvalidInput(str(error)) from None
        except TimeoutError:
            why = f"took longer than {self._run_s:g} s for a run (max_run_s)"
        except Garbage as garbage:
            why = f"said what makes no sense: {garbage}"
        except (EOFError, OSError):
            raise InferenceFailed(f"the run failed: {self._keeper.cause(process)}") from None
        process.kill(why)
        raise InferenceFailed(f"the run failed: its worker {why}")

    def _call(self, process: WorkerProcess) -> _Caller:
        """Raises OSError."""
        if self._caller is not None:
            self._caller.close()
            self._caller = None
        self._caller = _Caller(process, self._max_bytes)
        return self._caller

    def another(self) -> WorkerModel:
        """One more caller of the same worker."""
        return WorkerModel(self._keeper, self._loaded, run_s=self._run_s, max_bytes=self._max_bytes)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._keeper.release()
            if self._caller is not None:
                self._caller.close()
                self._caller = None

    def watch(self, broken: Callable[[str], None]) -> None:
        self._keeper.watch(broken)

    def memory(self) -> WorkerMemory:
        try:
            return self._keeper.process().memory()
        except NotReady:
            return WorkerMemory(0, 0)


class _Caller:
    """One line to one worker, and the arenas that go with it."""

    def __init__(self, process: WorkerProcess, max_bytes: int) -> None:
        """Raises OSError."""
        self.process, self._max_bytes = process, max_bytes
        self._line: Line = process.attach()
        self._spare: list[Arena] = []
        self._forget: list[int] = []
        self._made = 0
        self._lent: set[int] = set()
        self._closed = False

    def run(self, signature: str, inputs: Tensors, timeout_s: float) -> dict[str, Array]:
        """Raises Full, EdgeError, Garbage, TimeoutError, EOFError, OSError."""
        arena = self._take()
        kept = False
        try:
            self._say(signature, arena, inputs)
            answer = self._line.hear(timeout_s)
            if isinstance(answer, Failed):
                raise _ERRORS.get(answer.code, InferenceFailed)(answer.reason)
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
        """Raises Full, Overloaded, Garbage, OSError."""
        try:
            places, end = pack(arena, inputs)
        except OSError:
            raise Overloaded("not enough memory for the inputs") from None
        forget, self._forget = tuple(self._forget), []
        run = Run(signature, arena.number, arena.size, places, end, forget)
        self._line.say(run, () if arena.shared else [arena.file])
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


def _differs(was: Loaded, now: Loaded) -> str:
    """What makes it another model than its callers know, or nothing."""
    if was.device != now.device:
        return f"it ran on {was.device}, and would run on {now.device}"
    return "its inputs and outputs are not those that it had" if was.calls != now.calls else ""
