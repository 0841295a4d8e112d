"""A version passes when it computes its golden outputs, fast enough; a failure names the tensor, the run and how much."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.core.golden import Golden, load_golden
from edge.core.selftest import MAX_PAUSE_S, MIN_PAUSE_S, SelfTestReport, breather, selftest, zeros
from edge.domain.errors import InferenceFailed, InvalidInput
from edge.domain.models import Artifact, ModelId, ModelOptions, Platform
from edge.domain.ports import DeviceLost
from edge.domain.tensors import DType, Signature, Tensors, TensorSpec
from tests.fakes.tflite import FakeBackend, FakeModel, scaling_signature

X = np.array([[1, 2], [3, 4], [5, 6]], np.float32)


def loaded(backend: FakeBackend | None = None, version: int = 2) -> FakeModel:
    return (backend or FakeBackend()).load(Artifact(ModelId("m", version), Platform.TFLITE, Path("m")), ModelOptions())


def write(path: Path, **arrays: Any) -> Path:
    """`input_x` is the array `input:x`; a tolerance keeps its name."""
    file = path / "golden.npz"
    np.savez(
        file, **{name.replace("_", ":", 1) if name[-2:-1] == "_" else name: array for name, array in arrays.items()}
    )
    return file


def golden(path: Path, **arrays: Any) -> Golden:
    return load_golden(write(path, **arrays))


def test_right_answers_pass_and_every_run_is_counted(tmp_path: Path) -> None:
    report = selftest(loaded(), golden(tmp_path, input_x=X, output_y=X * 2))
    assert report.ok, report.reason
    assert report.runs == 3
    assert report.run_s > 0
    assert report.first_run_s > 0


def test_a_wrong_answer_names_the_tensor_the_run_and_how_many_are_off(tmp_path: Path) -> None:
    wanted = X * 2
    wanted[1, 1] += 1
    report = selftest(loaded(), golden(tmp_path, input_x=X, output_y=wanted, atol=0.5))
    assert not report.ok
    assert report.reason == (
        "output y: 1 of 6 elements are not within 0.5 + 0·|want| (want 1 to match); first in run 1 at [1]: want 9.0, got 8.0"
    )


def test_a_share_of_the_elements_may_be_off(tmp_path: Path) -> None:
    wanted = X * 2
    wanted[1, 1] += 1
    assert selftest(loaded(), golden(tmp_path, input_x=X, output_y=wanted, min_match=0.8)).ok
    assert not selftest(loaded(), golden(tmp_path, input_x=X, output_y=wanted, min_match=0.9)).ok


def test_tolerances_are_those_of_isclose(tmp_path: Path) -> None:
    assert selftest(loaded(), golden(tmp_path, input_x=X, output_y=X * 2.02, rtol=0.02)).ok
    assert not selftest(loaded(), golden(tmp_path, input_x=X, output_y=X * 2.02, rtol=0.001)).ok


def test_small_integers_are_compared_without_wrapping_around(tmp_path: Path) -> None:
    x, y = TensorSpec("x", DType.UINT8, (-1,)), TensorSpec("y", DType.UINT8, (-1,))
    backend = FakeBackend(signature=Signature("s", {"x": x}, {"y": y}), run=lambda *_: {"y": np.array([0], np.uint8)})
    arrays = {"input_x": np.zeros((1, 1), np.uint8), "output_y": np.array([[255]], np.uint8)}
    assert not selftest(loaded(backend), golden(tmp_path, **arrays, atol=2)).ok
    assert selftest(loaded(backend), golden(tmp_path, **arrays, atol=255)).ok


def test_strings_must_be_equal(tmp_path: Path) -> None:
    x, y = TensorSpec("x", DType.STRING, (-1,)), TensorSpec("y", DType.STRING, (-1,))
    backend = FakeBackend(
        signature=Signature("s", {"x": x}, {"y": y}), run=lambda _id, _name, inputs: {"y": inputs["x"]}
    )
    asked = np.array([[b"a", b"bc"]])
    assert selftest(loaded(backend), golden(tmp_path, input_x=asked, output_y=asked)).ok
    report = selftest(loaded(backend), golden(tmp_path, input_x=asked, output_y=np.array([["a", "x"]])))
    assert "want b'x', got b'bc'" in report.reason


def test_a_slow_version_fails(tmp_path: Path) -> None:
    readings = iter(range(1_000_000))
    report = selftest(
        loaded(), golden(tmp_path, input_x=X, output_y=X * 2, max_ms=500), clock=lambda: float(next(readings))
    )
    assert report.reason == "a run takes 1e+03 ms, want at most 500 ms"
    assert report.run_s == 1.0


def test_values_that_are_not_finite_are_named_whether_wanted_or_not(tmp_path: Path) -> None:
    backend = FakeBackend(run=lambda *_: {"y": np.array([np.nan, 1], np.float32)})
    report = selftest(loaded(backend), golden(tmp_path, input_x=X, output_y=np.array([[np.nan, 1]] * 3, np.float32)))
    assert report.ok
    assert report.non_finite == ("y",)
    assert not selftest(loaded(backend), golden(tmp_path, input_x=X, output_y=X)).ok


def test_without_golden_vectors_every_signature_must_survive_zeros() -> None:
    seen: list[tuple[str, Any]] = []

    def run(_id: ModelId, name: str, inputs: Tensors) -> Tensors:
        seen.append((name, inputs["x"].tolist()))
        return {"y": inputs["x"]}

    signatures = {name: scaling_signature(name) for name in ("a", "b")}
    report = selftest(loaded(FakeBackend(run=run, signatures=signatures)))
    assert report.ok
    assert report.runs == 0
    assert ("a", [0.0]) in seen
    assert ("b", [0.0]) in seen


@pytest.mark.parametrize(
    ("spec", "passes"),
    [
        (TensorSpec("x", DType.STRING, (-1,)), True),
        (TensorSpec("x", DType.FLOAT32, (-1, -1, 3)), True),
        (TensorSpec("x", DType.FLOAT32, None), True),
        (TensorSpec("x", DType.FLOAT32, (-1, 3)), False),
    ],
)
def test_zeros_may_be_refused_where_nobody_knows_what_an_input_should_be(spec: TensorSpec, passes: bool) -> None:
    signature = Signature("serving_default", {"x": spec}, {"y": spec})
    backend = FakeBackend(signature=signature, errors={1: InvalidInput("want a picture")})
    assert selftest(loaded(backend, 1)).ok is passes
    backend.errors = {1: InferenceFailed("it crashed")}
    assert not selftest(loaded(backend, 1)).ok


def test_zeros_have_the_signatures_types_and_shapes() -> None:
    inputs = {
        "s": TensorSpec("s", DType.STRING, (2,)),
        "n": TensorSpec("n", DType.INT8, (-1, 3)),
        "z": TensorSpec("z", DType.BOOL, ()),
    }
    made = zeros(Signature("s", inputs, {}))
    assert made["s"].tolist() == [b"", b""]
    assert (made["n"].dtype.name, made["n"].shape) == ("int8", (1, 3))
    assert made["z"].tolist() is False


@pytest.mark.parametrize("error", [InferenceFailed("no"), DeviceLost("usb:0")])
def test_a_run_that_fails_is_the_reason(error: Exception) -> None:
    assert selftest(loaded(FakeBackend(errors={2: error}))) == SelfTestReport(
        False, f"signature serving_default fails: {error}"
    )


def test_a_long_run_is_timed_once_more_and_no_oftener(tmp_path: Path) -> None:
    backend, readings = FakeBackend(), iter(range(1_000_000))
    selftest(loaded(backend), golden(tmp_path, input_x=X[:1], output_y=X[:1] * 2), clock=lambda: float(next(readings)))
    assert len(backend.runs) == 2


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"input_a": X, "output_y": X}, "golden inputs: want x; missing x"),
        ({"input_x": X, "input_b": X, "output_y": X}, "golden input b: no such input; the model has x"),
        ({"input_x": X.astype(np.int64), "output_y": X}, r"golden input x: want float32 \[\?\], got int64 \[2\]"),
        ({"input_x": X[..., None], "output_y": X}, r"golden input x: want float32 \[\?\], got float32 \[2,1\]"),
        ({"input_x": X, "output_z": X}, "golden output z: no such output; the model has y"),
        ({"input_x": X, "output_y": X[:, :1]}, r"output y, run 0: want \[1\], got \[2\]"),
    ],
)
def test_vectors_that_are_not_this_models_fail_in_words(tmp_path: Path, arrays: dict[str, Any], words: str) -> None:
    report = selftest(loaded(), golden(tmp_path, **arrays))
    assert not report.ok
    assert re.search(words, report.reason), report.reason


def test_a_pause_is_as_long_as_the_work_and_many_short_ones_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("edge.core.selftest.time.sleep", slept.append)
    breathe = breather()
    for _ in range(100_000):
        breathe(10e-6)
    assert sum(slept) == pytest.approx(1.0, rel=0.01)
    assert len(slept) <= 500
    slept.clear()
    breathe(0.05)
    breathe(3.0)
    assert slept == [pytest.approx(0.05, abs=MIN_PAUSE_S), MAX_PAUSE_S]
