"""TFLite models compute what their graphs say, on whichever runtime is installed."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.backends.flatbuffer import parse
from edge.backends.tflite import TfliteBackend
from edge.backends.tflite_signatures import calls
from edge.domain.errors import InferenceFailed, InvalidInput, LoadError
from edge.domain.models import Artifact, ModelId, ModelOptions, Platform
from edge.domain.tensors import Array, DType, Quantization, TensorSpec
from tests import tflite_models as models
from tests.data import shared_data
from tests.tflite_models import Graph, Sig, T
from tests.unit.backends.conftest import Put

CPU = ModelOptions()


def floats(*values: float) -> Array:
    return np.array(values, np.float32)


def run(model: Any, **inputs: Array) -> Any:
    return model.run("serving_default", inputs)


def test_a_model_computes_with_its_own_names(put: Put) -> None:
    model = TfliteBackend().load(put(models.scaling(2.5, (1, 3))), CPU)
    answer = run(model, x=floats(1, 2, 3).reshape(1, 3))
    assert answer["y"].tolist() == [[2.5, 5.0, 7.5]]
    assert (model.device, model.notice, model.max_batch, model.may_run_long) == ("cpu", "", 1, False)


def test_a_single_file_is_a_version_too(tmp_path: Path) -> None:
    path = tmp_path / "anything.tflite"
    path.write_bytes(models.scaling(2.0))
    artifact = Artifact(ModelId("m", 1), Platform.TFLITE, path)
    assert run(TfliteBackend().load(artifact, CPU), x=floats(4))["y"].tolist() == [8]


def test_outputs_belong_to_the_caller(put: Put) -> None:
    model = TfliteBackend().load(put(models.scaling(2.0, (1,))), CPU)
    first = run(model, x=floats(1))["y"]
    run(model, x=floats(5))
    first += 1
    model.close()
    assert first.tolist() == [3]


@pytest.mark.parametrize(
    "dtype", [dtype for dtype in models.TYPES if dtype not in (DType.UINT16,)], ids=lambda dtype: dtype.value
)
def test_every_type_passes_through_a_model_unchanged(put: Put, dtype: DType) -> None:
    model = TfliteBackend().load(put(models.passing(dtype, (2, -1))), CPU)
    assert model.signatures["serving_default"].inputs["x"] == TensorSpec("x", dtype, (2, -1))
    if dtype is DType.STRING:
        x = np.array([[b"a\0b\0", b"", b"\xff"], [b"x" * 1000, "é".encode(), b"y"]], object)
    else:
        x = np.array([[0, 1, 2], [3, 100, 1]]).astype(dtype.numpy)
    y = run(model, x=x)["y"]
    assert y.dtype == dtype.numpy
    assert y.tolist() == x.ravel().tolist()


def test_arrays_that_are_not_contiguous_are_read_as_they_are_indexed(put: Put) -> None:
    model = TfliteBackend().load(put(models.scaling(1.0, (3, 2))), CPU)
    x = np.arange(6, dtype=np.float32).reshape(2, 3).T
    assert run(model, x=x)["y"].tolist() == x.tolist()


def test_a_free_dimension_takes_any_size_run_after_run(put: Put) -> None:
    model = TfliteBackend().load(put(models.scaling(2.0, (-1, 2))), CPU)
    for rows in (1, 7, 7, 2, 0, 100, 1):
        assert np.array_equal(run(model, x=np.full((rows, 2), 3, np.float32))["y"], np.full((rows, 2), 6, np.float32))


def test_an_unchanged_shape_is_not_set_up_again(put: Put) -> None:
    model = TfliteBackend().load(put(models.scaling(2.0)), CPU)
    run(model, x=floats(1, 2))
    real, asked = model._interpreter, []

    class Watching:
        def __getattr__(self, name: str) -> Any:
            asked.append(name)
            return getattr(real, name)

    model._interpreter = Watching()
    run(model, x=floats(3, 4))
    assert asked == ["set_tensor", "invoke", "get_tensor"]


def test_shapes_that_fit_the_signature_and_not_the_graph_fail_the_run_only(put: Put) -> None:
    model = TfliteBackend().load(put(models.adding()), CPU)
    with pytest.raises(InferenceFailed, match=r"cannot take a \[2\], b \[3\]"):
        run(model, a=floats(1, 2), b=floats(1, 2, 3))
    assert run(model, a=floats(1, 2), b=floats(10, 20))["sum"].tolist() == [11, 22]
    assert run(model, a=floats(1), b=floats(10))["sum"].tolist() == [11]


def test_a_run_that_fails_inside_leaves_the_model_usable(put: Put) -> None:
    model = TfliteBackend().load(put(models.picking()), CPU)
    with pytest.raises(InferenceFailed, match=r"GATHER|index"):
        run(model, at=np.array([7], np.int32))
    assert run(model, at=np.array([2, 0], np.int32))["picked"].tolist() == [12, 10]


def test_an_error_says_what_went_wrong_now_and_not_what_did_before(put: Put) -> None:
    model = TfliteBackend().load(put(models.picking()), CPU)
    said = set()
    for _ in range(300):
        with pytest.raises(InferenceFailed) as caught:
            run(model, at=np.array([7], np.int32))
        said.add(caught.value.message)
    assert len(said) == 1
    assert run(model, at=np.array([0], np.int32))["picked"].tolist() == [10]


def test_a_failure_does_not_keep_the_interpreter_after_the_model_is_closed(put: Put) -> None:
    model = TfliteBackend().load(put(models.picking()), CPU)
    with pytest.raises(InferenceFailed) as caught:
        run(model, at=np.array([7], np.int32))
    gone = weakref.ref(model._interpreter)
    model.close()
    gc.collect()
    assert gone() is None
    assert caught.value.message


def test_who_still_holds_a_closed_model_does_not_hold_its_file(put: Put) -> None:
    model = TfliteBackend().load(put(models.scaling(2.0)), CPU)
    more = model.another()
    content = weakref.ref(model._make)
    model.close()
    assert run(more, x=floats(1))["y"].tolist() == [2]
    more.close()
    assert content() is None


def test_another_instance_is_of_the_same_bytes_whatever_became_of_the_file(put: Put) -> None:
    artifact = put(models.scaling(2.0))
    model = TfliteBackend().load(artifact, CPU)
    artifact.path.write_bytes(b"") if artifact.path.is_file() else artifact.file("model.tflite").write_bytes(b"")
    more = model.another()
    assert run(more, x=floats(1))["y"].tolist() == run(model, x=floats(1))["y"].tolist() == [2]


def test_an_interpreter_that_cannot_go_back_is_made_anew(put: Put) -> None:
    model = TfliteBackend().load(put(models.scaling(2.0)), CPU)

    class Broken:
        def resize_tensor_input(self, index: int, shape: tuple[int, ...]) -> None:
            raise MemoryError

    model._interpreter = Broken()
    with pytest.raises(InferenceFailed, match=r"cannot take x \[3\]: MemoryError"):
        run(model, x=floats(1, 2, 3))
    assert run(model, x=floats(1, 2, 3))["y"].tolist() == [2, 4, 6]


def test_memory_that_shapes_ask_for_is_bounded_before_it_is_taken(put: Put) -> None:
    model = TfliteBackend(max_tensor_bytes=4_000).load(put(models.scaling(2.0)), CPU)
    assert run(model, x=np.ones(1_000, np.float32))["y"].sum() == 2_000
    with pytest.raises(InvalidInput, match=r"x: want at most 4000 bytes .*, got \[1001\], which needs about 4004"):
        run(model, x=np.ones(1_001, np.float32))
    assert run(model, x=floats(1))["y"].tolist() == [2]


def test_a_graph_that_grows_faster_than_its_input_is_bounded_by_its_largest_tensor(put: Put) -> None:
    wide = Graph(
        [T("x", shape=(-1, 1)), models.constant("row", [1.0] * 100), T("y", shape=(-1, 100))],
        [0],
        [2],
        [models.times(0, 2, 1)],
    )
    content = models.make([wide], [Sig({"x": 0}, {"y": 2})])
    model = TfliteBackend(max_tensor_bytes=4_000).load(put(content), CPU)
    assert run(model, x=np.ones((10, 1), np.float32))["y"].shape == (10, 100)
    with pytest.raises(InvalidInput, match="which needs about 4400"):
        run(model, x=np.ones((11, 1), np.float32))


def test_each_signature_runs_its_own_subgraph(put: Put) -> None:
    model = TfliteBackend().load(put(models.two_ways()), CPU)
    assert set(model.signatures) == {"double", "triple"}
    for rows in (1, 3, 3):
        x = np.ones(rows, np.float32)
        assert model.run("double", {"x": x})["y"].tolist() == [2] * rows
        assert model.run("triple", {"x": x})["y"].tolist() == [3] * rows
    model.close()


def test_names_of_tensors_serve_where_there_is_no_signature(put: Put) -> None:
    tensors = [T("x:0"), T("x:0"), T(""), models.constant("two", [2]), T("y:0"), T("y"), T("StatefulPartitionedCall:0")]
    ops = [models.times(0, 4, 3), models.times(1, 5, 3), models.times(2, 6, 3)]
    model = TfliteBackend().load(put(models.make([Graph(tensors, [0, 1, 2], [4, 5, 6], ops)])), CPU)
    signature = model.signatures["serving_default"]
    assert list(signature.inputs) == ["x", "x_1", "input_2"]
    assert list(signature.outputs) == ["y", "y_1", "StatefulPartitionedCall"]
    answer = run(model, x=floats(1), x_1=floats(2), input_2=floats(3))
    assert [array.tolist() for array in answer.values()] == [[2], [4], [6]]


@pytest.mark.parametrize(
    ("scales", "zero_points", "want"),
    [
        ([0.5], [3], Quantization(0.5, 3)),
        ([0.5], [], Quantization(0.5, 0)),
        ([0.0], [0], None),
        ([float("nan")], [0], None),
        ([0.5, 0.25], [0, 0], None),
        ([], [], None),
    ],
)
def test_only_quantization_of_a_whole_tensor_is_told(scales: list[float], zero_points: list[int], want: Any) -> None:
    graph = Graph([T("x", DType.UINT8, (2,), scales=scales, zero_points=zero_points)], [0], [0])
    call = calls(parse(models.make([graph])))["serving_default"]
    assert call.signature.inputs["x"].quantization == want


def test_a_type_that_no_protocol_can_carry_is_refused_by_its_name(put: Put) -> None:
    content = models.make([Graph([T("x", models.COMPLEX64)], [0], [0])])
    with pytest.raises(LoadError, match="tensor x: type complex64 cannot be served"):
        TfliteBackend().load(put(content), CPU)


def test_batches_are_bounded_by_what_the_graph_makes_of_them(put: Put) -> None:
    backend = TfliteBackend()
    assert backend.load(put(models.scaling(2.0, (-1, 4))), CPU).max_batch == 1_024
    assert backend.load(put(models.scaling(2.0, (-1, 1_000_000))), CPU).max_batch == 16
    assert backend.load(put(models.scaling(2.0, (-1, 4))), ModelOptions(max_batch=8)).max_batch == 8
    assert backend.load(put(models.scaling(2.0, (1, 4))), ModelOptions(max_batch=8)).max_batch == 1
    assert backend.load(put(models.scaling(2.0, (8, 4))), CPU).max_batch == 1


def test_loops_are_told_as_runs_that_may_be_long(put: Put) -> None:
    model = TfliteBackend().load(put(models.looping(100)), CPU)
    assert model.may_run_long
    assert run(model, x=floats(0))["y"].tolist() == [100]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty file"),
        (b"junk" * 100, "want a TFLite model"),
        (models.scaling(2.0)[:200], "truncated or corrupt"),
        (models.custom("fake-op"), "operator fake-op is not one that"),
        (models.custom("FlexSize"), "convert it without SELECT_TF_OPS"),
        (
            models.make([Graph([T("x"), T("y")], [0], [1], [models.Op(9_999, (0,), (1,))])]),
            "cannot load it|is not one that",
        ),
    ],
)
def test_a_file_that_cannot_be_served_fails_its_version_in_words(put: Put, content: bytes, words: str) -> None:
    with pytest.raises(LoadError, match=words):
        TfliteBackend().load(put(content), CPU)


def test_a_directory_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"model\.tflite: cannot be read"):
        TfliteBackend().load(Artifact(ModelId("m", 1), Platform.TFLITE, tmp_path), CPU)


def test_closing_twice_is_closing_once(put: Put) -> None:
    model = TfliteBackend().load(put(models.scaling(2.0)), CPU)
    model.close()
    model.close()
    with pytest.raises(InferenceFailed, match="was unloaded"):
        run(model, x=floats(1))


@pytest.mark.parametrize(("photograph", "label"), [("cat.bmp", 286), ("bird.bmp", 20), ("grace_hopper.bmp", 653)])
def test_a_real_classifier_sees_what_is_in_a_photograph(photograph: str, label: int) -> None:
    image = pytest.importorskip("PIL.Image")
    path = shared_data("mobilenet_v2_1.0_224_quant.tflite")
    with image.open(shared_data(photograph)) as opened:
        pixels = np.asarray(opened.convert("RGB").resize((224, 224), image.Resampling.BICUBIC))
    model = TfliteBackend().load(Artifact(ModelId("m", 1), Platform.TFLITE, path), CPU)
    scores = run(model, input=pixels[None])["MobilenetV2/Predictions/Softmax"]
    assert int(scores.argmax()) == label


def test_the_cost_of_a_model_follows_from_its_file() -> None:
    backend = TfliteBackend()
    path = shared_data("mobilenet_v2_1.0_224_quant.tflite")
    cost = backend.memory_bytes(Artifact(ModelId("m", 1), Platform.TFLITE, path))
    assert 8e6 < cost < 14e6, "11 MB were measured"


def test_a_model_that_needs_an_unknown_operator_is_refused() -> None:
    path = shared_data("model_invoking_error.tflite")
    with pytest.raises(LoadError, match="operator fake-op-double is not one that"):
        TfliteBackend().load(Artifact(ModelId("m", 1), Platform.TFLITE, path), CPU)
