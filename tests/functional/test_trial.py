"""A version that crashes, hangs or eats memory does so in a child, and its status says which."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from blockbuster import blockbuster_ctx

import edge.check
from edge.check import check, find_versions
from edge.core.trial_job import TrialJob, TrialLimits, TrialReport
from edge.core.trial_runner import run_trial
from edge.domain.errors import LoadError
from edge.domain.models import Artifact, ImageOptions, ModelId, ModelOptions, Platform
from edge.domain.tensors import Array, DType
from tests import tflite_models as models
from tests.data import shared_data
from tests.waiting import until_blocking

CPU = ModelOptions()
WAIT_S = 60.0


@pytest.fixture
def version(tmp_path: Path) -> Artifact:
    """Version 3 of `m`, with a model that doubles."""
    directory = tmp_path / "m" / "3"
    directory.mkdir(parents=True)
    (directory / "model.tflite").write_bytes(models.scaling(2.0, (1, 2)))
    return Artifact(ModelId("m", 3), Platform.TFLITE, directory)


def golden(version: Artifact, factor: float) -> None:
    x = np.ones((4, 1, 2), np.float32)
    save(version, x, x * factor)


def save(version: Artifact, x: Array, y: Array) -> None:
    arrays: dict[str, Any] = {"input:x": x, "output:y": y}
    np.savez(version.file("golden.npz"), **arrays)


async def until(condition: Callable[[], bool]) -> None:
    """Polls in a thread: what is awaited happens in another process."""
    await asyncio.to_thread(until_blocking, condition)


async def pid_in(version: Artifact) -> int:
    """Of the child, as soon as it says."""
    path = version.file("pid")
    await until(path.exists)
    return int(await asyncio.to_thread(path.read_text))


async def tried(version: Artifact, name: str, limits: TrialLimits | None = None) -> TrialReport:
    return await run_trial(version, CPU, limits, backend=f"tests.fakes.bad_backends:{name}")


async def test_a_good_version_passes_and_tells_what_it_is_and_costs(version: Artifact) -> None:
    golden(version, 2.0)
    report = await run_trial(version, CPU)
    assert report.ok, report.reason
    assert report.runs == 4
    assert 0 < report.run_s < 1
    assert report.load_s > 0
    assert report.peak_bytes > report.model_bytes > 0
    assert report.device == "cpu"
    assert report.signatures["serving_default"]["inputs"] == {"x": {"dtype": "float32", "shape": [1, 2]}}


async def test_a_version_without_golden_vectors_is_run_on_zeros(version: Artifact) -> None:
    report = await run_trial(version, CPU)
    assert report.ok
    assert report.runs == 0


async def test_a_version_that_computes_something_else_fails_with_the_numbers(version: Artifact) -> None:
    golden(version, 3.0)
    report = await run_trial(version, CPU)
    assert not report.ok
    assert report.reason.startswith("self-test: output y: 8 of 8 elements are not within")


async def test_a_golden_file_that_makes_no_sense_fails_the_version(version: Artifact) -> None:
    version.file("golden.npz").write_bytes(b"nonsense")
    report = await run_trial(version, CPU)
    assert not report.ok
    assert report.reason.startswith("golden.npz: want an .npz file")


async def test_a_corrupt_file_fails_in_words(version: Artifact) -> None:
    version.file("model.tflite").write_bytes(models.scaling(2.0)[:300])
    report = await run_trial(version, CPU)
    assert report.reason.startswith("model.tflite: truncated or corrupt")


async def test_a_crash_is_named_by_its_signal(version: Artifact) -> None:
    report = await tried(version, "Crashing")
    assert not report.ok
    assert report.reason.startswith("crashed (SIGSEGV)")


async def test_a_hang_ends_at_the_timeout(version: Artifact) -> None:
    start = time.monotonic()
    report = await tried(version, "Hanging", TrialLimits(timeout_s=2.0))
    assert report == TrialReport(False, "timed out: not done after 2 s")
    assert time.monotonic() - start < WAIT_S
    child = int(version.file("pid").read_text())
    await until(lambda: not psutil.pid_exists(child))


def test_a_good_version_passes_on_a_processor_that_is_never_free(version: Artifact) -> None:
    """Where everything else takes all of it, who gives way to everything has nothing: timed out, three times of three."""
    program = (
        "import asyncio, os, subprocess, sys\n"
        "from pathlib import Path\n"
        "from edge.core.trial_runner import run_trial\n"
        "from edge.core.trial_job import TrialLimits\n"
        "from edge.domain.models import *\n"
        "version = Artifact(ModelId('m', 3), Platform.TFLITE, Path(sys.argv[1]))\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "busy = [subprocess.Popen([sys.executable, '-c', 'while True: pass']) for _ in range(3)]\n"
        "try:\n"
        "    print(asyncio.run(run_trial(version, ModelOptions(), TrialLimits(timeout_s=16.0))))\n"
        "finally:\n"
        "    for process in busy: process.kill()\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", program, version.path], capture_output=True, text=True, timeout=60, check=True
    )
    assert told.stdout.startswith("TrialReport(ok=True"), told.stdout


async def test_memory_is_bounded_and_its_end_is_named(version: Artifact) -> None:
    report = await tried(version, "Eating", TrialLimits(max_memory_bytes=256 * 2**20))
    assert report == TrialReport(False, "out of memory: want at most 256 MiB")


async def test_a_real_model_has_room_within_the_default_limit() -> None:
    path = shared_data("mobilenet_v2_1.0_224_quant.tflite")
    report = await run_trial(Artifact(ModelId("m", 1), Platform.TFLITE, path), CPU)
    assert report.ok, report.reason
    assert report.peak_bytes < 200 * 2**20


async def test_a_child_that_the_system_kills_says_so(version: Artifact) -> None:
    report = await tried(version, "Killed")
    assert report.reason == "crashed (SIGKILL): most likely the system ran out of memory"


async def test_a_trial_that_cannot_be_started_fails_the_version(
    version: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    report = await run_trial(version, CPU)
    assert report.reason.startswith("failed: the trial ")
    assert "/nowhere/python" in report.reason


async def test_a_trial_does_not_block_the_event_loop(version: Artifact) -> None:
    with blockbuster_ctx("edge"):
        assert (await run_trial(version, CPU)).ok


async def test_what_a_library_prints_does_not_spoil_the_report(version: Artifact) -> None:
    report = await tried(version, "Babbling")
    assert report.ok, report.reason


async def test_a_bug_in_a_backend_is_a_failure_with_its_last_words(version: Artifact) -> None:
    report = await tried(version, "Raising")
    assert report.reason == "failed: the trial ended with status 1: ZeroDivisionError: a bug"


async def test_a_version_that_cannot_be_loaded_fails_with_the_reason(version: Artifact) -> None:
    report = await tried(version, "Refusing")
    assert not report.ok
    assert report.reason == "no such operator"


async def test_a_child_is_gentle_and_imports_no_more_than_it_needs(version: Artifact) -> None:
    report = await run_trial(version, ModelOptions(num_threads=3), backend="tests.fakes.bad_backends:Telling")
    assert report.ok, report.reason
    nice, _, modules, threads = version.file("told").read_text().splitlines()
    assert nice == "19"
    assert threads == "3"
    assert not {"aiohttp", "asyncio", "ai_edge_litert", "uvloop"} & set(modules.split())


@pytest.mark.parametrize(("name", "passes"), [("Forking", True), ("ForkingHang", False)])
async def test_what_a_version_has_started_ends_with_its_trial(version: Artifact, name: str, passes: bool) -> None:
    start = time.monotonic()
    report = await tried(version, name, TrialLimits(timeout_s=WAIT_S if passes else 5.0))
    assert report.ok is passes, report.reason
    if passes:
        assert time.monotonic() - start < WAIT_S / 2, "the verdict waits for nobody who was started beside it"
    else:
        assert "timed out" in report.reason
    pid = await pid_in(version)
    await until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)


async def test_a_cancelled_trial_leaves_no_child(version: Artifact) -> None:
    trial = asyncio.create_task(tried(version, "Hanging"))
    child = await pid_in(version)
    trial.cancel()
    with pytest.raises(asyncio.CancelledError):
        await trial
    await until(lambda: not psutil.pid_exists(child))


async def test_a_child_dies_with_the_server(version: Artifact) -> None:
    program = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from edge.core.trial_runner import run_trial\n"
        "from edge.domain.models import *\n"
        "version = Artifact(ModelId('m', 3), Platform.TFLITE, Path(sys.argv[1]))\n"
        "asyncio.run(run_trial(version, ModelOptions(), backend='tests.fakes.bad_backends:Hanging'))\n"
    )
    server = await asyncio.create_subprocess_exec(sys.executable, "-c", program, str(version.path))
    child = psutil.Process(await pid_in(version))
    server.send_signal(signal.SIGKILL)
    await server.wait()
    await until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


async def test_a_trial_whose_server_is_gone_already_does_nothing(version: Artifact) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "edge.trial", "1", "nice", stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    _, said = await process.communicate()
    assert process.returncode == 1
    assert b"the server is gone" in said


async def test_a_model_for_the_edge_tpu_is_only_read(version: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_EDGETPU_LIBRARY", "libnowhere.so.1")
    version.file("model.tflite").write_bytes(models.custom("edgetpu-custom-op"))
    report = await run_trial(version, ModelOptions(device="usb:0"))
    assert report.ok, report.reason
    assert report.structural
    assert report.device == "usb:0"
    assert report.notice == "usb:0 belongs to the server: the file was checked"
    assert report.signatures["serving_default"]["inputs"]["x"]["dtype"] == "uint8"
    version.file("model.tflite").write_bytes(models.custom("edgetpu-custom-op")[:100])
    assert not (await run_trial(version, ModelOptions(device="usb:0"))).ok


async def test_the_cpu_twin_of_a_model_for_the_edge_tpu_is_run(version: Artifact) -> None:
    twin = models.make([models.Graph([models.T("x", DType.UINT8, (1, 4))], [0], [0])], [models.Sig({"x": 0}, {"y": 0})])
    version.file("model.tflite").write_bytes(models.custom("edgetpu-custom-op"))
    version.file("model_cpu.tflite").write_bytes(twin)
    x = np.ones((1, 1, 4), np.uint8)
    save(version, x, x)
    report = await run_trial(version, ModelOptions(device="usb:0"))
    assert report.ok, report.reason
    assert report.structural
    assert report.runs == 1
    assert report.run_s == 0
    save(version, x, x + 1)
    report = await run_trial(version, ModelOptions(device="usb:0"))
    assert report.reason.startswith("the CPU twin: self-test: output y: 4 of 4")


def test_a_job_and_a_report_survive_the_pipe() -> None:
    options = ModelOptions(device="usb:0", cpu_twin=Path("a.tflite"), image=ImageOptions(resize="pad", mean=1.5))
    job = TrialJob(Artifact(ModelId("m", 3), Platform.TFLITE, Path("/m/3")), options, 100)
    assert TrialJob.from_json(job.to_json()) == job
    report = TrialReport(False, "why", non_finite=("y",), signatures={"s": {"inputs": {}}})
    assert TrialReport.from_json(report.to_json()) == report


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"ok": 1}', '{"ok": true, "else": 1}', "\x00"])
def test_what_is_no_report_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 the texts are those of json
        TrialReport.from_json(text)


def test_check_tries_every_version_below_a_directory(version: Artifact) -> None:
    golden(version, 2.0)
    bad = version.path.parent / "10"
    bad.mkdir()
    (bad / "model.tflite").write_bytes(b"nonsense")
    (version.path.parent / "notes").mkdir()
    report = check(version.path.parent.parent)
    assert [str(one.artifact.id) for one in report.versions] == ["m@3", "m@10"]
    assert [one.report.ok for one in report.versions] == [True, False]
    assert not report.ok
    told = json.loads(report.to_json())
    assert told["format"] == "edge-check/1"
    assert told["versions"][0]["runs"] == 4
    text = report.to_text()
    assert "serving_default: x float32 [1,2] → y float32 [1,2]" in text
    assert "4 golden runs" in text
    assert "FAILED: model.tflite: want a TFLite model" in text


def test_check_reads_a_versions_own_options(version: Artifact) -> None:
    version.file("model.toml").write_text("lanes = 3")
    report = check(version.path)
    reason = report.versions[0].report.reason
    assert reason.startswith("model.toml: lanes: no such key; want dequantize, lane, max_batch, ")
    version.file("model.toml").write_bytes(b"\xff")
    assert not check(version.path).ok
    version.file("model.toml").write_text("lane = 'thread'")
    assert check(version.path / "model.tflite").ok


def test_versions_are_found_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for place in ("a/2", "a/10", "b/1", "b/0", "b/x", "b/.3", "c"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "model.tflite").touch()
    (tmp_path / "c" / "model.tflite").unlink()
    found = [str(artifact.id) for artifact in find_versions(tmp_path)]
    assert found == ["a@2", "a@10", "b@0", "b@1"], "the versions that a server would find"
    assert [artifact.id.name for artifact in find_versions(tmp_path / "b" / "x" / "model.tflite")] == ["model"]


def test_check_tells_of_models_that_a_server_would_pass_over(version: Artifact) -> None:
    model = version.path.parent
    for place in ("m/v2", "loose", "two words/1", "notes"):
        (model.parent / place).mkdir(parents=True)
        shutil.copy(version.file("model.tflite"), model.parent / place)
    (model.parent / "notes" / "model.tflite").unlink()
    report = check(model.parent)
    assert [str(one.artifact.id) for one in report.versions] == ["m@3"]
    assert report.ok
    assert [str(Path(each.partition(": ")[0]).relative_to(model.parent)) for each in report.passed_over] == [
        "loose",
        "m/v2",
        "two words",
    ]
    assert f"not served: {model}/v2: want a version's number for its name" in report.to_text()
    assert json.loads(report.to_json())["passed_over"][0].endswith("as in loose/1/model.tflite")
    shutil.rmtree(model)
    with pytest.raises(LoadError, match=r"loose: want a directory for each version"):
        check(model.parent)
    (by_itself,) = check(model.parent / "loose").to_text().splitlines()[:1]
    assert by_itself.startswith("loose (tflite")


def test_check_of_nothing_says_what_it_wants(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"want a \.tflite file, or a directory with model\.tflite or saved_model\.pb"):
        check(tmp_path)
    with pytest.raises(LoadError):
        check(tmp_path / "nowhere")
    assert os.listdir(tmp_path) == []


def test_the_versions_that_come_with_the_server_pass_their_own_trial() -> None:
    report = check(Path(edge.check.__file__).parent / "data" / "digits")
    assert [one.artifact.id.version for one in report.versions] == [1, 2]
    assert report.ok, report.to_text()
    assert all(one.report.runs for one in report.versions)
