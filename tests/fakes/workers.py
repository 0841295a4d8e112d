"""Programs for a worker in place of a runtime, each given to it as `module:function`.

What a program does is said in its job: `behaviour` names it, and files beside `path` say what has happened.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from edge.backends.worker.program import Broken, Load
from edge.domain.errors import InvalidInput, LoadError, Overloaded
from edge.domain.tensors import Array, DType, Signature, Tensors, TensorSpec

HANG_S = 60.0
STEP_BYTES = 8 * 2**20
DOUBLING = Signature(
    "serving_default",
    MappingProxyType({"x": TensorSpec("x", DType.FLOAT32, (-1,))}),
    MappingProxyType({"y": TensorSpec("y", DType.FLOAT32, (-1,))}),
)
ECHO = Signature(
    "echo",
    MappingProxyType({"s": TensorSpec("s", DType.STRING, None), "n": TensorSpec("n", DType.INT8, ())}),
    MappingProxyType({"s": TensorSpec("s", DType.STRING, None), "n": TensorSpec("n", DType.INT8, ())}),
)
LONG = "\x1b[31m" + "x" * 1_000_000
"""Words that no worker of this server's would say."""


def prepare() -> Load:
    return Program


def unprepared() -> Load:
    raise LoadError("no runtime here")


def buggy() -> Load:
    raise ZeroDivisionError("a bug")


class Program:
    """A `Computing`: `serving_default` doubles, `echo` gives back. An input tells it to misbehave, if its job does not."""

    def __init__(self, job: Mapping[str, Any]) -> None:
        self.signatures: Mapping[str, Signature] = {"serving_default": DOUBLING, "echo": ECHO}
        self.device, self.notice, self.max_batch = "cpu", job.get("notice", ""), 8
        self.keeps_inputs = bool(job.get("keeps_inputs"))
        self._job, self._kept = job, np.zeros(0, np.float32)
        _behave(job, "load")
        if (lives := job.get("lives")) is not None:
            self._count(Path(lives))

    def _count(self, file: Path) -> None:
        """Says in a file how often it was started; from the second time on the job's `again` is what it does."""
        before = int(file.read_text()) if file.exists() else 0
        file.write_text(str(before + 1))
        if before:
            _behave(self._job, "again")
            if self._job.get("again") == "another":
                self.signatures = {"serving_default": DOUBLING}

    def run(self, signature: str, inputs: Tensors) -> Tensors:
        if signature == "echo":
            return dict(inputs)
        x = inputs["x"]
        word = _WORDS.get(float(x[0]))
        if word is not None:
            word()
        if x[0] == KEEP:
            self._kept = x
        if x[0] == KEPT:
            return {"y": self._kept}
        if x[0] == LIE:
            return {"z": x}
        if x[0] == NONE:
            return {}
        if x[0] == BEND:
            return {"y": x.reshape(1, -1)}
        if x[0] == STEER:
            return {LONG: x}
        return {"y": x.astype(np.float64) if x[0] == MISTAKE else x * np.float32(2)}


def _behave(job: Mapping[str, Any], key: str) -> None:
    behave = _LOADS.get(job.get(key, ""))
    if behave is not None:
        behave(job)


def _raise(error: Exception) -> Callable[[], None]:
    def run() -> None:
        raise error

    return run


def _crash() -> None:
    ctypes.string_at(0)


def _hang() -> None:
    threading.Event().wait(HANG_S)


def _exit() -> None:
    print("the last words", file=sys.stderr, flush=True)
    os._exit(3)


def _garble() -> None:
    """On every socket that it has."""
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                os.write(int(name), b"\x05\0\0\0hello")
        except OSError:
            continue
    _hang()


CRASH, HANG, EXIT, GARBLE, REFUSE, FULL, BREAK, BUG, KEEP, KEPT, KILL, LIE, MISTAKE, BEND, NONE, STEER = (
    float(-n) for n in range(1, 17)
)
_WORDS: Mapping[float, Callable[[], None]] = {
    CRASH: _crash,
    HANG: _hang,
    EXIT: _exit,
    GARBLE: _garble,
    REFUSE: _raise(InvalidInput("not this one")),
    FULL: _raise(Overloaded("no room")),
    BREAK: _raise(Broken("gpu:0: CUDA_ERROR_ILLEGAL_ADDRESS")),
    BUG: _raise(KeyError("a bug")),
    KILL: lambda: os.kill(os.getpid(), signal.SIGKILL),
}


def _eat(job: Mapping[str, Any]) -> None:
    eaten = [b"\1" * STEP_BYTES for _ in range(int(job["eat_bytes"]) // STEP_BYTES)]
    threading.Event().wait(1.0)
    del eaten


def _write_pid(job: Mapping[str, Any]) -> None:
    part = Path(job["pid"] + ".part")
    part.write_text(str(os.getpid()))
    part.rename(job["pid"])


def _pid_then_hang(job: Mapping[str, Any]) -> None:
    _write_pid(job)
    _hang()


_LOADS: Mapping[str, Callable[[Mapping[str, Any]], object]] = {
    "crash": lambda job: _crash(),
    "hang": lambda job: _hang(),
    "exit": lambda job: _exit(),
    "garble": lambda job: _garble(),
    "refuse": lambda job: _raise(LoadError("not a model"))(),
    "bug": lambda job: _raise(KeyError("a bug"))(),
    "memory": lambda job: _raise(MemoryError())(),
    "eat": _eat,
    "pid": _write_pid,
    "pid-hang": _pid_then_hang,
}


def number(value: float, size: int = 1) -> dict[str, Array]:
    return {"x": np.full(size, value, np.float32)}
