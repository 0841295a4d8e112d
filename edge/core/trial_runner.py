"""Tries a version in a process of its own: a file that crashes, hangs or eats memory fails there, not here.

Rule 1: a report, never an exception. Rule 2: no child outlives its trial, whatever ends it: time, cancellation, or
this process's own death. Rule 3: what the child says is bounded, and read as what a stranger says.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from shutil import which
from time import monotonic

import edge
from edge.children import signal_name
from edge.core.child import Child, Ended
from edge.core.threads import in_thread
from edge.core.trial_job import TrialJob, TrialLimits, TrialReport
from edge.domain.models import Artifact, ModelOptions

CHILD = "edge.trial"
MAX_REPORT_BYTES = 4 * 2**20
MAX_STDERR_BYTES = 8 * 1024
# How the child gives way, and the share of the time after which it is asked whether it got a processor for STARVED of it.
MANNERS = (("idle", 0.25), ("nice", 0.25), ("equal", 1.0))
STARVED = 0.5
_OUT_OF_MEMORY = ("bad_alloc", "MemoryError", "Cannot allocate memory", "out of memory")

# The child sees to it by itself, but an interpreter takes a while to start.
_LAST_FROM_THE_START = ["chrt", "-i", "0"] if which("chrt") else []


async def run_trial(
    artifact: Artifact,
    options: ModelOptions,
    limits: TrialLimits | None = None,
    *,
    backend: str = "",
    child: str = CHILD,
) -> TrialReport:
    """Loads and self-tests the version in a child. `child` is its module, `backend` a `module:Class` to use in place
    of the platform's own.

    The child gives way to everything else: on a processor that is never free, for ever. Where it has waited for one for
    most of its share of the time, another is begun at nice 19, and at last one with the server's own priority: a good
    version is not to be refused because a device is busy. (A bad one that computes for ever has its processor, and
    stays where it is.)
    """
    limits = limits or TrialLimits()
    options = replace(options, max_load_s=limits.timeout_s)
    job = TrialJob(artifact, options, limits.max_memory_bytes).to_json().encode()
    until = monotonic() + limits.timeout_s
    try:
        for manner, share in MANNERS:
            command = [sys.executable, "-m", child, str(os.getpid()), manner]
            command = [*(_LAST_FROM_THE_START if manner == "idle" else []), *command, *([backend] if backend else [])]
            ended = await _run(command, job, share * limits.timeout_s, until)
            if ended is not None:
                return _judge(ended, limits)
    except OSError as error:
        if not isinstance(error, TimeoutError):
            return TrialReport(False, f"failed: the trial could not be started: {error}")
    return TrialReport(False, f"timed out: not done after {limits.timeout_s:g} s")


async def _run(command: list[str], job: bytes, patience_s: float, until: float) -> Ended | None:
    """None where it has waited for a processor for most of `patience_s`. Raises TimeoutError after `until`, OSError."""
    process = Child(command, _environment(), max_said_bytes=MAX_REPORT_BYTES, max_complaint_bytes=MAX_STDERR_BYTES)
    running = asyncio.ensure_future(in_thread("trial", until - monotonic(), process.run, job))
    waited_s = 0.0
    try:
        while not (await asyncio.wait((running,), timeout=patience_s))[0]:
            before_s, waited_s = waited_s, await in_thread("trial", patience_s, process.waited_s)
            if waited_s - before_s > STARVED * patience_s:
                return None
        return await running
    finally:
        running.cancel()
        process.kill()


def _judge(ended: Ended, limits: TrialLimits) -> TrialReport:
    code, said, complaints = ended
    text = complaints.decode("utf-8", "replace").strip()
    if code == 0:
        try:
            return TrialReport.from_json(said.splitlines()[-1] if said else b"")
        except ValueError as error:
            return TrialReport(False, f"failed: the trial gave no report ({error})")
    if any(word in text for word in _OUT_OF_MEMORY):
        return TrialReport(False, f"out of memory: want at most {limits.max_memory_bytes // 2**20} MiB")
    if code == -signal.SIGKILL:
        return TrialReport(False, "crashed (SIGKILL): most likely the system ran out of memory")
    if code < 0:
        return TrialReport(False, f"crashed ({signal_name(-code)})" + _last_words(text))
    return TrialReport(False, f"failed: the trial ended with status {code}" + _last_words(text))


def _last_words(text: str) -> str:
    """A C library's last line often names the cause."""
    return f": {text.splitlines()[-1][:300]}" if text else ""


def _environment() -> dict[str, str]:
    """This package is importable in the child wherever it was imported from; and no pool of threads for numpy's algebra,
    which a trial does not use and which each reserve memory."""
    place = str(Path(next(iter(edge.__path__))).parent)
    paths = [place, *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OPENBLAS_NUM_THREADS": "1"}
