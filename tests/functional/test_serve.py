"""The server as its users meet it: a real process, real sockets, real models."""

from __future__ import annotations

import http.client
import json
import shutil
import signal
import socket
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.data import shared_data
from tests.functional.server import Running, serving
from tests.functional.zoo import DIGITS, PIXELS, publish
from tests.waiting import until_blocking


@pytest.fixture
def models(tmp_path: Path) -> Path:
    shutil.copytree(DIGITS / "1", tmp_path / "models" / "digits" / "1")
    return tmp_path / "models"


class Load(threading.Thread):
    """Asks one model again and again, and counts who answered."""

    def __init__(self, server: Running) -> None:
        super().__init__(daemon=True)
        self.server = server
        self.versions: Counter[str] = Counter()
        self.failures: list[str] = []
        self.over = threading.Event()

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        tensor = {"name": "image", "shape": [1, 8, 8, 1], "datatype": "INT8", "data": [0] * 64}
        body = json.dumps({"inputs": [tensor]})
        while not self.over.is_set():
            try:
                connection.request("POST", "/v2/models/digits/infer", body)
                answer = connection.getresponse()
                text = answer.read()
                if answer.status == 200:
                    self.versions[json.loads(text)["model_version"]] += 1
                else:
                    self.failures.append(f"{answer.status} {text!r}")
            except OSError as error:
                self.failures.append(repr(error))
        connection.close()

    def wait_for(self, version: str, within_s: float = 90.0) -> None:
        until_blocking(lambda: self.versions[version], lambda: (self.versions, self.failures[:3]), within_s=within_s)


def test_a_swap_under_load_loses_nothing_and_a_bad_version_changes_nothing(models: Path, tmp_path: Path) -> None:
    with serving(tmp_path, models) as server:
        load = Load(server)
        load.start()
        load.wait_for("1")
        publish(DIGITS / "2", models / "digits" / "2")
        load.wait_for("2")
        bad = tmp_path / "bad"
        bad.mkdir()
        (bad / "model.tflite").write_bytes(b"\0" * 100)
        publish(bad, models / "digits" / "3")
        status = _wait_for_state(server, "3", "END")
        assert "model.tflite" in status["status"]["error_message"]
        assert _states(server)["2"]["state"] == "AVAILABLE"
        load.over.set()
        load.join(10)
        assert not load.failures
        assert server.ask("/v2/health/ready")[0] == 200


def _states(server: Running) -> dict[str, Any]:
    return {row["version"]: row for row in server.json("/v1/models/digits")["model_version_status"]}


def _wait_for_state(server: Running, version: str, state: str) -> Any:
    until_blocking(lambda: _states(server).get(version, {}).get("state") == state, lambda: _states(server))
    return _states(server)[version]


def test_predict_metadata_and_errors_speak_tensorflow_serving(models: Path, tmp_path: Path) -> None:
    with serving(tmp_path, models) as server:
        rows = server.json("/v1/models/digits:predict", {"instances": [PIXELS, PIXELS]})["predictions"]
        assert np.array(rows).shape == (2, 10)
        columns = server.json("/v1/models/digits:predict", {"inputs": [PIXELS]})["outputs"]
        assert columns == rows[:1]
        metadata = server.json("/v1/models/digits/metadata")
        inputs = metadata["metadata"]["signature_def"]["signature_def"]["serving_default"]["inputs"]
        assert inputs["image"]["dtype"] == "DT_INT8"
        for path, body, status, text in (
            ("/v1/models/nope:predict", {"instances": [1]}, 404, "Servable not found for request: Latest(nope)"),
            ("/v1/models/digits/versions/9:predict", {"instances": [1]}, 404, "Specific(digits, 9)"),
            ("/v1/models/digits/labels/x:predict", {"instances": [1]}, 400, "Unrecognized servable version label: x"),
            ("/v1/models/digits:predict", b"", 400, "JSON Parse error: The document is empty"),
            ("/v1/models/digits:predict", b"[" * 100_000, 400, "JSON Parse error"),
            ("/v1/models/digits:predict", {"instances": [[[[300]] * 8] * 8]}, 400, "int8"),
            ("/v1/models/digits:classify", {"examples": [{"a": 1}]}, 400, "tensorflow/serving/classify"),
            ("/v1/models", None, 400, "Missing model name in request."),
        ):
            got, answer = server.ask(path, body)
            assert got == status, (path, answer)
            assert text in json.loads(answer)["error"]


def test_sigterm_ends_it_cleanly_and_new_connections_are_refused(models: Path, tmp_path: Path) -> None:
    with serving(tmp_path, models) as server:
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(15) == 0
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", server.port)) != 0


def test_a_page_of_another_origin_and_a_rebound_name_are_refused(models: Path, tmp_path: Path) -> None:
    with serving(tmp_path, models) as server:
        assert server.ask("/v2", headers={"Host": "evil.example"})[0] == 403
        assert server.ask("/v1/models/digits:predict", {}, {"Origin": "http://evil.example"})[0] == 403
        assert server.ask("/v2", headers={"Host": "localhost:1"})[0] == 200


def test_tokens_are_asked_for_and_health_is_open(models: Path, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("# ours\nsecret\n")
    with serving(tmp_path, models, "--token-file", tokens) as server:
        assert server.ask("/v2/models")[0] == 401
        assert server.ask("/v2/models", headers={"Authorization": "Bearer wrong"})[0] == 401
        assert server.ask("/v2/models", headers={"Authorization": "Bearer secret"})[0] == 200
        assert server.ask("/v2/health/ready")[0] == 200


def test_tritons_own_client_works_unchanged(models: Path, tmp_path: Path) -> None:
    client_library = pytest.importorskip("tritonclient.http")
    with serving(tmp_path, models) as server:
        client = client_library.InferenceServerClient(f"127.0.0.1:{server.port}")
        try:
            assert client.is_server_ready()
            assert client.is_model_ready("digits")
            image = client_library.InferInput("image", [2, 8, 8, 1], "INT8")
            image.set_data_from_numpy(np.zeros((2, 8, 8, 1), np.int8), binary_data=True)
            binary = client.infer("digits", [image]).as_numpy("scores")
            image.set_data_from_numpy(np.zeros((2, 8, 8, 1), np.int8), binary_data=False)
            plain = client.infer(
                "digits", [image], outputs=[client_library.InferRequestedOutput("scores", binary_data=False)]
            ).as_numpy("scores")
            assert binary.shape == (2, 10)
            assert np.array_equal(binary, plain)
        finally:
            client.close()


def test_real_photographs_are_recognised(tmp_path: Path) -> None:
    model = shared_data("mobilenet_v2_1.0_224_quant.tflite")
    directory = tmp_path / "models" / "mobilenet" / "1"
    directory.mkdir(parents=True)
    shutil.copy(model, directory / "model.tflite")
    shutil.copy(shared_data("imagenet_labels.txt"), directory / "labels.txt")
    with serving(tmp_path, tmp_path / "models") as server:
        for picture, label in (("cat", "Egyptian cat"), ("bird", "chickadee"), ("grace_hopper", "military uniform")):
            body = shared_data(f"{picture}.bmp").read_bytes()
            answer = server.json("/v1/models/mobilenet:predict?top=1", body, {"Content-Type": "image/bmp"})
            assert answer["predictions"][0][0]["label"] == label
            answer = server.json("/v2/models/mobilenet/infer?classification=1", body, {"Content-Type": "image/bmp"})
            assert answer["outputs"][0]["data"][0].endswith(label)
