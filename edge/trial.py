"""The child that tries a version: `python -m edge.trial PARENT_PID idle|nice|equal [module:Class]`.

A job comes on stdin, a report goes to stdout.

Rule 1: limits first, then imports, then the job: nothing here may harm the server. Rule 2: one line of JSON on stdout
and status 0 for every verdict; any other end is a crash, and the parent words it. Rule 3: an Edge TPU belongs to the
server: here its file is only read, and its CPU twin is run if there is one.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from edge.children import die_with, memory_bytes

if TYPE_CHECKING:
    from edge.core.trial_job import TrialJob, TrialReport
    from edge.domain.ports import Backend

NICENESS = 19
IDLE, EQUAL = "idle", "equal"


def main(argv: list[str]) -> int:
    """Raises MemoryError as any program does; the parent knows the word."""
    if argv[2] != EQUAL:
        _give_way(idle=argv[2] == IDLE)
    die_with(int(argv[1]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    from edge.core.trial_job import TrialJob

    job = TrialJob.from_json(sys.stdin.buffer.read())
    if is_here(job):
        _limit_memory(job.max_memory_bytes)
    # Whatever a library prints on stdout must not mix with the report.
    report_to = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    print(attempt(job, argv[3] if len(argv) > 3 else "").to_json(), file=report_to, flush=True)
    report_to.close()
    # A delegate's or a model's destructor that hangs does not take back the verdict.
    os._exit(0)


def _give_way(idle: bool) -> None:
    """To the server, whose requests this would slow down. `idle`: run only while a processor has nothing else to do."""
    os.nice(NICENESS)
    if idle:
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def attempt(job: TrialJob, backend_place: str = "") -> TrialReport:
    """Loads the version and tests it."""
    from edge.backends.catalog import backend_at, backend_for
    from edge.core.trial_job import TrialReport
    from edge.domain.errors import LoadError
    from edge.domain.models import is_gpu

    try:
        if not is_here(job) and not backend_place:
            return _full(job, _bounded(job))
        backend = backend_at(backend_place) if backend_place else backend_for(job.artifact.platform)
        # A GPU is shared by processes, unlike an Edge TPU.
        if job.options.device != "cpu" and not is_gpu(job.options.device) and not backend_place:
            return _structural(job, backend)
        return _full(job, backend)
    except LoadError as error:
        return TrialReport(False, str(error), peak_bytes=memory_bytes("VmHWM"))


def _full(job: TrialJob, backend: Backend) -> TrialReport:
    """Raises LoadError."""
    from edge.core.golden import load_golden
    from edge.core.selftest import selftest
    from edge.core.trial_job import TrialReport, describe
    from edge.domain.ports import Apart

    path = job.artifact.file("golden.npz")
    golden = load_golden(path) if path.is_file() else None
    before, start = memory_bytes("VmRSS"), time.perf_counter()
    model = backend.load(job.artifact, job.options)
    load_s, notice = time.perf_counter() - start, model.notice
    test = selftest(model, golden)
    peak, grown = memory_bytes("VmHWM"), memory_bytes("VmHWM") - before
    if isinstance(model, Apart):
        memory = model.memory()
        peak, grown = peak + memory.peak_bytes, memory.model_bytes
    return TrialReport(
        test.ok,
        f"self-test: {test.reason}" if test.reason else "",
        load_s=load_s,
        run_s=test.run_s,
        first_run_s=test.first_run_s,
        runs=test.runs,
        peak_bytes=peak,
        model_bytes=max(0, grown),
        device=model.device,
        notice=notice,
        non_finite=test.non_finite,
        signatures=describe(model.signatures),
    )


def is_here(job: TrialJob) -> bool:
    """Whether this process runs the model itself, and its limits are the model's."""
    from edge.domain.models import Platform

    return job.artifact.platform is not Platform.SAVEDMODEL


def _bounded(job: TrialJob) -> Backend:
    """The backend whose worker may take so much memory beside its runtime and what its files ask for. Raises LoadError."""
    from edge.backends.savedmodel import SavedModelBackend

    return SavedModelBackend(model_bytes=job.max_memory_bytes + SavedModelBackend().memory_bytes(job.artifact))


def _structural(job: TrialJob, backend: Backend) -> TrialReport:
    """For an accelerator. Raises LoadError."""
    from edge.backends.edgetpu import is_edgetpu
    from edge.backends.tflite import TfliteBackend, twin_file
    from edge.core.trial_job import TrialReport, describe
    from edge.domain.errors import LoadError

    if not isinstance(backend, TfliteBackend) or not is_edgetpu(job.options.device):
        raise LoadError(f"device: {job.artifact.platform.value} models run on cpu, got {job.options.device!r}")
    signatures = backend.inspect(job.artifact)
    on_cpu = replace(job, options=replace(job.options, device="cpu"))
    if not backend.is_for_edgetpu(job.artifact):
        return _full(on_cpu, backend)
    said = f"{job.options.device} belongs to the server: the file was checked"
    if not twin_file(job.artifact, job.options).is_file():
        return TrialReport(
            True,
            peak_bytes=memory_bytes("VmHWM"),
            device=job.options.device,
            notice=said,
            structural=True,
            signatures=describe(signatures),
        )
    twin = _full(on_cpu, backend)
    reason = f"the CPU twin: {twin.reason}" if twin.reason else ""
    # The twin's time says nothing of the device's.
    return replace(
        twin, reason=reason, run_s=0.0, first_run_s=0.0, notice=f"{said}, its CPU twin was run", structural=True
    )


def _limit_memory(most: int) -> None:
    """Of private writable memory: a limit on address space would count libraries and mapped weights as well."""
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))


if __name__ == "__main__":
    sys.exit(main(sys.argv))
