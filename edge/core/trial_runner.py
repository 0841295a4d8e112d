"""Tries a version in a process of its own: a file that crashes, hangs or eats memory fails there, not here.

Rule 1: a report, never an exception. Rule 2: no child outlives its trial, whatever ends it: time, cancellation, or
this process's own death. Rule 3: what the child says is bounded, and read as what a stranger says.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path

import edge
from edge.core.trial_job import TrialJob, TrialLimits, TrialReport
from edge.domain.models import Artifact, ModelOptions

CHILD = "edge.trial"
MAX_REPORT_BYTES = 4 * 2**20
MAX_STDERR_BYTES = 8 * 1024
_OUT_OF_MEMORY = ("bad_alloc", "MemoryError", "Cannot allocate memory", "out of memory")


async def run_trial(
    artifact: Artifact,
    options: ModelOptions,
    limits: TrialLimits | None = None,
    *,
    backend: str = "",
    child: str = CHILD,
) -> TrialReport:
    """Loads and self-tests the version in a child at nice 19. `child` is its module, `backend` a `module:Class` to use
    in place of the platform's own."""
    limits = limits or TrialLimits()
    job = TrialJob(artifact, options, limits.max_memory_bytes)
    try:
        process = await _start(child, backend)
    except OSError as error:
        return TrialReport(False, f"failed: the trial could not be started: {error}")
    try:
        async with asyncio.timeout(limits.timeout_s):
            said, complaints = await _talk(process, job.to_json().encode())
            code = await process.wait()
    except TimeoutError:
        return TrialReport(False, f"timed out: not done after {limits.timeout_s:g} s")
    finally:
        await _end(process)
    return _judge(code, said, complaints, limits)


async def _start(child: str, backend: str) -> asyncio.subprocess.Process:
    """Raises OSError: no memory or no process left for one more."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        child,
        str(os.getpid()),
        *([backend] if backend else []),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=_environment(),
        start_new_session=True,
    )


async def _talk(process: asyncio.subprocess.Process, job: bytes) -> tuple[bytes, bytes]:
    """stdout and the end of stderr, read side by side: neither pipe may fill up."""
    assert process.stdin
    assert process.stdout
    assert process.stderr
    with contextlib.suppress(ConnectionError):
        process.stdin.write(job)
        await process.stdin.drain()
    process.stdin.close()
    said, complaints = await asyncio.gather(
        _tail(process.stdout, MAX_REPORT_BYTES), _tail(process.stderr, MAX_STDERR_BYTES)
    )
    return said, complaints


async def _tail(stream: asyncio.StreamReader, most: int) -> bytes:
    kept = b""
    while chunk := await stream.read(64 * 1024):
        kept = (kept + chunk)[-most:]
    return kept


async def _end(process: asyncio.subprocess.Process) -> None:
    """Also on cancellation: the kill takes effect at once, and the wait only collects the exit status."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _judge(code: int, said: bytes, complaints: bytes, limits: TrialLimits) -> TrialReport:
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
        return TrialReport(False, f"crashed ({_signal_name(-code)})" + _last_words(text))
    return TrialReport(False, f"failed: the trial ended with status {code}" + _last_words(text))


def _last_words(text: str) -> str:
    """A C library's last line often names the cause."""
    return f": {text.splitlines()[-1][:300]}" if text else ""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _environment() -> dict[str, str]:
    """This package is importable in the child wherever it was imported from; and no pool of threads for numpy's algebra,
    which a trial does not use and which each reserve memory."""
    place = str(Path(next(iter(edge.__path__))).parent)
    paths = [place, *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OPENBLAS_NUM_THREADS": "1"}
