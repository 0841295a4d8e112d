"""A server with SavedModels: asked as its clients ask it, and robbed of its workers."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from edge.backends.catalog import has_gpu
from tests import tflite_models
from tests.functional.server import Running, configuration, serving
from tests.gpu import saved
from tests.waiting import until_blocking

WITHIN_S = 150.0
pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("serving")


@pytest.fixture(scope="module")
def server(root: Path) -> Iterator[Running]:
    """`many` has several signatures, `scale` version 1 doubles, `both` has a TFLite model that triples and a SavedModel."""
    for name in ("many", "scale", "both"):
        (root / name).mkdir()
    saved.several(root / "many" / "1")
    saved.scaling(root / "scale" / "1", 2.0)
    saved.scaling(root / "both" / "1", 2.0)
    (root / "both" / "1" / "model.tflite").write_bytes(tflite_models.scaling(3.0, (1, 2)))
    config = root / "edge.toml"
    configuration(
        config, {name: root / name for name in ("many", "both", "scale")}, "[server]\ntrial_timeout_s = 150\n"
    )
    config.write_text(config.read_text() + 'device = "gpu"\n')
    with serving(root, "--config", config, ready=False) as running:
        until_blocking(lambda: running.ask("/v2/health/ready")[0] == 200, running.log.read_text, within_s=WITHIN_S)
        yield running


def status(server: Running, model: str, version: int = 1) -> Any:
    connection = http.client.HTTPConnection("edge")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(server.admin))
    connection.request("GET", "/v1/status")
    document = json.loads(connection.getresponse().read())
    connection.close()
    return document["models"][model]["versions"][str(version)]


def workers(server: Running) -> list[psutil.Process]:
    found = []
    for child in psutil.Process(server.process.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it is on its way out
            if "edge.backends.worker.child" in child.cmdline():
                found.append(child)
    return found


def scaled(server: Running, *, version: str = "") -> tuple[int, Any]:
    code, answer = server.ask(f"/v1/models/scale{version}:predict", {"instances": [[1.0, 2.0], [3.0, 4.0]]})
    return code, json.loads(answer)


def test_clients_of_tensorflow_serving_get_what_they_would_there(server: Running) -> None:
    both = {"first": [[1, 2]], "second": [[10, 20]]}
    assert server.json("/v1/models/many:predict", {"inputs": both}) == {"outputs": {"sum-1": [[11, 22]], "x": [[3, 6]]}}
    rows = [{"first": [1, 2], "second": [3, 4]}, {"first": [5, 6], "second": [7, 8]}]
    assert server.json("/v1/models/many:predict", {"instances": rows})["predictions"][1] == {
        "sum-1": [12.0, 14.0],
        "x": [15.0, 18.0],
    }
    upper = {"signature_name": "upper", "instances": ["a", {"b64": "YmM="}]}
    assert server.json("/v1/models/many:predict", upper) == {"predictions": ["A", "BC"]}
    described = server.json("/v1/models/many/metadata")["metadata"]["signature_def"]["signature_def"]
    assert described.keys() == {"rank", "same", "serving_default", "upper"}
    first = described["serving_default"]["inputs"]["first"]
    assert (first["dtype"], [dim["size"] for dim in first["tensor_shape"]["dim"]]) == ("DT_FLOAT", ["-1", "2"])
    assert described["rank"]["inputs"]["x"]["tensor_shape"]["unknown_rank"]
    code, answer = server.ask("/v1/models/many:predict", {"signature_name": "none", "instances": [1]})
    assert (code, json.loads(answer)) == (400, {"error": 'Serving signature name: "none" not found in signature def'})
    wrong = {"first": [[1, 2], [3, 4]], "second": [[1, 2], [3, 4], [5, 6]]}
    code, answer = server.ask("/v1/models/many:predict", {"inputs": wrong})
    assert code == 400
    assert "Incompatible shapes" in json.loads(answer)["error"]


def test_the_open_inference_protocol_speaks_to_it_too(server: Running) -> None:
    metadata = server.json("/v2/models/scale")
    assert metadata["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]
    body = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1.0, 2.0]}]}
    assert server.json("/v2/models/scale/infer", body)["outputs"][0]["data"] == [2.0, 4.0]
    head = json.dumps({"inputs": [{"name": "x", "shape": [100_000, 2], "datatype": "FP32", "parameters": {"binary_data_size": 800_000}}], "outputs": [{"name": "y", "parameters": {"binary_data": True}}]}).encode()  # fmt: skip
    array = np.arange(200_000, dtype=np.float32)
    code, answer = server.ask("/v2/models/scale/infer", head + array.tobytes(), {"Inference-Header-Content-Length": str(len(head))})  # fmt: skip
    assert code == 400
    assert b"batch" in answer
    rows = 60_000
    head = head.replace(b"100000", str(rows).encode()).replace(b"800000", str(rows * 8).encode())
    code, answer = server.ask("/v2/models/scale/infer", head + array[: 2 * rows].tobytes(), {"Inference-Header-Content-Length": str(len(head))})  # fmt: skip
    assert code == 200
    assert np.array_equal(np.frombuffer(answer[-rows * 8 :], np.float32), 2 * array[: 2 * rows])


def test_who_asks_for_a_gpu_where_there_is_none_is_served_on_the_cpu_and_told(server: Running) -> None:
    found = status(server, "scale")
    assert found["state"] == "ready"
    if found["device"] == "cpu":
        assert found["notice"] == "gpu:0: TensorFlow sees no GPU here; serving it on the CPU"


def test_of_two_builds_the_tflite_model_runs_where_no_gpu_is(server: Running) -> None:
    answer = server.json("/v1/models/both:predict", {"instances": [[1.0, 1.0]]})
    assert answer == {"predictions": [[2.0, 2.0] if has_gpu() else [3.0, 3.0]]}


def test_requests_from_many_clients_at_once_are_all_answered(server: Running) -> None:
    wrong: list[Any] = []

    def ask(number: int) -> None:
        for n in range(20):
            x = float(number * 100 + n)
            answer = server.json("/v1/models/scale:predict", {"instances": [[x, -x]]})
            if answer != {"predictions": [[2 * x, -2 * x]]}:
                wrong.append(answer)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_worker_that_is_killed_costs_some_seconds_of_its_own_version(server: Running) -> None:
    before = {process.pid for process in workers(server)}
    assert len(before) == 2
    victim = next(each for each in workers(server) if _serves(server, each, "scale"))
    victim.send_signal(signal.SIGSEGV)
    until_blocking(lambda: "its worker crashed (SIGSEGV)" in status(server, "scale")["notice"])
    code, answer = scaled(server)
    assert code == 503, answer
    assert "its worker crashed (SIGSEGV)" in answer["error"]
    upper = {"signature_name": "upper", "instances": ["still"]}
    assert server.json("/v1/models/many:predict", upper) == {"predictions": ["STILL"]}
    until_blocking(lambda: scaled(server)[0] == 200, server.log.read_text, within_s=WITHIN_S)
    assert "crashed" not in status(server, "scale")["notice"]
    assert len({process.pid for process in workers(server)} - before) == 1


def _serves(server: Running, process: psutil.Process, model: str) -> bool:
    """Of two workers, `scale`'s was asked for a GPU, and so had its environment left as it is."""
    return (process.environ().get("CUDA_VISIBLE_DEVICES") != "-1") is (model == "scale")


def test_a_new_version_takes_over_without_a_lost_request_and_the_old_ones_worker_is_gone(
    server: Running, root: Path
) -> None:
    answers: list[tuple[int, Any]] = []
    ends = threading.Event()

    def ask() -> None:
        while not ends.wait(0.02):
            answers.append(scaled(server))

    old = {process.pid for process in workers(server) if _serves(server, process, "scale")}
    asking = threading.Thread(target=ask)
    asking.start()
    try:
        fresh = saved.scaling(root / "new", 5.0)
        fresh.rename(root / "scale" / "2")
        until_blocking(lambda: scaled(server, version="/versions/2")[0] == 200, server.log.read_text, within_s=WITHIN_S)
        until_blocking(lambda: not old & {process.pid for process in workers(server)}, server.log.read_text)
    finally:
        ends.set()
        asking.join()
    said = [json.dumps(answer) for code, answer in answers if code == 200]
    assert len(said) == len(answers), [answer for code, answer in answers if code != 200][:3]
    assert set(said) <= {json.dumps({"predictions": [[2.0, 4.0], [6.0, 8.0]]}), json.dumps({"predictions": [[5.0, 10.0], [15.0, 20.0]]})}  # fmt: skip
    assert scaled(server)[1] == {"predictions": [[5.0, 10.0], [15.0, 20.0]]}


def test_no_worker_outlives_a_server_that_is_killed(server: Running) -> None:
    """The last test: nobody is served any more."""
    left = workers(server)
    assert left
    os.kill(server.process.pid, signal.SIGKILL)
    server.process.wait()
    until_blocking(lambda: not any(process.is_running() for process in left))
