"""`tritonclient.grpc`, as PyPI has it, against the server: what somebody who comes from Triton calls, unchanged."""

from __future__ import annotations

import queue
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import numpy as np
import pytest

from edge.wire.proto.messages import message
from tests import tflite_models
from tests.functional.grpc_client import ROWS, WITHIN_S, serving_grpc
from tests.functional.zoo import zoo

triton = pytest.importorskip("tritonclient.grpc")
triton_aio = pytest.importorskip("tritonclient.grpc.aio")
InferenceServerException = pytest.importorskip("tritonclient.utils").InferenceServerException


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    path = tmp_path_factory.mktemp("triton")
    models = zoo(path / "models")
    late = models / "late" / "1"
    late.mkdir(parents=True)
    (late / "model.tflite").write_bytes(tflite_models.scaling(3.0))
    with serving_grpc(path, models, "--model-control") as (_, port):
        yield port


@pytest.fixture
def client(port: int) -> Iterator[Any]:
    with triton.InferenceServerClient(f"127.0.0.1:{port}") as made:
        yield made


@pytest.fixture
async def aio(port: int) -> AsyncIterator[Any]:
    async with triton_aio.InferenceServerClient(f"127.0.0.1:{port}") as made:
        yield made


def tensor(name: str, array: Any, datatype: str) -> Any:
    made = triton.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array)
    return made


def test_health_metadata_configuration_and_index_are_what_the_client_expects(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("half")
    assert client.is_model_ready("half", "1")
    assert not client.is_model_ready("half", "9")
    assert not client.is_model_ready("nope")
    server = client.get_server_metadata(as_json=True)
    assert {"classification", "binary_tensor_data", "model_repository"} <= set(server["extensions"])
    metadata = client.get_model_metadata("half", as_json=True)
    assert metadata["inputs"] == [{"name": "x", "datatype": "FP32", "shape": ["-1"]}]
    config = client.get_model_config("digits").config
    assert (config.name, config.backend, config.input[0].data_type) == ("digits", "tflite", 6)
    assert list(config.input[0].dims) == [8, 8, 1]
    index = client.get_model_repository_index().models
    assert {(row.name, row.version, row.state) for row in index} >= {("half", "1", "READY"), ("digits", "1", "READY")}


@pytest.mark.parametrize("zipped", [None, "gzip", "deflate"])
def test_tensors_come_back_the_same(client: Any, zipped: str | None) -> None:
    answer = client.infer(
        "half",
        [tensor("x", ROWS, "FP32")],
        model_version="1",
        outputs=[triton.InferRequestedOutput("y")],
        request_id="7",
        compression_algorithm=zipped,
    )
    assert np.array_equal(answer.as_numpy("y"), ROWS / 2)
    head = answer.get_response()
    assert (head.id, head.model_name, head.model_version) == ("7", "half", "1")


@pytest.mark.parametrize(
    ("model", "datatype", "value"),
    [
        ("words", "BYTES", np.array([b"a", b"\xff", b""], object)),
        ("ints", "INT32", np.array([1, -5], np.int32)),
        ("flags", "BOOL", np.array([True, False])),
    ],
)
def test_tensors_of_every_kind_come_back_as_they_went(client: Any, model: str, datatype: str, value: Any) -> None:
    answer = client.infer(model, [tensor("x", value, datatype)])
    (output,) = answer.get_response().outputs
    assert np.array_equal(answer.as_numpy(output.name), value)


def test_classes_come_by_name_and_floats_are_quantized_on_request(client: Any) -> None:
    held = np.load("edge/data/digits/held_back.npz")
    pixels = held["images"][:1].reshape(1, 8, 8, 1).astype(np.float32)
    wish = triton.InferRequestedOutput("scores", class_count=2)
    answer = client.infer("digits", [tensor("image", pixels, "FP32")], outputs=[wish], parameters={"dequantize": True})
    best = answer.as_numpy("scores")
    assert best.shape == (1, 2)
    assert best[0, 0].count(b":") == 2


@pytest.mark.parametrize(
    ("model", "inputs", "version", "code", "text"),
    [
        ("nope", {"x": ROWS}, "", "NOT_FOUND", "Request for unknown model: 'nope' is not found"),
        ("half", {"x": ROWS}, "9", "NOT_FOUND", "'half' version 9 is not found"),
        ("half", {"x": ROWS}, "a", "INVALID_ARGUMENT", "failed to get model version from specified version string 'a'"),
        ("half", {"q": ROWS}, "", "INVALID_ARGUMENT", "unexpected inference input 'q' for model 'half'"),
        ("sum", {"a": ROWS}, "", "INVALID_ARGUMENT", "[request id: 7] expected 2 inputs but got 1 inputs for model 'sum'."),
        ("ints", {"x": ROWS}, "", "INVALID_ARGUMENT", "[request id: 7] inference input 'x' data-type is 'FP32', but model 'ints' expects 'INT32'"),
        ("half", {"x": ROWS.reshape(2, 2)}, "", "INVALID_ARGUMENT", "[request id: 7] unexpected shape for input 'x' for model 'half'. Expected [-1], got [2,2]."),
    ],
)  # fmt: skip
def test_errors_are_told_in_tritons_words(
    client: Any, model: str, inputs: dict[str, Any], version: str, code: str, text: str
) -> None:
    given = [tensor(name, value, "FP32") for name, value in inputs.items()]
    with pytest.raises(InferenceServerException) as caught:
        client.infer(model, given, model_version=version, request_id="7")
    assert caught.value.status() == f"StatusCode.{code}"
    assert text in caught.value.message()


def test_a_stream_is_answered_in_its_order_and_outlives_what_fails(client: Any) -> None:
    answers: queue.Queue[Any] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    for number in range(50):
        name = "nope" if number == 20 else "half"
        client.async_stream_infer(name, [tensor("x", ROWS + number, "FP32")], request_id=str(number))
    got = [answers.get(timeout=WITHIN_S) for _ in range(50)]
    client.stop_stream()
    failed = [number for number, (_, error) in enumerate(got) if error is not None]
    assert failed == [20]
    assert "unknown model" in got[20][1].message()
    for number, (result, _) in enumerate(got):
        if number != 20:
            assert result.get_response().id == str(number)
            assert np.array_equal(result.as_numpy("y"), (ROWS + number) / 2)


async def test_the_asynchronous_client_asks_many_at_once(aio: Any) -> None:
    import asyncio

    answers = await asyncio.gather(*(aio.infer("half", [tensor("x", ROWS + n, "FP32")]) for n in range(40)))
    assert all(np.array_equal(each.as_numpy("y"), (ROWS + n) / 2) for n, each in enumerate(answers))


def test_models_are_loaded_and_unloaded_where_that_is_allowed(client: Any) -> None:
    client.unload_model("late")
    assert not client.is_model_ready("late")
    client.load_model("late")
    assert client.is_model_ready("late")
    with pytest.raises(InferenceServerException, match="failed to load 'nope', failed to poll from model repository"):
        client.load_model("nope")
    with pytest.raises(InferenceServerException, match="load parameter 'config' is not supported"):
        client.load_model("late", config="{}")


def test_statistics_count_what_was_answered(client: Any) -> None:
    before = _count(client)
    client.infer("half", [tensor("x", ROWS, "FP32")])
    assert _count(client) == before + 1


def _count(client: Any) -> int:
    (row,) = client.get_inference_statistics("half").model_stats
    return int(row.inference_count)


@pytest.mark.parametrize("form", [None, True, False])
def test_contents_are_read_and_are_written_where_they_are_asked_for(port: int, form: bool | None) -> None:
    request = message("inference.ModelInferRequest")(model_name="half")
    given = request.inputs.add(name="x", datatype="FP32", shape=[4])
    given.contents.fp32_contents.extend(ROWS.tolist())
    if form is not None:
        request.parameters["binary_data_output"].bool_param = form
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        answer = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=message("inference.ModelInferRequest").SerializeToString,
            response_deserializer=message("inference.ModelInferResponse").FromString,
        )(request, timeout=WITHIN_S)
    if form is False:
        assert answer.outputs[0].contents.fp32_contents == (ROWS / 2).tolist()
        assert not answer.raw_output_contents
    else:
        assert answer.raw_output_contents[0] == (ROWS / 2).tobytes()
        assert not answer.outputs[0].HasField("contents")
