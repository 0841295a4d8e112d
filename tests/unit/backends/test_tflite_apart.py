"""A TFLite model in a process of its own."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge.backends.tflite import TfliteBackend
from edge.domain.errors import LoadError
from edge.domain.models import ModelOptions
from edge.domain.ports import Apart
from edge.domain.tensors import DType
from tests.tflite_models import Graph, Sig, T, custom, make, scaling
from tests.unit.backends.conftest import Put

TPU = ModelOptions(device="edgetpu")


def test_its_options_and_a_relative_path_come_with_it(put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact = put(scaling(2.0))
    monkeypatch.chdir(artifact.path)
    model = TfliteBackend().apart(replace(artifact, path=Path("model.tflite")), ModelOptions(max_batch=3))
    try:
        assert isinstance(model, Apart)
        assert model.max_batch == 3
        assert model.run("serving_default", {"x": np.ones(2, np.float32)})["y"].tolist() == [2.0, 2.0]
    finally:
        model.close()


def test_it_ends_with_the_model(put: Put) -> None:
    model = TfliteBackend().apart(put(scaling(2.0)), ModelOptions())
    assert _children()
    model.close()
    assert not _children()


def _children() -> set[int]:
    """Processes that this one has."""
    tasks = Path(f"/proc/{os.getpid()}/task").iterdir()
    return {int(pid) for task in tasks for pid in (task / "children").read_text().split()}


def test_of_a_model_for_an_accelerator_it_is_the_twin_and_the_device_is_not_touched(put: Put) -> None:
    artifact = put(custom("edgetpu-custom-op"))
    with pytest.raises(LoadError, match=r"no model_cpu\.tflite"):
        TfliteBackend().apart(artifact, TPU)
    put(make([Graph([T("x", DType.UINT8, (1, 4))], [0], [0])], [Sig({"x": 0}, {"y": 0})]), "model_cpu.tflite")
    model = TfliteBackend().apart(artifact, TPU)
    try:
        assert model.device == "cpu"
        assert model.run("serving_default", {"x": np.ones((1, 4), np.uint8)})["y"].tolist() == [[1, 1, 1, 1]]
    finally:
        model.close()
