"""Nothing on the event loop waits for a disk, a lock or another process, whatever the server does."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.functional.asked import Asker, until_ready
from tests.functional.broker import running_broker
from tests.functional.grpc_client import ON_LOOPBACK, WITHIN_S, call, outputs, port_of, predict_request, raw
from tests.functional.raw import ask
from tests.functional.server import Running, configuration, serving
from tests.functional.zoo import DIGITS, HALF, HALVED, PIXELS, half, publish
from tests.waiting import until_blocking

pytest.importorskip("blockbuster")
MODULE = "tests.functional.on_blockbuster"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def blocking(tmp_path: Path) -> Path:
    """Where the stacks of blocking calls go."""
    return tmp_path / "blocking"


def environment(blocking: Path) -> dict[str, str]:
    return {"BLOCKING_LOG": str(blocking), "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}


def test_a_blocking_call_would_be_noticed(tmp_path: Path, blocking: Path) -> None:
    code = f"import asyncio, os; from {MODULE} import watch; watch()\nasync def sleep(): os.stat('/')\nasyncio.run(sleep())"
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment(blocking)},
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert b"BlockingError" in ended.stderr
    assert "in sleep" in blocking.read_text()


def test_no_request_swap_reload_or_admin_call_blocks_the_event_loop(tmp_path: Path, blocking: Path) -> None:
    file, tokens = tmp_path / "edge.toml", tmp_path / "tokens"
    tokens.write_text("secret\n")
    models = tmp_path / "models"
    shutil.copytree(DIGITS / "1", models / "digits" / "1")
    server_section = f'[http]\naccess_log = true\nmodel_control = true\nuds = "{tmp_path / "http.sock"}"\n[repository]\npath = "{models}"\n'
    configuration(file, {"half": half(tmp_path)}, server_section)
    with serving(tmp_path, "--config", file, environment=environment(blocking), module=MODULE) as server:
        for target in ("/", "/stats", "/metrics", "/openapi.json", "/v2", "/v2/models", "/v1/models/half/metadata"):
            assert ask(server.port, "GET", target).status == 200
        requests(server)
        swap(server, models)
        ask(server.admin, "POST", "/v1/reload")
        assert ask(server.admin, "POST", "/v1/models/half/unload").status == 200
        assert ask(server.port, "POST", "/v2/repository/models/half/load", b"").status == 200
        configuration(file, {"half": half(tmp_path), "added": half(tmp_path)}, server_section)
        server.process.send_signal(signal.SIGHUP)
        until_blocking(lambda: ask(server.port, "POST", "/v1/models/added:predict", HALF).status == 200)
        file.write_text("[")
        server.process.send_signal(signal.SIGHUP)
        until_blocking(lambda: "not reloaded" in server.log.read_text())
        assert ask(tmp_path / "http.sock", "POST", "/v1/models/half:predict", HALF).json() == HALVED
    assert blocking.read_text() == ""


def test_no_request_over_mqtt_and_no_trouble_of_its_broker_blocks_the_event_loop(
    tmp_path: Path, blocking: Path, mosquitto: str
) -> None:
    names = tmp_path / "password"
    names.write_text("secret")
    with running_broker(mosquitto, tmp_path / "broker") as broker:
        told = {"mqtt.host": "localhost", "mqtt.port": broker.port, "mqtt.username": "me", "mqtt.password_file": names}
        flags = [part for key, value in told.items() for part in ("--set", f"{key}={value}")]
        more = ("--model", f"half={half(tmp_path)}", "--model", f"digits={DIGITS / '1'}", "--set", "mqtt.node=cam-1")
        with serving(tmp_path, *more, *flags, environment=environment(blocking), module=MODULE) as server:
            for end in (broker.stop, broker.kill):
                with broker.peer() as peer:
                    until_ready(peer, "half")
                    until_ready(peer, "digits")
                    asker = Asker(peer, server=server)
                    assert asker.ask("half", HALF).json == HALVED
                    assert asker.ask("half", json.dumps({"instances": [1.0] * 300_000}).encode()).status == 200
                    assert asker.ask("digits", b"\x89PNG\r\n\x1a\n").status == 400
                end()
                broker.start()
            assert ask(server.port, "GET", "/metrics").status == 200
    assert blocking.read_text() == ""


def test_to_be_announced_blocks_it_neither(tmp_path: Path, blocking: Path) -> None:
    options = ("--set", "advertise.interfaces=lo", "--set", "advertise.http=true")
    with serving(tmp_path, half(tmp_path), *options, environment=environment(blocking), module=MODULE) as server:
        until_blocking(lambda: "announced as" in server.log.read_text(), server.log.read_text)
    assert blocking.read_text() == ""


def requests(server: Running) -> None:
    """Small and large, good and bad, in both protocols."""
    predict, infer = "/v1/models/half:predict", "/v2/models/half/infer"
    large = json.dumps({"instances": [1.0] * 500_000}).encode()
    for body, status in ((HALF, 200), (b"{", 400), (large, 200)):
        assert ask(server.port, "POST", predict, body).status == status
    tensor = {"name": "x", "datatype": "FP32", "shape": [500_000], "data": [1.0] * 500_000}
    assert ask(server.port, "POST", infer, json.dumps({"inputs": [tensor]}).encode()).status == 200
    assert ask(server.port, "POST", infer, b"[" * 100_000).status == 400
    assert (
        ask(server.port, "POST", "/v1/models/digits:predict", json.dumps({"instances": [PIXELS]}).encode()).status
        == 200
    )
    assert (
        ask(server.port, "POST", "/v1/models/digits:predict", b"\x89PNG\r\n\x1a\n", ["Content-Type: image/png"]).status
        == 400
    )


def swap(server: Running, models: Path) -> None:
    publish(DIGITS / "2", models / "digits" / "2")
    until_blocking(
        lambda: (
            b'"digits","version":"2","state":"READY"' in ask(server.port, "POST", "/v2/repository/index", b"{}").body
        )
    )
    broken = models.parent / "broken"
    broken.mkdir()
    (broken / "model.tflite").write_bytes(b"\0" * 100)
    publish(broken, models / "digits" / "3")
    until_blocking(lambda: "digits@3: failed" in server.log.read_text())


def test_no_call_over_grpc_blocks_the_event_loop(tmp_path: Path, blocking: Path) -> None:
    grpc = pytest.importorskip("grpc")
    shutil.copytree(DIGITS / "1", tmp_path / "models" / "digits" / "1")
    arguments = (*ON_LOOPBACK, "--set", f"grpc.uds={tmp_path / 'grpc.sock'}", "--model-control")
    with (
        serving(tmp_path, tmp_path / "models", *arguments, environment=environment(blocking), module=MODULE) as server,
        grpc.insecure_channel(f"127.0.0.1:{port_of(server)}") as channel,
    ):
        pixels = np.array(PIXELS, np.int8)[None]
        assert outputs(call(channel, "Predict", predict_request("digits", image=pixels)))["scores"].shape == (1, 10)
        many = np.zeros((20_000, 8, 8, 1), np.int8)  # more than is read on the loop
        assert len(outputs(call(channel, "Predict", predict_request("digits", image=many)))["scores"]) == 20_000
        for name in ("ServerMetadata", "ModelMetadata", "ModelConfig", "ModelStatistics", "RepositoryIndex"):
            about = b"" if name in ("ServerMetadata", "RepositoryIndex") else b"\x0a\x06digits"
            assert raw(channel, f"/inference.GRPCInferenceService/{name}")(about, timeout=WITHIN_S)
        assert raw(channel, "/grpc.health.v1.Health/Check")(b"", timeout=WITHIN_S) == b"\x08\x01"
    assert blocking.read_text() == ""
