"""TensorFlow Serving's own client and TensorFlow's own tensors against the gRPC services."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from edge.domain.tensors import DType
from edge.wire import tensor_proto
from edge.wire.proto.messages import message, pool
from tests.functional.grpc_client import ON_LOOPBACK, port_of
from tests.functional.server import Running, configuration, serving
from tests.functional.zoo import DIGITS
from tests.gpu import saved
from tests.unit.wire.test_tensor_proto import example
from tests.waiting import until_blocking

grpc = pytest.importorskip("grpc")
apis = pytest.importorskip("tensorflow_serving.apis")
ROOT = Path(__file__).parents[2]
WITHIN_S = 150.0
TFS = "tensorflow.serving"
pytestmark = pytest.mark.timeout(400)


def imported(name: str) -> Any:
    return pytest.importorskip(f"tensorflow_serving.apis.{name}")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    root = tmp_path_factory.mktemp("grpc")
    for name in ("many", "old", "digits"):
        (root / name).mkdir()
    saved.several(root / "many" / "1")
    saved.v1(root / "old" / "1")
    shutil.copytree(DIGITS / "2", root / "digits" / "2")
    config = root / "edge.toml"
    models = {name: root / name for name in ("many", "old", "digits")}
    configuration(config, models, "[server]\ntrial_timeout_s = 150\n")
    with serving(root, "--config", config, *ON_LOOPBACK, ready=False) as running:
        until_blocking(lambda: running.ask("/v2/health/ready")[0] == 200, running.log.read_text, within_s=WITHIN_S)
        yield running


@pytest.fixture(scope="module")
def channel(server: Running) -> Iterator[Any]:
    with grpc.insecure_channel(f"127.0.0.1:{port_of(server)}") as made:
        yield made


def predict(channel: Any, model: str, signature: str = "", **inputs: Any) -> dict[str, Any]:
    request = imported("predict_pb2").PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = model, signature
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    stub = imported("prediction_service_pb2_grpc").PredictionServiceStub(channel)
    answer = stub.Predict(request, timeout=30)
    return {name: tf.make_ndarray(tensor) for name, tensor in answer.outputs.items()}


def test_tensorflow_servings_client_predicts(channel: Any) -> None:
    first, second = np.ones((2, 2), np.float32), np.full((2, 2), 10.0, np.float32)
    got = predict(channel, "many", first=first, second=second)
    assert np.array_equal(got["sum-1"], first + second)
    assert np.array_equal(got["x"], first * 3)
    assert predict(channel, "many", "upper", s=np.array([b"a", b"bc"], object))["u"].tolist() == [b"A", b"BC"]
    assert predict(channel, "many", "rank", x=np.zeros((2, 3), np.float32))["r"] == 2


def test_tensorflow_servings_client_classifies_examples(channel: Any) -> None:
    request = imported("classification_pb2").ClassificationRequest()
    request.model_spec.name, request.model_spec.signature_name = "old", "classes"
    for values in ([1.0, 2.0], [3.0, 4.0]):
        example_ = request.input.example_list.examples.add()
        example_.features.feature["x"].float_list.value.extend(values)
    stub = imported("prediction_service_pb2_grpc").PredictionServiceStub(channel)
    rows = stub.Classify(request, timeout=30).result.classifications
    assert [[each.score for each in row.classes] for row in rows] == [[21.0], [43.0]]
    inference = imported("inference_pb2").MultiInferenceRequest()
    task = inference.tasks.add(method_name="tensorflow/serving/classify")
    task.model_spec.name, task.model_spec.signature_name = "old", "classes"
    inference.input.example_list_with_context.context.features.feature["x"].float_list.value.extend([5.0, 6.0])
    inference.input.example_list_with_context.examples.add()
    (result,) = stub.MultiInference(inference, timeout=30).results
    assert result.classification_result.classifications[0].classes[0].score == 65.0


def test_tensorflow_servings_client_reads_metadata_and_status(channel: Any) -> None:
    metadata = imported("get_model_metadata_pb2")
    request = metadata.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "many"
    stub = imported("prediction_service_pb2_grpc").PredictionServiceStub(channel)
    answer = stub.GetModelMetadata(request, timeout=30)
    signatures = metadata.SignatureDefMap()
    assert answer.metadata["signature_def"].Unpack(signatures)
    first = signatures.signature_def["serving_default"].inputs["first"]
    assert first.dtype == tf.float32.as_datatype_enum
    assert [dim.size for dim in first.tensor_shape.dim] == [-1, 2]
    status = imported("get_model_status_pb2")
    asked = status.GetModelStatusRequest()
    asked.model_spec.name = "many"
    models = imported("model_service_pb2_grpc").ModelServiceStub(channel)
    (row,) = models.GetModelStatus(asked, timeout=30).model_version_status
    assert (row.version, row.state) == (1, status.ModelVersionStatus.State.AVAILABLE)
    management = imported("model_management_pb2")
    with pytest.raises(grpc.RpcError) as caught:
        models.HandleReloadConfigRequest(management.ReloadConfigRequest(), timeout=30)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_the_example_of_the_guide_does_what_it_shows(server: Running) -> None:
    ((_, code),) = re.findall(r"(?ms)^```(python)\n(.*?)^```$", (ROOT / "docs" / "grpc.md").read_text())
    assert "localhost:8500" in code
    code = code.replace("localhost:8500", f"127.0.0.1:{port_of(server)}")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    says, truth = (re.findall(r"\d", part) for part in done.stdout.split("is"))
    assert says == truth
    assert len(says) == 5


@pytest.mark.parametrize("dtype", DType)
def test_tensors_are_read_and_written_as_tensorflow_does(dtype: DType) -> None:
    from tensorflow.core.framework.tensor_pb2 import TensorProto

    array = example(dtype)
    theirs = tf.make_tensor_proto(array)
    for proto in (theirs, tf.make_tensor_proto(array[:1, :1]), tf.make_tensor_proto(array[0, 0], shape=[2, 3])):
        want = tf.make_ndarray(proto)
        got = tensor_proto.read(tensor_proto.look(proto.SerializeToString(), "x", 1 << 20))
        assert got.dtype == want.dtype
        assert np.array_equal(got, want, equal_nan=dtype.numpy.kind == "f")
    ours = TensorProto.FromString(tensor_proto.write(array))
    assert np.array_equal(tf.make_ndarray(ours), array, equal_nan=dtype.numpy.kind == "f")
    assert (
        np.array_equal(tf.io.parse_tensor(ours.SerializeToString(), ours.dtype).numpy(), array)
        or dtype.numpy.kind == "f"
    )


def test_every_number_of_a_type_is_tensorflows() -> None:
    for dtype, number in tensor_proto.NUMBERS.items():
        assert tf.as_dtype(number) == (tf.string if dtype is DType.STRING else tf.as_dtype(dtype.numpy))


AS_BYTES = {
    ("PackedTensorProto", "float_val"),
    ("PackedTensorProto", "double_val"),
    ("ExampleList", "examples"),
    ("ExampleListWithContext", "examples"),
    ("ExampleListWithContext", "context"),
    ("ReloadConfigRequest", "config"),
    ("PredictRequest.InputsEntry", "value"),
    ("PredictResponse.OutputsEntry", "value"),
}
"""Messages, and packed numbers, that are left as the bytes that they are."""


def test_every_field_is_tensorflows_on_the_wire() -> None:
    from tensorflow.core.framework import tensor_pb2, tensor_shape_pb2
    from tensorflow.core.protobuf import meta_graph_pb2

    theirs: dict[str, Any] = {}
    for module in (
        *(tensor_pb2, tensor_shape_pb2, meta_graph_pb2),
        *map(imported, ("model_pb2", "predict_pb2", "input_pb2", "classification_pb2", "regression_pb2")),
        *map(imported, ("inference_pb2", "get_model_metadata_pb2", "get_model_status_pb2", "model_management_pb2")),
        imported("status_pb2"),
    ):
        theirs |= dict(module.DESCRIPTOR.message_types_by_name)
    theirs["PackedTensorProto"] = theirs["TensorProto"]
    compared = 0
    for file in ("tensorflow.proto", "tensorflow_serving.proto"):
        for name, descriptor in pool().FindFileByName(file).message_types_by_name.items():
            compare_wire(descriptor, theirs[name])
            compared += 1
    assert compared > 25
    assert message(f"{TFS}.PredictRequest") is not imported("predict_pb2").PredictRequest


def compare_wire(ours: Any, theirs: Any) -> None:
    for field in ours.fields:
        other = theirs.fields_by_number.get(field.number)
        where = f"{ours.full_name}.{field.name}"
        assert other is not None, where
        assert (field.name, field.is_repeated) == (other.name, other.is_repeated), where
        if (ours.full_name.removeprefix(f"{ours.file.package}."), field.name) in AS_BYTES:
            packed = other.type in (other.TYPE_FLOAT, other.TYPE_DOUBLE)
            assert field.type == field.TYPE_BYTES, where
            assert packed or other.type == other.TYPE_MESSAGE, where
        elif other.type == other.TYPE_ENUM:
            assert field.type in (field.TYPE_INT32, field.TYPE_ENUM), where
        else:
            assert field.type == other.type, where
    for nested in ours.nested_types:
        compare_wire(nested, theirs.nested_types_by_name[nested.name])
