"""The examples of the README, typed as they stand against the model of the demo; only the port is another."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.functional.broker import running_broker
from tests.functional.grpc_client import ON_LOOPBACK, port_of
from tests.functional.server import Running, serving
from tests.functional.zoo import DIGITS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
EXAMPLES = re.findall(r"(?ms)^```(sh|python)\n(.*?)^```$", README)
OVER_MQTT = [code for _, code in EXAMPLES if "mosquitto_" in code]
BLOCKS = [(language, code) for language, code in EXAMPLES if code not in OVER_MQTT]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    path = tmp_path_factory.mktemp("readme")
    shutil.copytree(DIGITS / "2", path / "models" / "digits" / "2")
    with serving(path, path / "models", *ON_LOOPBACK) as running:
        yield running


@pytest.mark.parametrize(("language", "code"), BLOCKS, ids=[code.splitlines()[0][:40] for _, code in BLOCKS])
def test_an_example_does_what_it_shows(server: Running, language: str, code: str) -> None:
    assert "localhost:8501" in code or "localhost:8500" in code
    code = code.replace("localhost:8501", f"localhost:{server.port}")
    code = code.replace("localhost:8500", f"127.0.0.1:{port_of(server)}")
    if language == "python" and "tritonclient" in code:
        pytest.importorskip("tritonclient.http")
    command = (
        [sys.executable, "-c", code] if language == "python" else ["sh", "-ec", code.replace("curl ", "curl -fsS ")]
    )
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    if "classification" in code:
        (shown,) = re.findall(r"(?m)^    (\{\"model_name\":.*\})$", README)
        assert json.loads(done.stdout) == json.loads(shown)
    if "says" in code:
        says, truth = (re.findall(r"\d", part) for part in done.stdout.split("is"))
        assert says == truth


def test_there_are_examples_of_every_protocol() -> None:
    text = "".join(code for _, code in BLOCKS)
    assert all(word in text for word in ("/v1/models", "/v2/models", "tritonclient.http", "tritonclient.grpc"))


@pytest.fixture(scope="module")
def broker_port(mosquitto: str, mosquitto_pub: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Of a broker with a server on it, which has the node's name and the model of the demo."""
    path = tmp_path_factory.mktemp("readme-mqtt")
    shutil.copytree(DIGITS / "2", path / "models" / "digits" / "2")
    with running_broker(mosquitto, path / "broker") as broker:
        environment = dict(re.findall(r"(EDGE_MQTT__\w+)=(\w+)", README))
        assert environment == {"EDGE_MQTT__HOST": "localhost", "EDGE_MQTT__NODE": "demo"}
        environment |= {"EDGE_MQTT__HOST": "127.0.0.1", "EDGE_MQTT__PORT": str(broker.port)}
        with broker.peer() as peer:
            peer.subscribe("edge/v1/demo/models/digits")
            with serving(path, path / "models", environment=environment):
                peer.wait_for("edge/v1/demo/models/digits", lambda said: b'"ready"' in said)
                yield broker.port


@pytest.mark.parametrize("code", OVER_MQTT, ids=["status", "rr", "pub"])
def test_an_example_over_mqtt_does_what_it_shows(broker_port: int, code: str) -> None:
    if "mosquitto_rr" in code and shutil.which("mosquitto_rr") is None:
        pytest.skip("no mosquitto_rr")
    code = re.sub(r"(mosquitto_\w+) ", rf"\1 -p {broker_port} ", code)
    done = subprocess.run(["sh", "-ec", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    if "status" in code:
        online, model = done.stdout.splitlines()
        assert online == "online"
        assert json.loads(model)["state"] == "ready"
    elif "mosquitto_rr" in code:
        assert json.loads(done.stdout)["outputs"][0]["data"] == ["0.996094:0:zero"]
    else:
        topic, _, payload = done.stdout.partition(": ")
        assert topic == "edge/v1/_reply/me/2"
        assert json.loads(payload)["outputs"][0]["shape"] == [1, 10]
