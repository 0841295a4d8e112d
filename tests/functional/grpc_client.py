"""A client of the gRPC services that knows no generated module: messages by their names, from the server's own definitions."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from edge.domain.tensors import Array
from edge.wire import tensor_proto
from edge.wire.proto.messages import message
from tests.functional.server import Running, serving

TFS = "tensorflow.serving"
ON_LOOPBACK = ("--set", "grpc.host=127.0.0.1", "--set", "grpc.port=0")
WITHIN_S = 90.0
METHODS = {
    "Predict": ("PredictionService", "PredictRequest", "PredictResponse"),
    "Classify": ("PredictionService", "ClassificationRequest", "ClassificationResponse"),
    "Regress": ("PredictionService", "RegressionRequest", "RegressionResponse"),
    "MultiInference": ("PredictionService", "MultiInferenceRequest", "MultiInferenceResponse"),
    "GetModelMetadata": ("PredictionService", "GetModelMetadataRequest", "GetModelMetadataResponse"),
    "GetModelStatus": ("ModelService", "GetModelStatusRequest", "GetModelStatusResponse"),
    "HandleReloadConfigRequest": ("ModelService", "ReloadConfigRequest", "ReloadConfigResponse"),
}


@contextmanager
def serving_grpc(path: Path, *arguments: str | Path, **more: Any) -> Iterator[tuple[Running, int]]:
    """The server and its port for gRPC."""
    with serving(path, *arguments, *ON_LOOPBACK, **more) as running:
        yield running, port_of(running)


def port_of(running: Running) -> int:
    (port,) = re.findall(r"gRPC at 127.0.0.1:(\d+)", running.log.read_text())
    return int(port)


def raw(channel: Any, path: str) -> Any:
    """A method that takes and gives bytes."""
    return channel.unary_unary(path)


def call(channel: Any, method: str, request: Any, *, timeout: float | None = WITHIN_S, metadata: Any = None) -> Any:
    """One of TensorFlow Serving's methods. Raises grpc.RpcError."""
    service, asked, answered = METHODS[method]
    stub = channel.unary_unary(
        f"/{TFS}.{service}/{method}",
        request_serializer=message(f"{TFS}.{asked}").SerializeToString,
        response_deserializer=message(f"{TFS}.{answered}").FromString,
    )
    return stub(request, timeout=timeout, metadata=metadata)


def predict_request(model: str, signature: str = "", **inputs: Array | bytes) -> Any:
    """`inputs`: arrays, or serialized TensorProtos."""
    request = message(f"{TFS}.PredictRequest")()
    request.model_spec.name, request.model_spec.signature_name = model, signature
    for name, value in inputs.items():
        request.inputs[name] = value if isinstance(value, bytes) else tensor_proto.write(value)
    return request


def outputs(response: Any) -> Mapping[str, Array]:
    return {name: array(content) for name, content in response.outputs.items()}


def array(content: bytes) -> Array:
    return tensor_proto.read(tensor_proto.look(content, "", 1 << 30))


def tensor(dtype: int, shape: tuple[int, ...], **fields: Any) -> bytes:
    """A serialized TensorProto, sound or not."""
    made = message("tensorflow.TensorProto")(dtype=dtype, **fields)
    made.tensor_shape.SetInParent()
    for size in shape:
        made.tensor_shape.dim.add().size = size
    data: bytes = made.SerializeToString()
    return data


def failure(channel: Any, method: str, request: Any, **more: Any) -> tuple[str, str]:
    """The code and the text of a call that fails."""
    try:
        answer = call(channel, method, request, **more)
    except grpc.RpcError as error:
        return error.code().name, error.details()
    raise AssertionError(f"it was answered: {answer}")


ROWS = np.array([1, 2.5, -0.0, np.inf], np.float32)
