"""One worker process, from its start to its end.

Rule 1: it dies with the thread that made it, and so with the server, whatever ends that; that thread stays for as long as
it lives. Rule 2: what it says is bounded, and read as what a stranger says; garbage is its end. Rule 3: LoadError is all
that comes out of loading, in words for a person.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import edge
from edge.backends.worker.arena import MAX_ARENA_BYTES
from edge.backends.worker.line import Line, pair
from edge.backends.worker.messages import Attach, Begin, Garbage, Loaded, Prepared, Refused, shown
from edge.children import memory_bytes, signal_name
from edge.domain.errors import LoadError

CHILD = "edge.backends.worker.child"
LOOK_S = 0.05
"""How often the memory of a worker is looked at, where it is bounded."""
END_WITHIN_S = 5.0
MAX_COMPLAINT_BYTES = 16 * 1024
_BESIDE = ("@", "***", "Aborted", "PC:", "I0000", "W0000")
"""How lines begin that do not say what happened: a C library's backtrace, and its remarks."""


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """load_s: for the start, the runtime's import and the load. run_s: for a run. model_bytes: what the model may add to
    the resident size of a worker that has imported its runtime; 0 for no bound. tensor_bytes: inputs and outputs of a run."""

    load_s: float = 60.0
    run_s: float = 30.0
    model_bytes: int = 0
    tensor_bytes: int = MAX_ARENA_BYTES


@dataclass(frozen=True, slots=True)
class WorkerMemory:
    """Bytes that are resident: the most there ever were, and how many of them the model brought."""

    peak_bytes: int
    model_bytes: int


class WorkerProcess:
    """`program` is `module:function`: the function imports the runtime, and returns what loads a job (edge.backends.worker.program)."""

    def __init__(
        self,
        program: str,
        job: Mapping[str, Any],
        *,
        limits: WorkerLimits,
        environment: Mapping[str, str] | None = None,
        idle: bool = False,
    ) -> None:
        """idle: it computes when no other process wants the processor. Raises LoadError where no process can be started."""
        self._limits, self._idle = limits, idle
        self._saying = threading.Lock()
        self._why = ""
        self._base_bytes = 0
        self._line, theirs = pair()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", CHILD, str(os.getpid()), str(theirs.fileno()), program],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=[theirs.fileno()],
                env=_environment(environment or {}),
                process_group=0,
            )
        except OSError as error:
            self._line.close()
            raise LoadError(f"no process can be started for it: {error}") from None
        finally:
            theirs.close()
        self._complaints = b""
        self._reader = threading.Thread(target=self._read_complaints, name=f"worker/{self.pid}", daemon=True)
        self._reader.start()
        self._job = dict(job)

    @property
    def pid(self) -> int:
        return self._process.pid

    def load(self) -> Loaded:
        """Blocks for at most `load_s`. Raises LoadError; the process has ended then."""
        try:
            return self._load()
        except LoadError:
            self.kill()
            self.end()
            raise

    def _load(self) -> Loaded:
        end = monotonic() + self._limits.load_s
        with contextlib.suppress(OSError):  # its end is noticed below
            self._line.say(Begin(self._job, self._limits.tensor_bytes, self._idle))
        while True:
            try:
                message = self._line.hear(min(LOOK_S, max(0.0, end - monotonic())))
            except TimeoutError:
                if monotonic() >= end:
                    raise LoadError(f"load: not done after {self._limits.load_s:g} s") from None
                self._look_at_memory()
                continue
            except (EOFError, OSError):
                raise LoadError(f"the worker {self.end()}") from None
            except Garbage as garbage:
                raise LoadError(f"the worker said what makes no sense: {garbage}") from None
            if isinstance(message, Prepared):
                self._base_bytes = message.resident_bytes
            elif isinstance(message, Loaded):
                return message
            elif isinstance(message, Refused):
                raise LoadError(message.reason)
            else:
                raise LoadError(f"the worker said what makes no sense: {type(message).__name__}")

    def wait(self) -> str:
        """Blocks until it has ended; how it did."""
        timeout_s = LOOK_S if self._limits.model_bytes else None
        while True:
            try:
                self._line.hear(timeout_s)
                self.kill("said what makes no sense")
            except TimeoutError:
                self._look_at_memory()
            except Garbage as garbage:
                self.kill(f"said what makes no sense: {garbage}")
            except (EOFError, OSError):
                return self.end()

    def kill(self, why: str = "") -> None:
        """From any thread; `why` is how its end is told. Idempotent."""
        self._why = self._why or why
        self._process.kill()

    def attach(self) -> Line:
        """A line of its own for one caller. Raises OSError where it has ended."""
        ours, theirs = pair()
        try:
            with self._saying:
                self._line.say(Attach(), [theirs.fileno()])
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        return ours

    def end(self) -> str:
        """Waits for the end that has begun, or makes it; how it ended. By the thread that made it."""
        try:
            code = self._process.wait(END_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.kill("closed its line")
            code = self._process.wait()
        self._reader.join(END_WITHIN_S)
        self._line.close()
        return self._why or self._told(code)

    def memory(self) -> WorkerMemory:
        """Zeros where it has ended."""
        peak = memory_bytes("VmHWM", self.pid)
        return WorkerMemory(peak, max(0, peak - self._base_bytes))

    def _look_at_memory(self) -> None:
        most = self._limits.model_bytes
        if most and self._base_bytes and memory_bytes("VmRSS", self.pid) - self._base_bytes > most:
            self.kill(f"ran out of memory: want at most {most >> 20} MiB beside its runtime")

    def _read_complaints(self) -> None:
        """Until the end: a full pipe would stop it."""
        pipe = self._process.stderr
        assert pipe is not None
        with pipe:
            while chunk := os.read(pipe.fileno(), MAX_COMPLAINT_BYTES):
                self._complaints = (self._complaints + chunk)[-MAX_COMPLAINT_BYTES:]

    def _told(self, code: int) -> str:
        if code == -signal.SIGKILL:
            return "was killed (SIGKILL): most likely the system ran out of memory"
        text = self._complaints.decode("utf-8", "replace")
        lines = [line for line in map(str.strip, text.splitlines()) if line and not line.startswith(_BESIDE)]
        last = f": {shown(lines[-1][:300])}" if lines else ""
        if code < 0:
            return f"crashed ({signal_name(-code)}){last}"
        return f"ended with status {code}{last}"


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    """This package is importable in the worker wherever it was imported from; numpy's algebra needs no threads there."""
    place = str(Path(next(iter(edge.__path__))).parent)
    paths = [place, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"OPENBLAS_NUM_THREADS": "1"} | dict(os.environ) | {"PYTHONPATH": os.pathsep.join(paths)} | dict(more)
