"""TensorFlow Serving's gRPC services, over real sockets: what its clients ask, its codes and its texts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest

from edge.wire import tensor_proto
from edge.wire.proto.messages import message
from tests import tflite_models
from tests.functional.grpc_client import (
    ROWS,
    TFS,
    call,
    failure,
    outputs,
    predict_request,
    serving_grpc,
    tensor,
)
from tests.functional.server import Running
from tests.functional.zoo import zoo

SET = np.array([b"a", b"\xff\x00", b""], object)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, int]]:
    path = tmp_path_factory.mktemp("grpc")
    models = zoo(path / "models")
    (models / "half" / "3").mkdir()
    (models / "half" / "3" / "model.tflite").write_bytes(tflite_models.scaling(0.25))
    config = path / "edge.toml"
    config.write_text(
        f'[repository]\npath = "{models}"\n[models.half]\npolicy = "all"\nlabels = {{ stable = 1, canary = 3 }}\n'
    )
    with serving_grpc(path, "--config", config) as made:
        yield made


@pytest.fixture(scope="module")
def channel(both: tuple[Running, int]) -> Iterator[Any]:
    with grpc.insecure_channel(f"127.0.0.1:{both[1]}") as made:
        yield made


@pytest.mark.parametrize(
    ("model", "name", "value"),
    [
        ("words", "x", SET),
        ("ints", "x", np.array([1, -(2**31), 2**31 - 1], np.int32)),
        ("flags", "x", np.array([True, False], bool)),
    ],
)
def test_tensors_of_every_kind_come_back_as_they_went(channel: Any, model: str, name: str, value: Any) -> None:
    (got,) = outputs(call(channel, "Predict", predict_request(model, **{name: value}))).values()
    assert got.dtype == value.dtype
    assert np.array_equal(got, value)


def test_values_and_tensor_content_ask_the_same_and_answers_have_the_field_of_their_type(channel: Any) -> None:
    as_values = tensor_proto.write(ROWS)
    as_content = tensor(1, (4,), tensor_content=ROWS.tobytes())
    assert b"tensor_content" not in as_values
    for content in (as_values, as_content):
        response = call(channel, "Predict", predict_request("half", x=content))
        given = message("tensorflow.TensorProto").FromString(response.outputs["y"])
        assert list(given.float_val) == [0.25, 0.625, -0.0, np.inf]
        assert not given.tensor_content
        assert (response.model_spec.name, response.model_spec.version.value) == ("half", 3)
        assert response.model_spec.signature_name == "serving_default"


def test_a_quantized_model_is_asked_in_its_own_integers(channel: Any) -> None:
    held = np.load("edge/data/digits/held_back.npz")
    pixels = np.round(held["images"][:20].reshape(20, 8, 8, 1) / 16 * 255 - 128).astype(np.int8)
    for request in (predict_request("digits", image=pixels), predict_request("digits", image=tensor(11, pixels.shape, tensor_content=pixels.tobytes()))):  # fmt: skip
        scores = outputs(call(channel, "Predict", request))["scores"]
        assert scores.dtype == np.int8
        assert (scores.argmax(-1) == held["labels"][:20]).mean() > 0.7


def test_a_version_and_a_label_ask_those(channel: Any) -> None:
    request = predict_request("half", x=np.array([4.0], np.float32))
    request.model_spec.version.value = 1
    assert outputs(call(channel, "Predict", request))["y"].tolist() == [2.0]
    request.model_spec.version_label = "canary"
    answer = call(channel, "Predict", request)
    assert outputs(answer)["y"].tolist() == [1.0]
    assert answer.model_spec.version.value == 3


def test_only_the_outputs_that_are_asked_for_come(channel: Any) -> None:
    request = predict_request("half", x=ROWS)
    request.output_filter.append("y")
    assert call(channel, "Predict", request).outputs.keys() == {"y"}
    request.output_filter.append("y")
    assert failure(channel, "Predict", request) == ("INVALID_ARGUMENT", "duplicate output tensor alias: y")
    request.output_filter[:] = ["z"]
    assert failure(channel, "Predict", request) == (
        "INVALID_ARGUMENT",
        "output tensor alias not found in signature: z Outputs expected to be in the set {y}.",
    )


def test_what_is_not_there_is_told_in_tensorflow_servings_words(channel: Any) -> None:
    x = np.array([1.0], np.float32)
    assert failure(channel, "Predict", predict_request("nope", x=x)) == (
        "NOT_FOUND",
        "Servable not found for request: Latest(nope)",
    )
    request = predict_request("half", x=x)
    request.model_spec.version.value = 9
    assert failure(channel, "Predict", request) == (
        "NOT_FOUND",
        "Servable not found for request: Specific(half, 9)",
    )
    request.model_spec.version_label = "none"
    assert failure(channel, "Predict", request) == (
        "INVALID_ARGUMENT",
        "Unrecognized servable version label: none",
    )
    assert failure(channel, "Predict", predict_request("half", "other", x=x)) == (
        "FAILED_PRECONDITION",
        'Serving signature key "other" not found.',
    )
    assert failure(channel, "Predict", message(f"{TFS}.PredictRequest")()) == ("INVALID_ARGUMENT", "Missing ModelSpec")


def test_wrong_inputs_are_told_in_tensorflow_servings_words(channel: Any) -> None:
    assert failure(channel, "Predict", predict_request("sum", a=ROWS, b=ROWS, c=ROWS)) == (
        "INVALID_ARGUMENT",
        "input size does not match signature: 3!=2 len({a,b,c}) != len({a,b}). Sent extra: {c}. Missing but required: {}.",
    )
    code, text = failure(channel, "Predict", predict_request("half", z=ROWS))
    assert (code, text) == (
        "INVALID_ARGUMENT",
        "input tensor alias not found in signature: z. Inputs expected to be in the set {x}.",
    )
    code, text = failure(channel, "Predict", predict_request("half", x=np.array([1], np.int32)))
    assert (code, text) == ("INVALID_ARGUMENT", "x: want float32 [?], got int32 [1]")


def test_a_long_text_is_cut_as_tensorflow_serving_cuts_it(channel: Any) -> None:
    code, text = failure(channel, "Predict", predict_request("n" * 3000))
    whole = f"Servable not found for request: Latest({'n' * 3000})"
    assert (code, text) == ("NOT_FOUND", whole[:1024] + "...TRUNCATED")


def test_metadata_is_a_signature_def_map_under_any(channel: Any, both: tuple[Running, int]) -> None:
    request = message(f"{TFS}.GetModelMetadataRequest")(metadata_field=["signature_def"])
    request.model_spec.name = "digits"
    answer = call(channel, "GetModelMetadata", request)
    assert (answer.model_spec.name, answer.model_spec.version.value) == ("digits", 1)
    held = answer.metadata["signature_def"]
    assert held.type_url == "type.googleapis.com/tensorflow.serving.SignatureDefMap"
    signature = message(f"{TFS}.SignatureDefMap").FromString(held.value).signature_def["serving_default"]
    document = both[0].json("/v1/models/digits/metadata")["metadata"]["signature_def"]["signature_def"]
    over_http = document["serving_default"]
    image = signature.inputs["image"]
    assert (image.dtype, [dim.size for dim in image.tensor_shape.dim]) == (6, [-1, 8, 8, 1])
    assert [str(dim.size) for dim in image.tensor_shape.dim] == [
        dim["size"] for dim in over_http["inputs"]["image"]["tensor_shape"]["dim"]
    ]
    assert signature.method_name == over_http["method_name"] == "tensorflow/serving/predict"
    request.metadata_field[:] = []
    assert failure(channel, "GetModelMetadata", request) == (
        "INVALID_ARGUMENT",
        "GetModelMetadataRequest must specify at least one metadata_field",
    )
    request.metadata_field[:] = ["graph"]
    assert failure(channel, "GetModelMetadata", request) == (
        "INVALID_ARGUMENT",
        "Metadata field graph is not supported",
    )


def test_status_is_of_all_versions_or_of_one(channel: Any) -> None:
    request = message(f"{TFS}.GetModelStatusRequest")()
    request.model_spec.name = "half"
    rows = call(channel, "GetModelStatus", request).model_version_status
    assert [(row.version, row.state, row.status.error_code) for row in rows] == [(3, 30, 0), (1, 30, 0)]
    request.model_spec.version_label = "stable"
    assert [row.version for row in call(channel, "GetModelStatus", request).model_version_status] == [1]
    request.model_spec.version.value = 9
    assert failure(channel, "GetModelStatus", request) == ("NOT_FOUND", "Could not find version 9 of model half")
    request.model_spec.Clear()
    request.model_spec.name = "nope"
    assert failure(channel, "GetModelStatus", request) == ("NOT_FOUND", "Could not find any versions of model nope")


def test_a_new_configuration_is_refused_in_words_that_say_what_to_do(channel: Any) -> None:
    code, text = failure(channel, "HandleReloadConfigRequest", message(f"{TFS}.ReloadConfigRequest")())
    assert code == "UNIMPLEMENTED"
    assert "change that, and send SIGHUP" in text


def examples_request(kind: str, model: str, *examples: bytes, context: bytes | None = None) -> Any:
    request = message(f"{TFS}.{kind}")()
    request.model_spec.name = model
    if context is None:
        request.input.example_list.examples.extend(examples)
    else:
        given = request.input.example_list_with_context
        given.context = context
        given.examples.extend(examples)
    return request


def test_examples_for_a_model_that_takes_none_are_refused_as_tensorflow_serving_does(channel: Any) -> None:
    for method, kind, noun in (
        ("Classify", "ClassificationRequest", "classification"),
        ("Regress", "RegressionRequest", "regression"),
    ):
        want = f"tensorflow/serving/{method.lower()}"
        assert failure(channel, method, examples_request(kind, "half", b"")) == (
            "INVALID_ARGUMENT",
            f"Expected {noun} signature method_name to be {want}. Was: tensorflow/serving/predict",
        )
        assert failure(channel, method, examples_request(kind, "half")) == ("INVALID_ARGUMENT", "Input is empty.")
        request = examples_request(kind, "half", b"")
        request.model_spec.signature_name = "s"
        assert failure(channel, method, request) == (
            "INVALID_ARGUMENT",
            "No signature was found with the name: s",
        )


def test_several_inferences_in_one_request_must_be_of_one_model(channel: Any) -> None:
    request = message(f"{TFS}.MultiInferenceRequest")()
    request.input.example_list.examples.append(b"")
    assert failure(channel, "MultiInference", request)[0] == "INVALID_ARGUMENT"
    for name, method in ("half", "tensorflow/serving/classify"), ("words", "tensorflow/serving/regress"):
        task = request.tasks.add(method_name=method)
        task.model_spec.name = name
    assert "same model" in failure(channel, "MultiInference", request)[1]
    request.tasks[1].model_spec.name = "half"
    assert failure(channel, "MultiInference", request) == (
        "INVALID_ARGUMENT",
        "Duplicate evaluation of signature: ",
    )
    del request.tasks[1]
    request.tasks[0].method_name = "tensorflow/serving/predict"
    assert failure(channel, "MultiInference", request) == (
        "UNIMPLEMENTED",
        "Unsupported signature method_name: tensorflow/serving/predict",
    )


def test_calls_are_counted_under_their_protocol(channel: Any, both: tuple[Running, int]) -> None:
    call(channel, "Predict", predict_request("flags", x=np.array([True])))
    failure(channel, "Predict", predict_request("nobody"))
    _, text = both[0].ask("/metrics")
    assert b'edge_requests_total{code="ok",model="flags",protocol="grpc",version="1"}' in text
    assert b'code="not_found"' in text
