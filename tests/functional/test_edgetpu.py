"""Models on an Edge TPU, as clients and operators meet them: a device that works, refuses, is lost, and hangs.

A stand-in for the library computes (sum of the input's bytes + i) modulo 256 in byte i of the output; the CPU twin gives
its input back, so that an answer tells where it was computed.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from edge.domain.tensors import DType
from tests import tflite_models
from tests.data import shared_data
from tests.functional.repository import Repository, model_status, reach, version_status
from tests.functional.server import Running, serving
from tests.tflite_models import Graph, Sig, T
from tests.waiting import until_blocking

COMPILED = tflite_models.custom("edgetpu-custom-op")
TWIN = tflite_models.make([Graph([T("x", DType.UINT8, (1, 4))], [0], [0])], [Sig({"x": 0}, {"y": 0})])
BOTH = {"model.tflite": COMPILED, "model_cpu.tflite": TWIN}
ASK = {"instances": [[1, 2, 3, 4]]}
BY_DEVICE, BY_TWIN = [10, 11, 12, 13], [1, 2, 3, 4]
USB = "usb:0"


@pytest.fixture
def device(tmp_path: Path) -> Path:
    """What the device does is told by files in this directory: see `fake_delegate.c`."""
    directory = tmp_path / "device"
    directory.mkdir()
    return directory


@contextmanager
def on_device(tmp_path: Path, library: str | Path, device: Path, *names: str, **settings: float) -> Iterator[Running]:
    """The models of `tmp_path/models`, those of `names` on the device; settings are of each, or `drain_s`."""
    drain_s = settings.pop("drain_s", 10.0)
    arguments: list[str | Path] = ["--set", f"server.drain_s={drain_s}"]
    for name in names:
        arguments += ["--model", f"{name}={tmp_path / 'models' / name}", "--set", f"models.{name}.device={USB}"]
        for key, value in settings.items():
            arguments += ["--set", f"models.{name}.{key}={value:g}"]
    environment = {"EDGE_EDGETPU_LIBRARY": str(library), "FAKE_DELEGATE_DIR": str(device)}
    with serving(tmp_path, *arguments, ready=False, environment=environment) as server:
        yield server


def asked(server: Running, name: str = "m") -> list[int]:
    row: list[int] = server.json(f"/v1/models/{name}:predict", ASK)["predictions"][0]
    return row


def log(device: Path) -> list[str]:
    return (device / "log").read_text().splitlines()


def device_metric(server: Running) -> str:
    """The device of version 1 of `m`, as a scrape has it."""
    text = server.ask("/metrics")[1].decode()
    (line,) = (line for line in text.splitlines() if line.startswith("edge_model_info") and 'model="m"' in line)
    return line.split('device="')[1].split('"')[0]


def test_models_on_one_device_answer_from_it_one_run_at_a_time(
    tmp_path: Path, fake_library: Path, device: Path
) -> None:
    models = Repository(tmp_path / "models")
    for name in ("m", "n"):
        models.put(name, 1, COMPILED)
    (device / "slow").touch()
    with on_device(tmp_path, fake_library, device, "m", "n") as server:
        server.wait_ready()
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda n: asked(server, "mn"[n % 2]), range(80)))
        assert answers == [BY_DEVICE] * 80
        assert version_status(server, "m", 1)["device"] == USB
        assert device_metric(server) == USB
    assert "overlap" not in log(device)
    assert log(device).count("close") == log(device).count(f"open {USB}"), "the device is given back"


def test_where_the_library_is_missing_the_twin_serves_and_others_are_not_held_up(tmp_path: Path, device: Path) -> None:
    models = Repository(tmp_path / "models")
    models.put("m", 1, BOTH)
    models.put("lone", 1, COMPILED)
    models.put("plain", 1)
    with on_device(tmp_path, "libnowhere.so.1", device, "m", "lone", "plain") as server:
        reach(server, "m", v1="ready")
        reach(server, "lone", v1="failed")
        reach(server, "plain", v1="ready")
        assert asked(server) == BY_TWIN
        told = version_status(server, "m", 1)
        assert told["device"] == "cpu"
        assert told["notice"].startswith("usb:0: the Edge TPU library libnowhere.so.1 cannot be loaded")
        assert told["notice"].endswith("serving model_cpu.tflite on the CPU")
        assert device_metric(server) == "cpu"
        command = [sys.executable, "-m", "edge", "models", "--url", server.url]
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
        (row,) = (line.split(maxsplit=3) for line in listed if line.startswith("m "))
        assert row[2:] == ["READY", told["notice"]]
        status, body = server.ask("/v1/models/lone:predict", ASK)
        assert status == 503 or b"error" in body
        reason = version_status(server, "lone", 1)["reason"]
        assert "usb:0: the Edge TPU library libnowhere.so.1 cannot be loaded" in reason
        assert "there is no model_cpu.tflite to serve on the CPU instead" in reason
        assert server.ask("/v2/health/ready")[0] == 400, "one model that should be served is not"


def test_a_device_that_somebody_else_has_is_reported_and_used_by_the_next_version(
    tmp_path: Path, fake_library: Path, device: Path
) -> None:
    models = Repository(tmp_path / "models")
    models.put("m", 1, BOTH)
    (device / "refuse").touch()
    with on_device(tmp_path, fake_library, device, "m") as server:
        reach(server, "m", v1="ready")
        assert asked(server) == BY_TWIN
        assert "cannot open it: fake device: somebody else has it" in version_status(server, "m", 1)["notice"]
        (device / "refuse").unlink()
        models.put("m", 2, BOTH)
        reach(server, "m", v2="ready")
        assert asked(server) == BY_DEVICE
        assert version_status(server, "m", 2)["device"] == USB


def test_a_device_that_is_lost_in_a_run_leaves_the_request_to_the_twin(
    tmp_path: Path, fake_library: Path, device: Path
) -> None:
    Repository(tmp_path / "models").put("m", 1, BOTH)
    with on_device(tmp_path, fake_library, device, "m") as server:
        server.wait_ready()
        assert asked(server) == BY_DEVICE
        (device / "fail").touch()
        assert asked(server) == BY_TWIN
        (device / "fail").unlink()
        assert asked(server) == BY_TWIN, "until somebody loads it again"
        told = version_status(server, "m", 1)
        assert told["device"] == "cpu"
        assert told["notice"].startswith("usb:0: fake device: transfer failed")
        assert device_metric(server) == "cpu"
        assert server.ask("/v2/health/ready")[0] == 200
        assert "device lost: usb:0" in server.log.read_text()


def test_without_a_twin_a_lost_device_fails_requests_until_it_is_back(
    tmp_path: Path, fake_library: Path, device: Path
) -> None:
    Repository(tmp_path / "models").put("m", 1, COMPILED)
    with on_device(tmp_path, fake_library, device, "m") as server:
        server.wait_ready()
        (device / "fail").touch()
        status, body = server.ask("/v1/models/m:predict", ASK)
        assert (status, body) == (500, b'{\n    "error": "Failed to invoke TfLite interpreter"\n}')
        assert "no model_cpu.tflite" in server.log.read_text()
        (device / "fail").unlink()
        assert asked(server) == BY_DEVICE


def test_a_run_that_hangs_fails_its_request_and_the_twin_takes_over(
    tmp_path: Path, fake_library: Path, device: Path
) -> None:
    models = Repository(tmp_path / "models")
    models.put("m", 1, BOTH)
    with on_device(tmp_path, fake_library, device, "m", max_run_s=0.3, drain_s=0.5) as server:
        server.wait_ready()
        (device / "hang").touch()
        status, body = server.ask("/v1/models/m:predict", ASK)
        assert (status, body) == (500, b'{\n    "error": "Failed to invoke TfLite interpreter"\n}')
        until_blocking(lambda: version_status(server, "m", 1)["device"] == "cpu", lambda: model_status(server, "m"))
        assert asked(server) == BY_TWIN
        told = version_status(server, "m", 1)
        assert told["notice"].startswith("usb:0: a run has taken longer than 0.3 s (max_run_s)")
        models.put("m", 2, BOTH)
        reach(server, "m", v2="ready")
        assert version_status(server, "m", 2)["device"] == "cpu", "nothing new is sent to a device that hangs"
        assert server.ask("/v2/health/ready")[0] == 200
        stopping = time.monotonic()
    assert time.monotonic() - stopping < 5, "a run that hangs does not keep the server from ending"


def test_after_the_hang_the_device_is_used_again(tmp_path: Path, fake_library: Path, device: Path) -> None:
    models = Repository(tmp_path / "models")
    models.put("m", 1, BOTH)
    with on_device(tmp_path, fake_library, device, "m", max_run_s=0.3) as server:
        server.wait_ready()
        (device / "hang").touch()
        assert server.ask("/v1/models/m:predict", ASK)[0] == 500
        until_blocking(lambda: version_status(server, "m", 1)["device"] == "cpu", lambda: model_status(server, "m"))
        (device / "hang").unlink()
        until_blocking(lambda: "close" in log(device), lambda: log(device))
        models.put("m", 2, BOTH)
        reach(server, "m", v2="ready")
        assert asked(server) == BY_DEVICE


def test_a_model_that_was_compiled_for_the_device_is_known_as_such_before_it_is_loaded(tmp_path: Path) -> None:
    published = shared_data("mobilenet_v1_0.25_128_quant_edgetpu.tflite")
    checked = subprocess.run(
        [sys.executable, "-m", "edge", "check", published], capture_output=True, text=True, timeout=60, check=False
    )
    assert checked.returncode == 5
    assert "edgetpu-custom-op, compiled for the Edge TPU, and the device is cpu" in checked.stdout + checked.stderr
    with serving(tmp_path, published, ready=False) as server:
        name = "mobilenet_v1_0.25_128_quant_edgetpu"
        reach(server, name, v1="failed")
        reason = version_status(server, name, 1)["reason"]
        assert "edgetpu-custom-op, compiled for the Edge TPU, and the device is cpu" in reason
        assert "there is no model_cpu.tflite" in reason
