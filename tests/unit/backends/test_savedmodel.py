"""The server's side of SavedModels, which knows no TensorFlow; with it, see tests/gpu."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest

from edge.backends import catalog
from edge.backends.savedmodel import SavedModelBackend
from edge.backends.savedmodel.backend import RUNTIME_BYTES, gpu_index
from edge.backends.savedmodel.signatures import BATCH_BYTES, MAX_BATCH_ROWS, batch, default, routes
from edge.backends.tflite import TfliteBackend
from edge.backends.worker.restarts import Restarts
from edge.check import check
from edge.domain.errors import LoadError
from edge.domain.models import Artifact, ModelId, ModelOptions, Platform
from edge.domain.tensors import DType
from tests import tflite_models


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    """With files of the right names, and nothing in them."""
    (tmp_path / "m" / "1" / "variables").mkdir(parents=True)
    (tmp_path / "m" / "1" / "saved_model.pb").write_bytes(b"x" * 100)
    (tmp_path / "m" / "1" / "variables" / "variables.data-00000-of-00001").write_bytes(b"x" * 10_000)
    return Artifact(ModelId("m", 1), Platform.SAVEDMODEL, tmp_path / "m" / "1", "f")


def test_what_a_version_needs_is_tensorflow_and_its_variables_twice(artifact: Artifact) -> None:
    assert SavedModelBackend().memory_bytes(artifact) == RUNTIME_BYTES + 4 * 100 + 2 * 10_000
    (artifact.path / "saved_model.pb").unlink()
    with pytest.raises(LoadError, match=r"saved_model\.pb: No such file"):
        SavedModelBackend().memory_bytes(artifact)


@pytest.mark.skipif(find_spec("tensorflow") is not None, reason="TensorFlow is installed")
def test_without_tensorflow_it_is_said_what_to_install(artifact: Artifact) -> None:
    with pytest.raises(LoadError, match=r"needs TensorFlow, which is not installed: install edge-serving\[gpu\]"):
        SavedModelBackend().load(artifact, ModelOptions())
    report = check(artifact.path)
    assert not report.ok
    assert "install edge-serving[gpu]" in report.versions[0].report.reason


@pytest.mark.parametrize(("device", "index"), [("cpu", None), ("gpu", 0), ("gpu:0", 0), ("gpu:12", 12)])
def test_a_gpu_is_named_by_its_number(device: str, index: int | None) -> None:
    assert gpu_index(device) == index


@pytest.mark.parametrize("device", ["edgetpu", "usb:0", "gpu:", "gpu:x", "gpu:-1", "GPU", "gpu:٣", ""])
def test_other_devices_are_refused(device: str) -> None:
    with pytest.raises(LoadError, match="device: savedmodel models run on cpu, gpu or gpu:N, got"):
        gpu_index(device)


def test_it_is_never_run_on_the_event_loop(artifact: Artifact) -> None:
    with pytest.raises(LoadError, match=r"lane: .* want auto or thread, got 'inline'"):
        SavedModelBackend().load(artifact, ModelOptions(lane="inline"))


def test_a_version_is_loaded_by_a_worker_with_what_its_options_say(artifact: Artifact) -> None:
    backend = SavedModelBackend(program="tests.fakes.workers:prepare", restarts=Restarts(max_deaths=1))
    model = backend.load(artifact, ModelOptions(device="gpu:1", tags=("serve", "gpu"), xla=True, max_run_s=5.0))
    assert model.may_run_long
    assert model.run("serving_default", {"x": np.ones(2, np.float32)})["y"].tolist() == [2.0, 2.0]
    model.close()


def test_apart_it_is_in_another_process_that_gives_way_to_all_others(artifact: Artifact) -> None:
    backend = SavedModelBackend(program="tests.fakes.workers:prepare", restarts=Restarts(max_deaths=1))
    models = [backend.load(artifact, ModelOptions())]
    before = set(psutil.Process().children())
    models.append(backend.apart(artifact, ModelOptions()))
    try:
        (process,) = set(psutil.Process().children()) - before
        assert os.sched_getscheduler(process.pid) == os.SCHED_IDLE
        assert {os.sched_getscheduler(each.pid) for each in before} == {os.SCHED_OTHER}
    finally:
        for each in models:
            each.close()


@pytest.mark.parametrize(
    ("prefer", "gpu", "tensorflow", "chosen"),
    [
        ("auto", False, False, Platform.TFLITE),
        ("auto", True, False, Platform.TFLITE),
        ("auto", False, True, Platform.TFLITE),
        ("auto", True, True, Platform.SAVEDMODEL),
        ("tflite", True, True, Platform.TFLITE),
        ("savedmodel", False, False, Platform.SAVEDMODEL),
    ],
)
def test_of_two_builds_the_preferred_one_is_served(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch, prefer: str, gpu: bool, tensorflow: bool, chosen: Platform
) -> None:
    monkeypatch.setattr(catalog, "has_gpu", lambda: gpu)
    monkeypatch.setattr(catalog, "find_spec", lambda name: name if tensorflow else None)
    assert catalog.preferred(prefer)[0] is chosen
    assert catalog.platform_of(artifact.path, prefer) is Platform.SAVEDMODEL, "the only one there is"
    (artifact.path / "model.tflite").write_bytes(b"")
    assert catalog.platform_of(artifact.path, prefer) is chosen


def test_a_tflite_model_that_is_asked_onto_a_gpu_runs_on_the_cpu_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(tflite_models.scaling(2.0, (1, 2)))
    artifact = Artifact(ModelId("m", 1), Platform.TFLITE, path, "f")
    model = TfliteBackend().load(artifact, ModelOptions(device="gpu:0"))
    assert (model.device, model.notice) == ("cpu", "gpu:0: TFLite models run on no GPU here; serving it on the CPU")
    model.close()


# -- what a SavedModel says of itself, in stand-ins for TensorFlow's messages


class Info(SimpleNamespace):
    """A TensorInfo."""

    def WhichOneof(self, _: str) -> str | None:
        return str(self.encoding) if self.encoding else None


def info(dtype: int = 1, shape: tuple[int, ...] | None = (-1, 2), encoding: str = "name", name: str = "t:0") -> Info:
    dims = [SimpleNamespace(size=size) for size in shape or ()]
    return Info(dtype=dtype, encoding=encoding, name=name, tensor_shape=SimpleNamespace(dim=dims, unknown_rank=shape is None))  # fmt: skip


def definition(inputs: dict[str, Info], outputs: dict[str, Info]) -> Any:
    return SimpleNamespace(inputs=inputs, outputs=outputs)


def test_signatures_have_their_keys_for_names_and_what_is_internal_is_none() -> None:
    found, left_out = routes(
        {
            "serving_default": definition({"x-1": info(name="given:0")}, {"y": info(7, None, name="made:3")}),
            "__saved_model_init_op": definition({}, {"__saved_model_init_op": info()}),
            "constant": definition({}, {"y": info()}),
        }
    )
    assert (list(found), left_out) == (["serving_default"], [])
    route = found["serving_default"]
    assert route.inputs == {"x-1": "given:0"}
    assert route.outputs == {"y": "made:3"}
    assert route.signature.inputs["x-1"].shape == (-1, 2)
    assert (route.signature.outputs["y"].dtype, route.signature.outputs["y"].shape) == (DType.STRING, None)


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (info(8), "tensor z: type complex64 cannot be served"),
        (info(99), "tensor z: type number 99 cannot be served"),
        (info(encoding="coo_sparse"), "tensor z: coo_sparse cannot be served"),
        (info(encoding=""), "tensor z: no tensor at all cannot be served"),
    ],
)
def test_a_signature_that_no_protocol_can_carry_is_left_out_and_said_to_be(bad: Info, why: str) -> None:
    found, left_out = routes(
        {"a": definition({"x": info()}, {"y": info()}), "b": definition({"x": info()}, {"z": bad})}
    )
    assert list(found) == ["a"]
    assert left_out == [f"signature b is left out: {why}"]


@pytest.mark.parametrize(
    ("given", "made", "asked", "rows"),
    [
        ((-1, 2), (-1,), 0, MAX_BATCH_ROWS),
        ((-1, 2), (-1,), 10, 10),
        ((-1, 1024, 1024), (-1,), 0, BATCH_BYTES // (4 * 1024 * 1024 + 4)),
        ((8, 2), (8, 3), 0, 8),
        ((8, 2), (8, 3), 100, 8),
        ((8, 2), (1, 3), 0, 1),
        ((-1, 2), (3,), 0, 1),
        ((), (), 0, 1),
        (None, (-1,), 0, 1),
    ],
)
def test_a_batch_is_as_large_as_the_first_dimension_allows(
    given: tuple[int, ...] | None, made: tuple[int, ...], asked: int, rows: int
) -> None:
    found, _ = routes({"a": definition({"x": info(shape=given)}, {"y": info(shape=made)})})
    assert batch(default(found), asked) == rows
