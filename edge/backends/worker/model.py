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
from time import monotonic
from types import MappingProxyType

from edge.backends.worker.arena import Full
from edge.backends.worker.caller import Caller, Last, NotBegun
from edge.backends.worker.messages import Garbage, Loaded
from edge.backends.worker.process import WorkerLimits, WorkerMemory, WorkerProcess
from edge.backends.worker.restarts import Restarts
from edge.domain.errors import BadOutputs, InferenceFailed, InvalidInput, LoadError, NotReady, WorkerLost
from edge.domain.tensors import Signature, Tensors, show_shape

log = logging.getLogger(__name__)

CLOSE_WITHIN_S = 5.0
CAUSE_WITHIN_S = 2.0


class Keeper:
    """Keeps a worker running, in a thread of its own, until nobody holds it any more.

    `start` makes the process, `restarts` says how often. `name` is for logs.
    """

    def __init__(self, name: str, start: Callable[[], WorkerProcess], restarts: Restarts | None = None) -> None:
        self.name, self._start, self._restarts = name, start, restarts or Restarts()
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
            raise NotReady(f"{self.name}: {self.broken or self.trouble or 'its worker is being started'}")
        return live

    def cause(self, process: WorkerProcess) -> str:
        """How it ended; waits a little for it to have."""
        end = monotonic() + CAUSE_WITHIN_S
        while self._live is process and (left := end - monotonic()) > 0:
            self._ended.wait(left)
        return self.trouble or self.broken or "its worker has ended"

    def condemn(self, process: WorkerProcess, why: str) -> None:
        """It is to end, and nobody else is sent to it."""
        with self._lock:
            if self._live is process:
                self._live = None
                self.trouble = f"its worker {why}"
        process.kill(why)

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
            try:
                why, served_s = self._one_life()
            except Exception:  # a bug here: without a thread nobody would ever start a worker again
                log.exception("%s: its worker was kept in a way that it never should be", self.name)
                why, served_s = "was given up; the log has it", 0.0
                self._give_up()
            if self._loaded is None:
                self._refused = self._refused or why
                self._opened.set()
                return
            if self._over.is_set():
                return
            deaths = self._restarts.row(deaths, served_s)
            wait_s = self._restarts.wait_s(deaths)
            if wait_s is None:
                self._break(f"its worker ended {deaths} times in a row; the last one {why}")
                return
            log.error("%s: its worker %s; another is started in %g s (%d)", self.name, why, wait_s, deaths)
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
            self._refused = str(error)
            why = f"could not load it: {error}"
            self.trouble = f"its worker {why}"
            return why, 0.0
        if self._loaded is not None:
            log.info("%s: its worker answers again, %.1f s after it was started", self.name, monotonic() - began)
        self._loaded, began = self._loaded or loaded, monotonic()
        self._ended.clear()
        self._live = process
        self.trouble = ""
        self._opened.set()
        why = process.wait()
        with self._lock:
            self.trouble, self._live = f"its worker {why}", None
        self._ended.set()
        return why, monotonic() - began

    def _give_up(self) -> None:
        with self._lock:
            self._live, process = None, self._process
        if process is not None:
            process.kill("was given up")  # and dies with this thread, at the latest

    def _break(self, why: str) -> None:
        log.error("%s: %s", self.name, why)
        with self._lock:
            self.broken, watcher = why, self._watcher
        if watcher is not None:
            watcher(why)


class WorkerModel:
    """A `LoadedModel`, and `Apart`."""

    may_run_long = True  # never on the event loop: the answer comes from elsewhere

    def __init__(self, keeper: Keeper, loaded: Loaded, limits: WorkerLimits) -> None:
        keeper.hold()
        self._keeper, self._loaded, self._limits = keeper, loaded, limits
        self.signatures: Mapping[str, Signature] = MappingProxyType(
            {call.name: call.signature for call in loaded.calls}
        )
        self.device, self.max_batch, self._notice = loaded.device, loaded.max_batch, loaded.notice
        self._caller: Caller | None = None
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
        try:
            outputs = self._call(process).run(signature, inputs, self._limits.run_s)
            _check(self.signatures[signature], outputs)
            return outputs
        except Full as error:
            raise InvalidInput(str(error)) from None
        except NotBegun:
            raise NotReady(f"{self._keeper.name}: {self._keeper.cause(process)}") from None
        except TimeoutError:
            why = f"took longer than {self._limits.run_s:g} s for a run (max_run_s)"
        except Garbage as garbage:
            why = f"said what makes no sense: {garbage}"
        except Last as last:
            why = f"can no longer be trusted: {last}"
        except (EOFError, OSError):
            raise WorkerLost(f"the run failed: {self._keeper.cause(process)}") from None
        self._keeper.condemn(process, why)
        raise WorkerLost(f"the run failed: its worker {why}")

    def _call(self, process: WorkerProcess) -> Caller:
        """Raises NotBegun."""
        if self._caller is None or self._caller.process is not process:
            if self._caller is not None:
                self._caller.close()
            self._caller = None
            self._caller = Caller(process, self._limits.tensor_bytes)
        return self._caller

    def another(self) -> WorkerModel:
        """One more caller of the same worker."""
        return WorkerModel(self._keeper, self._loaded, self._limits)

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


def _check(signature: Signature, outputs: Tensors) -> None:
    """Raises Garbage for outputs that are not the signature's; BadOutputs for another shape: a model's author says
    shapes, and may be wrong, where names and types are the runtime's."""
    if outputs.keys() != signature.outputs.keys():
        raise Garbage(f"want outputs {', '.join(signature.outputs)}, got {', '.join(outputs)}")
    for name, spec in signature.outputs.items():
        if outputs[name].dtype != spec.dtype.numpy:
            raise Garbage(f"{name}: want {spec}, got {outputs[name].dtype}")
        if not spec.admits(outputs[name].shape):
            raise BadOutputs(f"outputs: {name}: want {spec}, got {spec.dtype.value} {show_shape(outputs[name].shape)}")


def _differs(was: Loaded, now: Loaded) -> str:
    """What makes it another model than its callers know, or nothing."""
    if was.device != now.device:
        return f"it ran on {was.device}, and would run on {now.device}"
    return "its inputs and outputs are not those that it had" if was.calls != now.calls else ""
