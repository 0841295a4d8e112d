"""Models compiled for an Edge TPU, with a stand-in for its library."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from edge.backends.edgetpu import Delegate, delegate_options, is_edgetpu
from edge.backends.tflite import TfliteBackend
from edge.domain.errors import InferenceFailed, LoadError
from edge.domain.models import Artifact, ModelId, ModelOptions, Platform
from edge.domain.ports import DeviceLost
from edge.domain.tensors import Array, DType
from tests import tflite_models as models
from tests.data import shared_data
from tests.tflite_models import Graph, Op, Sig, T
from tests.unit.backends.conftest import Put

OP = "edgetpu-custom-op"
TPU = ModelOptions(device="usb:0")


def uint8(*values: int) -> Array:
    return np.array([values], np.uint8)


def log(device: Path) -> list[str]:
    return (device / "log").read_text().splitlines()


@pytest.mark.parametrize(
    ("device", "options"),
    [
        ("edgetpu", {}),
        ("edgetpu:1", {"device": ":1"}),
        ("usb", {"device": "usb"}),
        ("usb:0", {"device": "usb:0"}),
        ("pci:2", {"device": "pci:2"}),
    ],
)
def test_devices_are_named_as_the_library_names_them(device: str, options: dict[str, str]) -> None:
    assert is_edgetpu(device)
    assert delegate_options(device) == options


@pytest.mark.parametrize("device", ["gpu:", "usb:", "usb:x", "edgetpu:1:2", "CPU", "", "usb:٣"])
def test_a_device_of_no_known_kind_fails_its_version(put: Put, device: str) -> None:
    with pytest.raises(LoadError, match="device: want cpu, edgetpu, edgetpu:N, usb:N or pci:N, got"):
        TfliteBackend().load(put(models.scaling(2.0)), ModelOptions(device=device))


def test_a_compiled_model_runs_on_its_device(put: Put, device: Path) -> None:
    model = TfliteBackend().load(put(models.custom(OP)), TPU)
    assert (model.device, model.notice) == ("usb:0", "")
    assert model.run("serving_default", {"x": uint8(1, 2, 3, 250)})["y"].tolist() == [[0, 1, 2, 3]]
    model.close()
    assert log(device) == ["open usb:0", "close"]


def test_a_published_compiled_model_runs_on_its_device(device: Path) -> None:
    path = shared_data("mobilenet_v1_0.25_128_quant_edgetpu.tflite")
    model = TfliteBackend().load(Artifact(ModelId("m", 1), Platform.TFLITE, path), TPU)
    x = np.zeros((1, 128, 128, 3), np.uint8)
    x[0, 0, 0] = 1, 2, 3
    answer = model.run("serving_default", {"input": x})["MobilenetV1/Predictions/Reshape_1"]
    assert answer[0, :3].tolist() == [6, 7, 8]
    model.close()


def test_a_device_that_is_gone_is_told_from_a_bad_input(put: Put, device: Path) -> None:
    graph = Graph(
        [
            models.constant("table", [1, 2, 3, 4], DType.UINT8),
            T("at", DType.INT32, (4,)),
            T("picked", DType.UINT8, (4,)),
            T("y", DType.UINT8, (4,)),
        ],
        [1],
        [3],
        [Op(models.GATHER, (0, 1), (2,)), Op(models.CUSTOM, (2,), (3,), OP)],
    )
    model = TfliteBackend().load(put(models.make([graph], [Sig({"at": 1}, {"y": 3})])), TPU)
    with pytest.raises(InferenceFailed):
        model.run("serving_default", {"at": np.array([99, 0, 0, 0], np.int32)})
    (device / "fail").touch()
    with pytest.raises(DeviceLost, match="usb:0: fake device: transfer failed"):
        model.run("serving_default", {"at": np.array([0, 0, 0, 0], np.int32)})
    (device / "fail").unlink()
    assert model.run("serving_default", {"at": np.array([0, 0, 0, 0], np.int32)})["y"].tolist() == [4, 5, 6, 7]
    model.close()


def test_a_run_that_hangs_on_the_device_leaves_the_other_threads_alone(put: Put, device: Path) -> None:
    model = TfliteBackend().load(put(models.custom(OP)), TPU)
    (device / "hang").touch()
    thread = threading.Thread(target=model.run, args=("serving_default", {"x": uint8(0, 0, 0, 0)}))
    thread.start()
    thread.join(0.2)
    assert thread.is_alive()
    (device / "hang").unlink()
    thread.join(10)
    assert not thread.is_alive()
    model.close()


def test_without_the_library_the_error_names_it_and_the_device(put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_EDGETPU_LIBRARY", "libnowhere.so.1")
    with pytest.raises(
        LoadError, match=r"usb:0: the Edge TPU library libnowhere\.so\.1 cannot be loaded: .*no model_cpu\.tflite"
    ):
        TfliteBackend().load(put(models.custom(OP)), TPU)


def test_a_library_without_the_entry_points_is_no_delegate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_EDGETPU_LIBRARY", "libc.so.6")
    with pytest.raises(LoadError, match=r"libc\.so\.6 cannot be loaded: .*tflite_plugin_create_delegate"):
        Delegate("edgetpu")


def test_a_device_that_refuses_says_why(put: Put, device: Path) -> None:
    (device / "refuse").touch()
    with pytest.raises(LoadError, match=r"usb:0: .*libfake\.so cannot open it: fake device: somebody else has it"):
        TfliteBackend().load(put(models.custom(OP)), TPU)


def test_the_cpu_twin_takes_over_and_says_so(put: Put, device: Path) -> None:
    (device / "refuse").touch()
    put(models.passing(DType.UINT8, (1, 4)), "other.tflite")
    twin = models.make([Graph([T("x", DType.UINT8, (1, 4))], [0], [0])], [Sig({"x": 0}, {"y": 0})])
    put(twin, "model_cpu.tflite")
    model = TfliteBackend().load(put(models.custom(OP)), TPU)
    assert model.device == "cpu"
    assert "somebody else has it" in model.notice
    assert model.notice.endswith("serving model_cpu.tflite on the CPU")
    assert model.run("serving_default", {"x": uint8(1, 2, 3, 4)})["y"].tolist() == [[1, 2, 3, 4]]


def test_asking_for_the_cpu_goes_to_the_twin_without_touching_the_device(put: Put, device: Path) -> None:
    twin = models.make([Graph([T("x", DType.UINT8, (1, 4))], [0], [0])], [Sig({"x": 0}, {"y": 0})])
    put(twin, "elsewhere.tflite")
    options = ModelOptions(device="cpu", cpu_twin=Path("elsewhere.tflite"))
    model = TfliteBackend().load(put(models.custom(OP)), options)
    assert model.device == "cpu"
    assert model.notice.endswith("serving elsewhere.tflite on the CPU")
    assert not (device / "log").exists()


def test_a_twin_with_another_interface_is_refused(put: Put) -> None:
    put(models.scaling(2.0), "model_cpu.tflite")
    with pytest.raises(LoadError, match=r"the inputs and outputs of model_cpu\.tflite are not those of model\.tflite"):
        TfliteBackend().load(put(models.custom(OP)), ModelOptions())


def test_a_twin_that_needs_the_device_itself_is_refused(put: Put) -> None:
    put(models.custom(OP), "model_cpu.tflite")
    with pytest.raises(LoadError, match=r"model_cpu\.tflite is compiled for the Edge TPU as well"):
        TfliteBackend().load(put(models.custom(OP)), ModelOptions())


def test_a_compiled_model_on_the_cpu_without_a_twin_is_refused(put: Put) -> None:
    with pytest.raises(
        LoadError, match="has edgetpu-custom-op, compiled for the Edge TPU, and the device is cpu; and there is no"
    ):
        TfliteBackend().load(put(models.custom(OP)), ModelOptions())


def test_a_plain_model_on_a_device_runs_on_the_cpu_and_says_so(put: Put, device: Path) -> None:
    model = TfliteBackend().load(put(models.scaling(2.0)), TPU)
    assert model.device == "cpu"
    assert model.notice == "usb:0: model.tflite was not compiled for the Edge TPU; serving it on the CPU"
    assert not (device / "log").exists()


def test_a_device_is_given_back_when_the_graph_cannot_be_loaded(put: Put, device: Path) -> None:
    graph = Graph(
        [T("x", DType.UINT8, (4,)), T("between", DType.UINT8, (4,)), T("y", DType.UINT8, (4,))],
        [0],
        [2],
        [Op(models.CUSTOM, (0,), (1,), OP), Op(models.CUSTOM, (1,), (2,), "unknown-op")],
    )
    with pytest.raises(LoadError, match="operator unknown-op is not one that"):
        TfliteBackend().load(put(models.make([graph])), TPU)
    assert log(device) == ["open usb:0", "close"]


def test_two_instances_on_one_device_are_two_delegates(put: Put, device: Path) -> None:
    artifact = put(models.custom(OP))
    first, second = (TfliteBackend().load(artifact, TPU) for _ in range(2))
    first.close()
    assert second.run("serving_default", {"x": uint8(1, 0, 0, 0)})["y"].tolist() == [[1, 2, 3, 4]]
    second.close()
    assert log(device) == ["open usb:0", "open usb:0", "close", "close"]
