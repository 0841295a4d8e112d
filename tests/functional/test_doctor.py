"""`edge doctor` on this machine: beside a server, beside a stranger at its port, and with libraries of all kinds."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from edge.config.sections import Grpc
from edge.doctor import port as port_module
from edge.doctor.children import Died, probe
from edge.doctor.finding import Level
from edge.doctor.machine import Machine
from edge.doctor.port import Running as Known
from edge.doctor.port import ask_admin, check_grpc, check_port, holders
from tests.functional.server import configuration, serving
from tests.functional.test_commands import edge
from tests.functional.zoo import DIGITS


def doctor(file: Path, code: int = 0) -> dict[str, dict[str, Any]]:
    """The findings of one configuration, by their checks."""
    done = edge("doctor", "--config", file, "--json")
    assert done.returncode == code, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["well"] is (code == 0)
    return {each["check"]: each for each in report["checks"]}


def test_beside_its_own_server_everything_is_well(tmp_path: Path) -> None:
    with serving(tmp_path, "--model", f"digits={DIGITS / '2' / 'model.tflite'}") as server:
        file = tmp_path / "edge.toml"
        settings = f'server.state_dir = "{tmp_path / "state"}"\n'
        settings += f'[http]\nport = {server.port}\n[admin]\nuds = "{server.admin}"\n'
        configuration(file, {"digits": DIGITS / "2" / "model.tflite"}, settings)
        found = doctor(file)
        assert f"held by the server that runs: edge 0.1.0, process {server.process.pid}" in found["port"]["text"]
        assert "ran a small int8 model" in found["runtime"]["text"]
        running = ask_admin(server.admin)
        assert running == Known(server.process.pid, "0.1.0")
        file.write_text(file.read_text().replace(f'uds = "{server.admin}"', f'uds = "{tmp_path / "else"}"'))
        assert (found := doctor(file)["port"])["level"] == "warn", found


def test_a_port_of_somebody_else_fails_and_names_him(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        file = tmp_path / "edge.toml"
        file.write_text(
            f'[http]\nport = {stranger.getsockname()[1]}\n[admin]\nuds = "{tmp_path / "none"}"\n'
            f'[server]\nstate_dir = "{tmp_path}"\n'
        )
        found = doctor(file, code=1)["port"]
        assert (found["level"], f"(process {os.getpid()})" in found["text"]) == ("fail", True)
        done = edge("doctor", "--config", file, "--quiet")
        assert done.returncode == 1
        assert [line.split()[0] for line in done.stdout.splitlines() if not line.startswith(" ")][-1] != "ok"
        assert "fail  port" in done.stdout
        assert "ok " not in done.stdout


@pytest.mark.parametrize(
    ("host", "port", "level"), [("192.0.2.1", 8501, "fail"), ("127.0.0.1", 0, "ok"), ("fe80::1%none0", 1, "fail")]
)
def test_an_address_that_is_not_this_devices_fails(host: str, port: int, level: str) -> None:
    from edge.config import Http

    assert check_port(Machine(), Http(host=host, port=port), None).level is Level(level)


def test_a_port_is_free_or_its_holder_is_found() -> None:
    from edge.config import Http

    with socket.create_server(("::1", 0), family=socket.AF_INET6) as held:
        port = held.getsockname()[1]
        assert holders(Machine(), port) == {os.getpid()}
        assert check_port(Machine(), Http(host="::1", port=port), None).level is Level.FAIL
    assert check_port(Machine(), Http(host="::1", port=port), None).level is Level.OK
    assert check_port(Machine(), Http(host="::1", port=port), Known(1, "0.1.0")).level is Level.WARN


def test_the_port_for_grpc_is_looked_at_as_the_one_for_http_is() -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        found = check_grpc(Machine(), Grpc(host="127.0.0.1", port=port), None)
        assert (found.check, found.level) == ("grpc", Level.FAIL)
        assert (f"(process {os.getpid()})" in found.text, "grpc.port" in found.do) == (True, True)
        assert check_grpc(Machine(), Grpc(host="127.0.0.1", port=port), Known(os.getpid(), "1")).level is Level.OK
    assert "is free" in check_grpc(Machine(), Grpc(host="127.0.0.1", port=port), None).text
    assert check_grpc(Machine(), Grpc(host="192.0.2.1"), None).level is Level.FAIL
    for unwanted in (Grpc(), Grpc(uds=Path("/run/grpc.sock"))):
        assert check_grpc(Machine(), unwanted, None).level is Level.OK


def test_grpc_that_is_wanted_and_not_installed_fails_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(port_module, "PACKAGES", {"grpcio": "no_such_module", "protobuf": "google.no_such_module"})
    found = check_grpc(Machine(), Grpc(host="127.0.0.1", port=0), None)
    assert (found.level, found.text) == (Level.FAIL, "not installed: grpcio, protobuf")
    assert "pip install '.[grpc]'" in found.do
    assert check_grpc(Machine(), Grpc(), None).level is Level.OK


def test_a_configuration_that_is_wrong_fails_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "edge.toml"
    file.write_text("\n[http]\nprot = 1\n")
    assert f"{file}:3: http.prot" in doctor(file, code=1)["configuration"]["text"]


def test_a_library_is_loaded_or_why_not_is_told(
    fake_library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGE_EDGETPU_LIBRARY", str(fake_library))
    assert probe("library") == {"library": str(fake_library)}
    monkeypatch.setenv("EDGE_EDGETPU_LIBRARY", "libc.so.6")
    with pytest.raises(Died, match="tflite_plugin_create_delegate"):
        probe("library")
    monkeypatch.setenv("EDGE_EDGETPU_LIBRARY", str(tmp_path / "libnone.so"))
    with pytest.raises(Died, match=r"libnone\.so"):
        probe("library")


def test_a_runtime_that_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_RUNTIME", "tflite")
    with pytest.raises(Died, match="tflite-runtime"):
        probe("runtime")
