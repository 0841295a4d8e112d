"""PredictionService's and the v2 service's messages, without a socket: classes, regressions, several at once, codes and texts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edge.domain.errors import (
    DeadlineExceeded,
    EdgeError,
    InferenceFailed,
    InvalidInput,
    NotFound,
    Overloaded,
    UnknownSignature,
)
from edge.domain.models import ModelId, ModelSpec
from edge.domain.requests import PredictResponse
from edge.domain.tensors import DType
from edge.wire import grpc_status, tfserving_grpc, v2_grpc
from edge.wire.proto.messages import message
from tests.unit.wire.targets import response, signature, target

TFS = "tensorflow.serving"
CLASSES = np.array([[b"cat", b"\xff"]], object)
SCORES = np.array([[0.75, 0.25]], np.float32)


def test_classes_and_scores_become_classifications() -> None:
    data = tfserving_grpc.encode_classification(response(classes=CLASSES, scores=SCORES))
    reply = message(f"{TFS}.ClassificationResponse").FromString(data)
    (row,) = reply.result.classifications
    assert [(each.label, each.score) for each in row.classes] == [("cat", 0.75), ("�", 0.25)]
    assert (reply.model_spec.name, reply.model_spec.version.value) == ("m", 1)
    only = tfserving_grpc.encode_classification(response(scores=SCORES))
    (row,) = message(f"{TFS}.ClassificationResponse").FromString(only).result.classifications
    assert [(each.label, each.score) for each in row.classes] == [("", 0.75), ("", 0.25)]
    with pytest.raises(InvalidInput, match="Expected Tensor shape"):
        tfserving_grpc.encode_classification(response(scores=SCORES[0]))


def test_one_number_for_each_example_becomes_regressions() -> None:
    data = tfserving_grpc.encode_regression(response(outputs=np.array([[1.5], [2.0]], np.float32)))
    reply = message(f"{TFS}.RegressionResponse").FromString(data)
    assert [each.value for each in reply.result.regressions] == [1.5, 2.0]


def test_several_inferences_are_answered_in_their_order() -> None:
    data = tfserving_grpc.encode_multi_inference(
        [("regress", response(outputs=np.array([1.5], np.float32))), ("classify", response(scores=SCORES))]
    )
    first, second = message(f"{TFS}.MultiInferenceResponse").FromString(data).results
    assert (first.WhichOneof("result"), second.WhichOneof("result")) == ("regression_result", "classification_result")


def test_a_context_goes_before_each_example() -> None:
    request = message(f"{TFS}.ClassificationRequest")()
    request.model_spec.name = "m"
    given = request.input.example_list_with_context
    given.context = b"\x0a\x00"
    given.examples.extend([b"\x0a\x01", b"\x0a\x02"])
    asked = tfserving_grpc.parse_examples(request.SerializeToString(), "classify")
    classify = target(inputs=DType.STRING)
    specs = signature({"inputs": DType.STRING}, {"scores": DType.FLOAT32}, (-1,))
    bound = asked.payload.bind(type(classify)(classify.model, specs, classify.image))
    assert bound["inputs"].tolist() == [b"\x0a\x00\x0a\x01", b"\x0a\x00\x0a\x02"]


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (NotFound(ModelSpec("m", 3), model_known=True), "NOT_FOUND", "Servable not found for request: Specific(m, 3)"),
        (UnknownSignature("s", ()), "FAILED_PRECONDITION", 'Serving signature key "s" not found.'),
        (InferenceFailed("/home/x: 0x7f"), "INTERNAL", "Failed to invoke TfLite interpreter"),
        (DeadlineExceeded("late"), "DEADLINE_EXCEEDED", "late"),
    ],
)
def test_an_error_has_tensorflow_servings_code_and_text(error: EdgeError, code: str, text: str) -> None:
    assert grpc_status.tfserving_failure(error) == (code, text, None)


def test_a_full_server_says_when_to_come_back() -> None:
    failure = grpc_status.tfserving_failure(Overloaded("full", retry_after_s=2.5))
    assert (failure.code, failure.retry_after_ms) == ("UNAVAILABLE", 2500)
    assert failure.text.startswith("The batch scheduling queue to which this task was submitted is full")


def test_a_text_is_cut_at_1024_bytes_between_two_characters() -> None:
    assert grpc_status.cut("a" * 1024) == "a" * 1024
    assert grpc_status.cut("a" * 1025) == "a" * 1024 + "...TRUNCATED"
    assert grpc_status.cut("a" + "é" * 600) == "a" + "é" * 511 + "...TRUNCATED"
    assert grpc_status.cut("\ud800") == "?"


def infer(**fields: Any) -> Any:
    request = message("inference.ModelInferRequest")(model_name="m", id="7", **fields)
    return request


@pytest.mark.parametrize(
    ("datatype", "field", "values", "dtype"),
    [
        ("BOOL", "bool_contents", [True, False], np.bool_),
        ("INT8", "int_contents", [-128, 127], np.int8),
        ("INT64", "int64_contents", [-(2**63), 1], np.int64),
        ("UINT16", "uint_contents", [0, 65535], np.uint16),
        ("UINT64", "uint64_contents", [0, 2**64 - 1], np.uint64),
        ("FP32", "fp32_contents", [1.5, -0.0], np.float32),
        ("FP64", "fp64_contents", [1.5, 2.5], np.float64),
        ("BYTES", "bytes_contents", [b"a", b"\xff"], np.object_),
    ],
)
def test_contents_of_every_type_are_read_and_written(datatype: str, field: str, values: list[Any], dtype: Any) -> None:
    request = infer()
    given = request.inputs.add(name="x", datatype=datatype, shape=[2, 1])
    getattr(given.contents, field).extend(values)
    request.parameters["binary_data_output"].bool_param = False
    asked = v2_grpc.parse_infer(request.SerializeToString())
    kind = DType("string" if dtype is np.object_ else np.dtype(dtype).name)
    (array,) = asked.parsed.payload.bind(target(x=kind)).values()
    assert (array.dtype, array.shape, array.ravel().tolist()) == (np.dtype(dtype), (2, 1), values)
    answer = PredictResponse(ModelId("m", 1), signature({}, {"y": kind}), {"y": array})
    made = v2_grpc.reply(answer, asked)
    assert list(getattr(made.outputs[0].contents, field)) == values
    assert (made.outputs[0].datatype, list(made.outputs[0].shape)) == (datatype, [2, 1])


def test_integers_that_their_type_cannot_hold_are_refused() -> None:
    request = infer()
    request.inputs.add(name="x", datatype="INT8", shape=[1]).contents.int_contents.append(128)
    asked = v2_grpc.parse_infer(request.SerializeToString())
    with pytest.raises(InvalidInput, match="want INT8 from -128 to 127"):
        asked.parsed.payload.bind(target(x=DType.INT8))


def test_half_precision_goes_as_bytes_only() -> None:
    request = infer(raw_input_contents=[np.array([1.5], np.float16).tobytes()])
    request.inputs.add(name="x", datatype="FP16", shape=[1])
    asked = v2_grpc.parse_infer(request.SerializeToString())
    (array,) = asked.parsed.payload.bind(target(x=DType.FLOAT16)).values()
    assert array.tolist() == [1.5]
    answer = PredictResponse(ModelId("m", 1), signature({}, {"y": DType.FLOAT16}), {"y": array})
    assert v2_grpc.reply(answer, asked).raw_output_contents[0] == array.tobytes()
    with pytest.raises(InvalidInput, match="FP16 has no contents"):
        v2_grpc.reply(answer, asked._replace(raw=False))


def test_parameters_say_what_they_say_over_http() -> None:
    request = infer()
    request.parameters["timeout"].int64_param = 1500
    request.parameters["dequantize"].bool_param = True
    request.parameters["signature_name"].string_param = "s"
    request.outputs.add(name="y").parameters["classification"].int64_param = 3
    asked = v2_grpc.parse_infer(request.SerializeToString())
    wish = asked.parsed.request(asked.spec, now=10.0, deadline=20.0)
    assert (wish.deadline, wish.dequantize, wish.signature_name) == (10.0015, True, "s")
    assert [(output.name, output.classification) for output in asked.parsed.outputs] == [("y", 3)]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("timeout", {"bool_param": True}, "want an int64_param of at least 0, got True"),
        ("timeout", {"int64_param": -1}, "want an int64_param of at least 0, got -1"),
        ("dequantize", {"string_param": "yes"}, "want a bool_param, got 'yes'"),
    ],
)
def test_a_parameter_of_another_kind_is_refused(name: str, value: dict[str, Any], said: str) -> None:
    request = infer()
    for key, each in value.items():
        setattr(request.parameters[name], key, each)
    with pytest.raises(InvalidInput, match=said):
        v2_grpc.parse_infer(request.SerializeToString())


def test_shared_memory_is_refused_by_its_name() -> None:
    request = infer()
    request.inputs.add(name="x", datatype="FP32", shape=[1]).parameters["shared_memory_region"].string_param = "r"
    with pytest.raises(InvalidInput, match="shared memory regions are not supported"):
        v2_grpc.parse_infer(request.SerializeToString())
