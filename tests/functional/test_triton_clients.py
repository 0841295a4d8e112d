"""`tritonclient`, as PyPI has it, against the server: what somebody who comes from Triton calls, unchanged."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.functional.server import Running, serving
from tests.functional.zoo import zoo

triton = pytest.importorskip("tritonclient.http")
triton_aio = pytest.importorskip("tritonclient.http.aio")
InferenceServerException = pytest.importorskip("tritonclient.utils").InferenceServerException

ROWS = np.array([1, 2.5, -0.0, np.inf], np.float32)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    path = tmp_path_factory.mktemp("triton")
    with serving(path, zoo(path / "models"), "--model-control") as running:
        yield running


@pytest.fixture
def client(server: Running) -> Iterator[Any]:
    made = triton.InferenceServerClient(f"127.0.0.1:{server.port}", concurrency=4)
    yield made
    made.close()


@pytest.fixture
async def aio(server: Running) -> AsyncIterator[Any]:
    async with triton_aio.InferenceServerClient(f"127.0.0.1:{server.port}") as made:
        yield made


def tensor(name: str, array: np.ndarray[Any, Any], datatype: str, *, binary: bool = True, of: Any = triton) -> Any:
    made = of.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array, binary_data=binary)
    return made


def test_health_metadata_configuration_and_index_are_what_the_client_expects(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("half")
    assert client.is_model_ready("half", "1")
    assert not client.is_model_ready("half", "9")
    assert not client.is_model_ready("nope")
    server = client.get_server_metadata()
    assert {"classification", "binary_tensor_data", "model_repository"} <= set(server["extensions"])
    assert client.get_model_metadata("half") == {
        "name": "half",
        "versions": ["1"],
        "platform": client.get_model_metadata("half")["platform"],
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1]}],
    }
    assert client.get_model_config("half")["name"] == "half"
    index = client.get_model_repository_index()
    assert {(row["name"], row["version"], row["state"]) for row in index} == {
        (name, "1", "READY") for name in ("half", "words", "ints", "flags", "sum", "pick", "digits")
    }


@pytest.mark.parametrize("send", [True, False], ids=["binary in", "JSON in"])
@pytest.mark.parametrize("receive", [True, False], ids=["binary out", "JSON out"])
@pytest.mark.parametrize("zipped", [None, "gzip", "deflate"])
def test_tensors_come_back_the_same_by_every_way(client: Any, send: bool, receive: bool, zipped: str | None) -> None:
    answer = client.infer(
        "half",
        [tensor("x", ROWS, "FP32", binary=send)],
        model_version="1",
        outputs=[triton.InferRequestedOutput("y", binary_data=receive)],
        request_id="7",
        request_compression_algorithm=zipped,
        response_compression_algorithm=zipped,
    )
    assert np.array_equal(answer.as_numpy("y"), ROWS / 2)
    head = answer.get_response()
    assert (head["id"], head["model_name"], head["model_version"]) == ("7", "half", "1")


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "JSON"])
def test_strings_of_any_bytes_come_back_the_same(client: Any, binary: bool) -> None:
    words = np.array(["", "Grüße", "日本", "a" * 1000], object)
    answer = client.infer(
        "words",
        [tensor("x", words, "BYTES", binary=binary)],
        outputs=[triton.InferRequestedOutput("y", binary_data=binary)],
    ).as_numpy("y")
    assert [each.decode() if isinstance(each, bytes) else each for each in answer] == list(words)


def test_several_inputs_are_taken_by_name_and_all_outputs_come_unasked(client: Any) -> None:
    inputs = [tensor("b", np.full(3, 2, np.float32), "FP32"), tensor("a", np.arange(3, dtype=np.float32), "FP32")]
    answer = client.infer("sum", inputs)
    assert answer.as_numpy("sum").tolist() == [2, 3, 4]


def test_classes_come_by_value_index_and_name(client: Any) -> None:
    picture = tensor("image", np.zeros((2, 8, 8, 1), np.int8), "INT8")
    plain = client.infer("digits", [picture]).as_numpy("scores")
    top = client.infer("digits", [picture], outputs=[triton.InferRequestedOutput("scores", class_count=3)])
    rows = top.as_numpy("scores")
    assert rows.shape == (2, 3)
    names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    for row, scores in zip(rows, plain, strict=True):
        values, indices, labels = zip(*(each.decode().split(":") for each in row), strict=True)
        assert list(map(int, indices)) == np.argsort(-scores.astype(int), kind="stable")[:3].tolist()
        assert [float(value) for value in values] == [float(scores[int(index)]) for index in indices]
        assert list(labels) == [names[int(index)] for index in indices]


def test_many_requests_of_one_client_at_once(client: Any) -> None:
    pending = [client.async_infer("half", [tensor("x", ROWS + n, "FP32")]) for n in range(50)]
    for n, each in enumerate(pending):
        assert np.array_equal(each.get_result().as_numpy("y"), (ROWS + n) / 2)


@pytest.mark.parametrize(
    ("model", "inputs", "text"),
    [
        ("nope", [("x", "FP32", 1)], "Request for unknown model: 'nope' is not found"),
        ("half", [("x", "INT32", 1)], "inference input 'x' data-type is 'INT32', but model 'half' expects 'FP32'"),
        ("half", [("q", "FP32", 1)], "unexpected inference input 'q' for model 'half'"),
        ("half", [("x", "FP32", 2)], "unexpected shape for input 'x' for model 'half'. Expected [-1], got [1,1]"),
        (
            "sum",
            [("a", "FP32", 1)],
            "expected 2 inputs but got 1 inputs for model 'sum'. Got input(s) ['a'], but missing",
        ),
    ],
)
def test_what_is_wrong_is_an_exception_with_triton_s_text(
    client: Any, model: str, inputs: list[tuple[str, str, int]], text: str
) -> None:
    dtypes = {"FP32": np.float32, "INT32": np.int32}
    made = [tensor(name, np.ones((1,) * rank, dtypes[kind]), kind) for name, kind, rank in inputs]
    with pytest.raises(InferenceServerException) as caught:
        client.infer(model, made)
    assert text in caught.value.message()
    assert caught.value.status() == ("404" if model == "nope" else "400")


def test_a_model_is_unloaded_and_loaded(client: Any) -> None:
    client.unload_model("flags")
    assert not client.is_model_ready("flags")
    with pytest.raises(InferenceServerException, match="'flags' has no available versions"):
        client.infer("flags", [tensor("x", np.ones(1, bool), "BOOL")])
    client.load_model("flags")
    assert client.is_model_ready("flags")
    assert client.infer("flags", [tensor("x", np.ones(1, bool), "BOOL")]).as_numpy("y").tolist() == [True]
    with pytest.raises(InferenceServerException, match="failed to load 'nope', failed to poll from model repository"):
        client.load_model("nope")


def test_loading_is_refused_unless_it_was_allowed(tmp_path: Path) -> None:
    with serving(tmp_path, zoo(tmp_path / "models")) as running:
        client = triton.InferenceServerClient(f"127.0.0.1:{running.port}")
        try:
            for call in (client.load_model, client.unload_model):
                with pytest.raises(InferenceServerException):
                    call("half")
            assert client.is_model_ready("half")
        finally:
            client.close()


def test_statistics_count_what_was_asked(client: Any) -> None:
    def count() -> int:
        (row,) = client.get_inference_statistics("ints")["model_stats"]
        return int(row["inference_stats"]["success"]["count"])

    before = count()
    for _ in range(3):
        client.infer("ints", [tensor("x", np.arange(2, dtype=np.int32), "INT32")])
    assert count() - before == 3


async def test_the_asyncio_client_asks_many_at_once_and_hears_what_is_wrong(aio: Any) -> None:
    assert await aio.is_server_live()
    assert await aio.is_model_ready("half")
    assert (await aio.get_model_metadata("half"))["name"] == "half"

    async def one(n: int) -> bool:
        answer = await aio.infer("half", [tensor("x", ROWS + n, "FP32", binary=n % 2 == 0, of=triton_aio)])
        return np.array_equal(answer.as_numpy("y"), (ROWS + n) / 2)

    assert all(await asyncio.gather(*(one(n) for n in range(100))))
    with pytest.raises(InferenceServerException, match="Request for unknown model: 'nope' is not found"):
        await aio.infer("nope", [tensor("x", ROWS, "FP32", of=triton_aio)])


def test_a_script_of_a_newcomer_needs_nothing_but_the_client(server: Running) -> None:
    script = f"""
import numpy as np, tritonclient.http as http
client = http.InferenceServerClient("localhost:{server.port}")
x = http.InferInput("x", [2], "FP32"); x.set_data_from_numpy(np.array([1, 3], np.float32))
print(client.infer("half", [x]).as_numpy("y"))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[0.5 1.5]"
