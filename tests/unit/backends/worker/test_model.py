"""A worker that misbehaves costs its version and nothing else; each in a real process, with a program of a few lines."""

from __future__ import annotations

import gc
import logging
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from edge.backends.worker.caller import COPY_BYTES, KEEP_BYTES, MAX_LENT
from edge.backends.worker.model import Keeper, WorkerModel
from edge.backends.worker.process import WorkerLimits, WorkerProcess
from edge.backends.worker.restarts import Restarts
from edge.domain.errors import (
    BadOutputs,
    EdgeError,
    InferenceFailed,
    InvalidInput,
    LoadError,
    NotReady,
    Overloaded,
    WorkerLost,
)
from edge.domain.ports import Apart
from tests.fakes import workers
from tests.fakes.workers import number
from tests.waiting import until_blocking

AT_ONCE = Restarts(backoff_s=0.01, max_deaths=4)
NEVER_AGAIN = Restarts(max_deaths=1)
LATER = Restarts(backoff_s=30.0)

Open = Callable[..., WorkerModel]


@pytest.fixture
def opened() -> Iterator[Open]:
    """Opens models, and closes them."""
    made: list[WorkerModel] = []

    def make(
        *,
        program: str = "prepare",
        restarts: Restarts = AT_ONCE,
        limits: WorkerLimits | None = None,
        **job: Any,
    ) -> WorkerModel:
        limits = limits or WorkerLimits(load_s=20.0, run_s=20.0)
        start = lambda: WorkerProcess(f"tests.fakes.workers:{program}", job, limits=limits)  # noqa: E731
        keeper = Keeper("m@1", start, restarts)
        made.append(WorkerModel(keeper, keeper.open(), limits))
        return made[-1]

    yield make
    for each in made:
        each.close()


def run(model: WorkerModel, value: float, size: int = 1) -> list[float]:
    out: list[float] = model.run("serving_default", number(value, size))["y"].tolist()
    return out


def pid(model: WorkerModel) -> int:
    return model._keeper.process().pid


def served_again(model: WorkerModel) -> bool:
    try:
        return run(model, 3.0) == [6.0]
    except NotReady:
        return False


def test_a_run_gives_what_the_program_makes_of_it(opened: Open) -> None:
    model = opened(notice="by a fake")
    assert run(model, 2.0, 3) == [4.0, 4.0, 4.0]
    texts = np.array([[b"a", b"\0"], [b"", b"\xff"]], object)
    out = model.run("echo", {"s": texts, "n": np.array(5, np.int8)})
    assert out["s"].tolist() == texts.tolist()
    assert (out["n"].shape, out["n"].item()) == ((), 5)
    assert (model.device, model.notice, model.max_batch) == ("cpu", "by a fake", 8)
    assert list(model.signatures) == ["serving_default", "echo"]
    assert isinstance(model, Apart)


def test_what_crosses_grows_on_demand_and_no_further_than_it_may(opened: Open) -> None:
    model = opened(limits=WorkerLimits(load_s=20.0, tensor_bytes=2**20))
    for size in (10, 100_000, 20):
        assert run(model, 1.0, size) == [2.0] * size
    with pytest.raises(InvalidInput, match="want at most 1048576 bytes of tensors in a run, got 2000000"):
        run(model, 1.0, 500_000)
    with pytest.raises(BadOutputs, match="outputs: want at most 1048576 bytes of tensors in a run, got 1600000"):
        run(model, 1.0, 200_000)
    assert run(model, 1.0) == [2.0]


def test_outputs_are_the_callers_own_whatever_runs_after(opened: Open) -> None:
    model = opened()
    size = COPY_BYTES
    kept = [model.run("serving_default", number(n, size))["y"] for n in range(1, MAX_LENT + 4)]
    small = [model.run("serving_default", number(n))["y"] for n in range(1, 5)]
    assert [array[-1] for array in kept] == [2.0 * n for n in range(1, MAX_LENT + 4)]
    assert [array[-1] for array in small] == [2.0, 4.0, 6.0, 8.0]
    kept[0][:] = 7
    assert run(model, 1.0, 2) == [2.0, 2.0]
    assert kept[0].tolist() == [7.0] * size


def test_memory_that_nobody_looks_at_is_used_again(opened: Open) -> None:
    model = opened()
    files = len(os.listdir("/proc/self/fd"))
    for n in range(30):
        model.run("serving_default", number(n, COPY_BYTES))
        gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= files + 4


def test_what_one_large_run_took_is_given_back_on_both_sides(opened: Open) -> None:
    model = opened()
    run(model, 1.0)
    worker, ours = psutil.Process(pid(model)), len(os.listdir("/proc/self/fd"))
    theirs = worker.num_fds()
    for _ in range(3):
        out = model.run("serving_default", number(1.0, KEEP_BYTES // 4))
        assert out["y"][-1] == 2.0
        del out
        gc.collect()
        run(model, 1.0)
    assert worker.num_fds() <= theirs + 1
    assert len(os.listdir("/proc/self/fd")) <= ours + 1


@pytest.mark.parametrize(("keeps", "tells"), [(True, workers.KEEP), (False, 5.0)])
def test_who_keeps_inputs_has_them_to_itself(opened: Open, keeps: bool, tells: float) -> None:
    model = opened(keeps_inputs=keeps)
    run(model, workers.KEEP)
    run(model, 5.0)
    assert run(model, workers.KEPT) == [tells if keeps else workers.KEPT]


@pytest.mark.parametrize(
    ("word", "kind", "says"),
    [
        (workers.REFUSE, InvalidInput, "not this one"),
        (workers.FULL, Overloaded, "no room"),
        (workers.BUG, InferenceFailed, "KeyError"),
        (workers.BEND, BadOutputs, r"outputs: y: want float32 \[\?\], got float32 \[1,1\]"),
    ],
)
def test_what_a_run_raises_there_is_raised_here(opened: Open, word: float, kind: type[EdgeError], says: str) -> None:
    model = opened()
    before = pid(model)
    with pytest.raises(kind, match=says):
        run(model, word)
    assert run(model, 1.0) == [2.0]
    assert pid(model) == before


@pytest.mark.parametrize(
    ("word", "says"),
    [
        (workers.CRASH, r"its worker crashed \(SIGSEGV\)"),
        (workers.EXIT, "its worker ended with status 3: the last words"),
        (workers.KILL, r"its worker was killed \(SIGKILL\): most likely"),
        (workers.GARBLE, "said what makes no sense"),
        (workers.LIE, "said what makes no sense: want outputs y, got z"),
        (workers.NONE, "said what makes no sense: want outputs y, got $"),
        (workers.STEER, r"said what makes no sense: want outputs y, got �\[31mx+…$"),
        (workers.MISTAKE, r"said what makes no sense: y: want float32 \[\?\], got float64"),
        (workers.BREAK, "CUDA_ERROR_ILLEGAL_ADDRESS"),
    ],
)
def test_a_run_that_ends_its_worker_fails_and_another_worker_answers(opened: Open, word: float, says: str) -> None:
    model = opened()
    before = pid(model)
    with pytest.raises(WorkerLost, match=says):
        run(model, word)
    until_blocking(lambda: served_again(model))
    assert pid(model) != before
    assert model.notice == ""


def test_the_log_has_the_end_of_a_worker_and_when_another_answers(
    opened: Open, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    model = opened()
    with pytest.raises(InferenceFailed):
        run(model, workers.KILL)
    until_blocking(lambda: served_again(model))
    said = [record.getMessage() for record in caplog.records if "its worker" in record.getMessage()]
    assert len(said) == 2
    assert "another is started" in said[0]
    assert re.fullmatch(r"m@1: its worker answers again, \d+\.\d s after it was started", said[1])


def test_a_run_that_hangs_is_ended_with_its_worker(opened: Open) -> None:
    model = opened(limits=WorkerLimits(load_s=20.0, run_s=0.3))
    with pytest.raises(InferenceFailed, match=r"took longer than 0.3 s for a run \(max_run_s\)"):
        run(model, workers.HANG)
    until_blocking(lambda: served_again(model))


def test_while_a_worker_is_started_again_its_version_is_not_ready_and_says_why(opened: Open) -> None:
    model = opened(restarts=LATER)
    with pytest.raises(InferenceFailed):
        run(model, workers.CRASH)
    with pytest.raises(NotReady, match=r"m@1: its worker crashed \(SIGSEGV\)"):
        run(model, 1.0)
    assert "its worker crashed (SIGSEGV)" in model.notice


def test_a_worker_that_ends_again_and_again_breaks_its_version_which_is_told_once(opened: Open, tmp_path: Path) -> None:
    model = opened(lives=str(tmp_path / "lives"), again="crash")
    told: list[str] = []
    model.watch(told.append)
    with pytest.raises(InferenceFailed):
        run(model, workers.CRASH)
    until_blocking(lambda: bool(told))
    assert (tmp_path / "lives").read_text() == str(AT_ONCE.max_deaths)
    assert len(told) == 1
    says = "its worker ended 4 times in a row; the last one could not load it: the worker crashed (SIGSEGV)"
    assert told[0].startswith(says)
    with pytest.raises(NotReady, match="ended 4 times in a row"):
        run(model, 1.0)
    late: list[str] = []
    model.watch(late.append)
    assert late == told, "who asks later is told as well"


def test_a_worker_that_finds_another_model_in_its_files_does_not_answer_for_the_first(
    opened: Open, tmp_path: Path
) -> None:
    model = opened(lives=str(tmp_path / "lives"), again="another", restarts=Restarts(backoff_s=0.01, max_deaths=2))
    told: list[str] = []
    model.watch(told.append)
    with pytest.raises(InferenceFailed):
        run(model, workers.CRASH)
    until_blocking(lambda: bool(told))
    assert "found another model in its files: its inputs and outputs are not those that it had" in told[0]


@pytest.mark.parametrize(
    ("job", "says"),
    [
        ({"load": "crash"}, r"the worker crashed \(SIGSEGV\)"),
        ({"load": "exit"}, "the worker ended with status 3: the last words"),
        ({"load": "garble"}, "the worker said what makes no sense"),
        ({"load": "refuse"}, "^not a model$"),
        ({"load": "bug"}, "KeyError: 'a bug'"),
        ({"load": "memory"}, "not enough memory"),
        ({"load": "hang"}, "load: not done after 1.5 s"),
        ({"program": "unprepared"}, "no runtime here"),
        ({"program": "buggy"}, "ZeroDivisionError: a bug"),
        ({"program": "nowhere"}, "AttributeError"),
    ],
)
def test_a_load_that_fails_says_why_and_leaves_no_process(opened: Open, job: dict[str, Any], says: str) -> None:
    before = {child.pid for child in psutil.Process().children()}
    with pytest.raises(LoadError, match=says):
        opened(limits=WorkerLimits(load_s=1.5 if job.get("load") == "hang" else 20.0), **job)
    assert {child.pid for child in psutil.Process().children()} <= before


def test_a_model_that_takes_more_memory_than_it_may_is_ended(opened: Open) -> None:
    limits = WorkerLimits(load_s=20.0, model_bytes=64 * 2**20)
    with pytest.raises(LoadError, match="ran out of memory: want at most 64 MiB beside its runtime"):
        opened(load="eat", eat_bytes=160 * 2**20, limits=limits)


def test_the_memory_of_a_model_is_told_without_that_of_its_runtime(opened: Open) -> None:
    small, large = opened().memory(), opened(load="eat", eat_bytes=48 * 2**20).memory()
    assert small.model_bytes < 16 * 2**20
    assert 40 * 2**20 < large.model_bytes < 72 * 2**20
    assert large.peak_bytes > large.model_bytes


def test_a_bug_in_keeping_a_worker_is_an_end_of_it_like_any_other() -> None:
    made: list[int] = []

    class Odd(WorkerProcess):
        def wait(self) -> str:
            made.append(self.pid)
            why = super().wait()
            if len(made) == 1:
                raise ZeroDivisionError("a bug")
            return why

    limits = WorkerLimits(load_s=20.0)
    keeper = Keeper("m@1", lambda: Odd("tests.fakes.workers:prepare", {}, limits=limits), AT_ONCE)
    model = WorkerModel(keeper, keeper.open(), limits)
    try:
        with pytest.raises(InferenceFailed):
            run(model, workers.CRASH)
        until_blocking(lambda: len(made) == 2 and served_again(model))
    finally:
        model.close()


def test_instances_share_a_worker_and_run_side_by_side(opened: Open) -> None:
    model = opened(limits=WorkerLimits(load_s=20.0, run_s=20.0))
    other = model.another()
    assert pid(other) == pid(model)
    failures: list[str] = []

    def hang() -> None:
        with pytest.raises(InferenceFailed) as raised:
            run(other, workers.HANG)
        failures.append(str(raised.value))

    hanging = threading.Thread(target=hang)
    hanging.start()
    assert run(model, 4.0) == [8.0]
    model._keeper.process().kill("was told to end")
    hanging.join(10)
    assert failures == ["the run failed: its worker was told to end"]
    other.close()
    until_blocking(lambda: served_again(model))


def test_the_last_instance_that_closes_ends_the_worker(opened: Open) -> None:
    model = opened()
    other, process = model.another(), psutil.Process(pid(model))
    model.close()
    assert other.run("serving_default", number(2.0))["y"].tolist() == [4.0]
    other.close()
    other.close()
    assert not process.is_running()
    with pytest.raises(InferenceFailed, match="was unloaded"):
        run(model, 1.0)


def test_a_model_may_be_closed_while_its_worker_is_waited_for(opened: Open) -> None:
    model = opened(restarts=LATER)
    with pytest.raises(InferenceFailed):
        run(model, workers.CRASH)
    model.close()
    assert not model._keeper._thread.is_alive()


SERVER = """
import sys, threading
from edge.backends.worker.model import Keeper, WorkerModel
from edge.backends.worker.process import WorkerLimits, WorkerProcess
job = {"load": sys.argv[2], "pid": sys.argv[1]}
keeper = Keeper("m@1", lambda: WorkerProcess("tests.fakes.workers:prepare", job, limits=WorkerLimits()))
model = WorkerModel(keeper, keeper.open(), WorkerLimits())
from tests.fakes import workers
model.run("serving_default", workers.number(workers.HANG))
"""


@pytest.mark.parametrize("load", ["pid", "pid-hang"])
def test_a_worker_never_outlives_a_server_that_was_killed(tmp_path: Path, load: str) -> None:
    """In a run that hangs, and in a load that does."""
    file = tmp_path / "pid"
    server = subprocess.Popen([sys.executable, "-c", SERVER, str(file), load])
    try:
        until_blocking(file.is_file)
        worker = psutil.Process(int(file.read_text()))
        server.send_signal(signal.SIGKILL)
        server.wait()
        until_blocking(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE)
    finally:
        server.kill()
        server.wait()
