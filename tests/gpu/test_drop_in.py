"""`tensorflow_model_server` in TensorFlow Serving's place: what Keras exports, asked by curl and by both clients over gRPC, while its
config changes, its label moves and its worker is killed."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import pytest
import tensorflow as tf

from tests.functional.drop_in import Asking, free_port, said, started
from tests.functional.server import Running
from tests.gpu.test_grpc import imported, predict
from tests.gpu.test_serving import workers
from tests.waiting import until_blocking

grpc = pytest.importorskip("grpc")
triton = pytest.importorskip("tritonclient.grpc")
WITHIN_S = 150.0
pytestmark = pytest.mark.timeout(400)
BODY = json.dumps({"instances": [[1.0, 2.0]]})
X = np.array([[1.0, 2.0]], np.float32)


def export(path: Path, factor: float) -> None:
    """A Keras model: the sum of two numbers, so many times."""
    given = tf.keras.Input((2,), name="x")
    layer = tf.keras.layers.Dense(
        1, use_bias=False, name="y", kernel_initializer=tf.keras.initializers.Constant(factor)
    )
    tf.keras.Model(given, layer(given)).export(str(path), verbose=False)


class Served(NamedTuple):
    """`file` is its model_config_file, `channel` goes to its gRPC port."""

    running: Running
    root: Path
    file: Path
    port: int
    channel: Any


def config(root: Path, *models: str, stable: int) -> str:
    """`m` has its versions 1 and 2, one of them labelled `stable`."""
    versions = "model_version_policy { specific { versions: 1 versions: 2 } }"
    more = {"m": f'{versions} version_labels {{ key: "stable" value: {stable} }}'}
    entries = (
        f'config {{ name: "{name}" base_path: "{root / name}" model_platform: "tensorflow" {more.get(name, "")} }}'
        for name in models
    )
    return f"model_config_list {{ {' '.join(entries)} }}"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    root = tmp_path_factory.mktemp("drop-in")
    for name, version, factor in (("m", 1, 1.0), ("m", 2, 10.0), ("n", 1, 100.0)):
        (root / name).mkdir(exist_ok=True)
        export(root / name / str(version), factor)
    file, port = root / "models.config", free_port()
    file.write_text(config(root, "m", stable=1))
    flags = (f"--port={port}", f"--model_config_file={file}", "--model_config_file_poll_wait_seconds=1")
    more = {"EDGE_GRPC__HOST": "127.0.0.1", "EDGE_SERVER__TRIAL_TIMEOUT_S": "150"}
    with started(root, *flags, more=more) as running:
        said(running, "Exporting HTTP/REST API at:")
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield Served(running, root, file, port, channel)


def stable(served: Served) -> float:
    request = imported("predict_pb2").PredictRequest()
    request.model_spec.name, request.model_spec.version_label = "m", "stable"
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(X))
    stub = imported("prediction_service_pb2_grpc").PredictionServiceStub(served.channel)
    (tensor,) = stub.Predict(request, timeout=60).outputs.values()
    return float(tf.make_ndarray(tensor).item())


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl: it was not asked by curl")
def test_curl_is_answered(served: Served) -> None:
    url = f"http://127.0.0.1:{served.running.port}/v1/models/m/labels/stable:predict"
    done = subprocess.run(["curl", "-s", "-d", BODY, url], capture_output=True, check=True, timeout=60)
    assert json.loads(done.stdout) == {"predictions": [[3.0]]}


def test_tensorflow_servings_client_is_answered(served: Served) -> None:
    assert stable(served) == 3.0
    (newest,) = predict(served.channel, "m", x=X).values()
    assert newest.tolist() == [[30.0]]


def test_tritons_client_is_answered(served: Served) -> None:
    client = triton.InferenceServerClient(f"127.0.0.1:{served.port}")
    assert client.is_server_live()
    assert client.is_model_ready("m")
    given = triton.InferInput("x", [1, 2], "FP32")
    given.set_data_from_numpy(X)
    answer = client.infer("m", [given], model_version="1")
    (output,) = answer.get_response().outputs
    assert answer.as_numpy(output.name).tolist() == [[3.0]]
    client.close()


class Sums(Asking):
    """`answers` counts the sums."""

    def __init__(self, port: int, path: str) -> None:
        super().__init__(port, path, BODY.encode())

    def counted(self, prediction: Any) -> float:
        return float(prediction[0])


def test_the_config_and_a_label_change_under_clients_who_lose_nothing(served: Served) -> None:
    clients = [Sums(served.running.port, f"/v1/models/m{at}:predict") for at in ("/labels/stable", "/versions/2")]
    for client in clients:
        client.start()
    try:
        clients[0].more()
        served.file.write_text(config(served.root, "m", "n", stable=2))
        until_blocking(lambda: stable(served) == 30.0, served.running.log.read_text, within_s=WITHIN_S)
        clients[0].more()
        until_blocking(
            lambda: served.running.ask("/v1/models/n:predict", json.loads(BODY))[0] == 200, within_s=WITHIN_S
        )
        assert served.running.json("/v1/models/n:predict", json.loads(BODY)) == {"predictions": [[300.0]]}
        management = imported("model_management_pb2")
        request = management.ReloadConfigRequest()
        model = request.config.model_config_list.config.add(
            name="m", base_path=str(served.root / "m"), model_platform="tensorflow"
        )
        model.model_version_policy.specific.versions.extend([1, 2])
        model.version_labels["stable"] = 1
        stub = imported("model_service_pb2_grpc").ModelServiceStub(served.channel)
        assert stub.HandleReloadConfigRequest(request, timeout=120).status.error_code == 0
        assert stable(served) == 3.0
        for client in clients:
            client.more()
    finally:
        for client in clients:
            client.over.set()
            client.join(60)
    assert [client.failures for client in clients] == [[], []]
    assert [sorted(client.answers) for client in clients] == [[3.0, 30.0], [30.0]]


def test_a_worker_killed_under_load_costs_its_own_version_some_seconds_and_nobody_else_anything(served: Served) -> None:
    """The last test: the worker of one of the two versions is killed."""
    clients = [Sums(served.running.port, f"/v1/models/m/versions/{version}:predict") for version in (1, 2)]
    for client in clients:
        client.start()
        client.more()
    try:
        psutil.Process(workers(served.running)[0].pid).kill()
        until_blocking(lambda: any(client.failures for client in clients), within_s=WITHIN_S)
        for client in clients:
            client.more(200)
    finally:
        for client in clients:
            client.over.set()
            client.join(60)
    hit, other = sorted((client.failures for client in clients), key=len, reverse=True)
    assert other == []
    assert {failure[:3] for failure in hit} <= {"500", "503"}
    assert all("its worker was killed (SIGKILL)" in failure for failure in hit), hit[:3]
