"""What a worker makes of SavedModels of every kind; in this process, which has imported TensorFlow already."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from edge.backends.savedmodel.graph import SessionModel, load
from edge.backends.savedmodel.warmup import WARMUP
from edge.domain.errors import InvalidInput, LoadError
from edge.domain.tensors import Array, DType
from tests.gpu import saved

JOB: Mapping[str, Any] = {
    "gpu": None,
    "num_threads": 1,
    "inter_op_threads": 0,
    "gpu_memory_bytes": 0,
    "xla": False,
    "mixed_precision": "",
    "tags": ["serve"],
    "max_batch": 0,
}


def opened(path: Path, **options: Any) -> SessionModel:
    model = load({**JOB, **options, "path": str(path)})
    assert isinstance(model, SessionModel)
    return model


def f32(*values: Any) -> Array:
    return np.array(values, np.float32)


def texts(*values: bytes) -> Array:
    array = np.empty(len(values), object)
    array[:] = values
    return array


def test_every_signature_is_there_under_its_own_names(tmp_path: Path) -> None:
    model = opened(saved.several(tmp_path / "1"))
    assert list(model.signatures) == ["rank", "same", "serving_default", "upper"]
    default = model.signatures["serving_default"]
    assert list(default.inputs) == ["first", "second"]
    assert {name: spec.shape for name, spec in default.outputs.items()} == {"sum-1": (-1, 2), "x": (-1, 2)}
    assert model.signatures["rank"].inputs["x"].shape is None
    assert model.notice == "signature imaginary is left out: tensor z: type complex64 cannot be served"
    out = model.run("serving_default", {"first": f32([1, 2]), "second": f32([10, 20])})
    assert {name: array.tolist() for name, array in out.items()} == {"sum-1": [[11, 22]], "x": [[3, 6]]}
    assert model.run("same", {"x": f32(1, 2, 3)})["x"].tolist() == [1, 2, 3]
    ranked = model.run("rank", {"x": f32([1, 2])})
    assert (ranked["r"].shape, str(ranked["r"].dtype)) == ((), "int32")
    assert (ranked["r"].item(), ranked["total"].item()) == (2, 3.0)
    assert model.run("upper", {"s": texts(b"a\xc3\xa9", b"")})["u"].tolist() == [b"A\xc3\xa9", b""]
    assert not model.keeps_inputs


def test_what_keras_exports_computes_what_the_model_did(tmp_path: Path) -> None:
    model = opened(saved.keras(tmp_path / "1"))
    scores = model.run("serving_default", {"x": np.ones((3, 4), np.float32)})["output_0"]
    assert scores.shape == (3, 2)
    assert np.allclose(scores.sum(axis=1), 1.0)
    weights = tf.saved_model.load(str(tmp_path / "1")).signatures["serving_default"]
    want = weights(x=tf.ones((3, 4)))["output_0"].numpy()
    assert np.allclose(scores, want, atol=1e-6)


def test_a_graph_of_tensorflow_1_has_its_variables_and_takes_examples(tmp_path: Path) -> None:
    model = opened(saved.v1(tmp_path / "1"))
    assert model.run("serving_default", {"x": f32([1, 2], [3, 4])})["y"].tolist() == [[21.0], [43.0]]
    example = tf.train.Example()
    example.features.feature["x"].float_list.value[:] = [5.0, 6.0]
    out = model.run("classes", {"inputs": texts(example.SerializeToString())})
    assert out["scores"].tolist() == [[65.0]]
    assert model.signatures["classes"].inputs["inputs"].dtype is DType.STRING


def test_assets_are_found_wherever_the_model_lies(tmp_path: Path) -> None:
    path = saved.vocabulary(tmp_path / "1").rename(tmp_path / "elsewhere")
    model = opened(path)
    assert model.run("serving_default", {"w": texts(b"bird", b"cow")})["n"].tolist() == [2, -1]
    assert not model.keeps_inputs


def test_tags_choose_the_graph(tmp_path: Path) -> None:
    path = saved.v1(tmp_path / "1", tags=("train", "gpu"))
    assert opened(path, tags=["gpu", "train"]).signatures
    with pytest.raises(LoadError, match=r"MetaGraphDef associated with tags 'serve' could not be found|tags"):
        opened(path)


def test_an_input_that_goes_into_a_variable_is_not_looked_at_where_the_next_one_will_lie(tmp_path: Path) -> None:
    model = opened(saved.remembering(tmp_path / "1"))
    assert model.keeps_inputs
    for keeping in (saved.keras, saved.image, saved.picky):
        assert not opened(keeping(tmp_path / keeping.__name__)).keeps_inputs


def test_a_wrong_shape_and_a_refused_value_are_the_clients_fault_in_tensorflows_words(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="want a text"):
        opened(saved.picky(tmp_path / "1")).run("serving_default", {"s": texts(b"")})
    with pytest.raises(InvalidInput) as raised:
        opened(saved.several(tmp_path / "2")).run(
            "serving_default", {"first": f32([1, 2], [3, 4]), "second": f32([1, 2], [3, 4], [5, 6])}
        )
    assert "Incompatible shapes: [2,2] vs. [3,2]" in raised.value.message
    assert "\n" not in raised.value.message
    assert "stack trace" not in raised.value.message


@pytest.mark.parametrize(("shape", "asked", "most"), [([None, 2], 0, 65_536), ([None, 2], 7, 7), ([4, 2], 0, 4), ([4, 2], 9, 4)])  # fmt: skip
def test_the_batch_is_as_free_as_the_first_dimension(tmp_path: Path, shape: Any, asked: int, most: int) -> None:
    assert opened(saved.scaling(tmp_path / "1", shape=shape), max_batch=asked).max_batch == most


def test_large_rows_make_a_small_batch(tmp_path: Path) -> None:
    assert opened(saved.image(tmp_path / "1", side=2048)).max_batch == 2


@pytest.mark.parametrize(
    "options", [{"xla": True}, {"mixed_precision": "bfloat16"}, {"mixed_precision": "float16"}, {"inter_op_threads": 2}]
)
def test_options_change_how_it_computes_and_not_what(tmp_path: Path, options: dict[str, Any]) -> None:
    model = opened(saved.scaling(tmp_path / "1", 3.0), **options)
    assert model.run("serving_default", {"x": f32([1, 2])})["y"].tolist() == [[3.0, 6.0]]


def test_without_a_gpu_it_runs_on_the_cpu_and_says_so(tmp_path: Path) -> None:
    model = opened(saved.scaling(tmp_path / "1"), gpu=3)
    assert model.device == "cpu" or tf.config.list_physical_devices("GPU")
    if model.device == "cpu":
        assert model.notice.startswith("gpu:3: TensorFlow sees ")
        assert model.notice.endswith("here; serving it on the CPU")


@pytest.mark.parametrize(
    ("maker", "why"),
    [
        (saved.without_signatures, "it has no signature that can be served"),
        (saved.without_variables, "saved_model.pb: .*not a valid checkpoint"),
    ],
)
def test_what_cannot_be_served_does_not_load(tmp_path: Path, maker: Any, why: str) -> None:
    with pytest.raises(LoadError, match=why):
        opened(maker(tmp_path / "1"))


# -- warmup


def field(number: int, content: bytes) -> bytes:
    """A length-delimited field of a protocol buffer."""
    size, parts = len(content), bytearray([number << 3 | 2])
    while size > 0x7F:
        parts.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([*parts, size]) + content


def predict_log(signature: str = "serving_default", **inputs: Any) -> bytes:
    """A PredictionLog of TensorFlow Serving, as its own classes write it."""
    spec = field(1, b"m") + field(3, signature.encode())
    entries = b"".join(
        field(2, field(1, name.encode()) + field(2, tf.make_tensor_proto(value).SerializeToString()))
        for name, value in inputs.items()
    )
    return field(6, field(1, field(1, spec) + entries))


def examples_log(number: int, signature: str, *examples: bytes) -> bytes:
    listed = field(1, b"".join(field(1, each) for each in examples))
    return field(number, field(1, field(1, field(3, signature.encode())) + field(2, listed)))


def with_warmup(path: Path, *records: bytes) -> Path:
    (path / WARMUP).parent.mkdir()
    with tf.io.TFRecordWriter(str(path / WARMUP)) as file:
        for record in records:
            file.write(record)
    return path


def test_warmup_requests_are_answered_before_the_version_serves(tmp_path: Path) -> None:
    path = saved.remembering(tmp_path / "1")
    asked = np.full(32_000, 4.0, np.float32)
    model = opened(with_warmup(path, predict_log(x=asked)))
    assert model.run("kept", {"x": np.zeros(32_000, np.float32)})["y"][7] == 4.0


def test_warmup_requests_of_examples_are_played_too(tmp_path: Path) -> None:
    example = tf.train.Example()
    example.features.feature["x"].float_list.value[:] = [5.0, 6.0]
    serialized = example.SerializeToString()
    opened(with_warmup(saved.v1(tmp_path / "1"), examples_log(2, "classes", serialized, serialized)))
    with pytest.raises(LoadError, match=r"record 0: .*required but could not be found"):
        opened(with_warmup(saved.v1(tmp_path / "2"), examples_log(3, "classes", b"")))


@pytest.mark.parametrize(
    ("record", "why"),
    [
        (predict_log("nobody", x=[[1.0, 2.0]]), "record 0: signature 'nobody': no such signature; the model has serving_default"),
        (predict_log(z=[[1.0, 2.0]]), "record 0: want tensors x, got z"),
        (predict_log(x=[[1.0]]), r"record 0: x: want float32 \[\?,2\], got float32 \[1, 1\]"),
        (predict_log(x=[["a", "b"]]), "record 0: x: want float32"),
        (field(6, field(1, field(2, field(1, b"x") + field(2, b"\xff")))), "record 0: x: no tensor"),
        (b"\xff\xff", "record 0: no PredictionLog"),
        (b"", "record 0: want a predict, classify, regress or multi-inference log, got none"),
        (field(5, b""), "record 0: want .* got session_run_log"),
        (examples_log(2, "serving_default", b""), "record 0: signature serving_default takes no examples"),
    ],
    ids=range(9),
)  # fmt: skip
def test_a_warmup_request_that_is_wrong_fails_the_load_and_is_named(tmp_path: Path, record: bytes, why: str) -> None:
    with pytest.raises(LoadError, match=f"{WARMUP}: {why}"):
        opened(with_warmup(saved.scaling(tmp_path / "1"), record))


def test_a_warmup_file_whose_sums_are_wrong_is_not_believed(tmp_path: Path) -> None:
    path = with_warmup(saved.scaling(tmp_path / "1"), predict_log(x=[[1.0, 2.0]]))
    data = bytearray((path / WARMUP).read_bytes())
    data[20] ^= 1
    (path / WARMUP).write_bytes(data)
    with pytest.raises(LoadError, match="not a TFRecord that is whole"):
        opened(path)


def test_more_warmup_requests_than_are_played_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="record 1000: want at most 1000 records"):
        opened(with_warmup(saved.scaling(tmp_path / "1"), *[predict_log(x=[[1.0, 2.0]])] * 1_001))
