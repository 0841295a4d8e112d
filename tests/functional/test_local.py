"""Unix sockets: the one for clients, and the admin socket that the agent and a person's tools use."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.functional.raw import Wire, answers, ask, connect
from tests.functional.server import Running, serving
from tests.functional.zoo import DIGITS, HALF, HALVED, half, publish, zoo
from tests.waiting import until_blocking

PREDICT = "/v1/models/half:predict"


def edge(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


# -- --uds


def test_http_is_served_on_a_unix_socket_under_any_host_and_to_its_group(tmp_path: Path) -> None:
    uds = tmp_path / "run" / "http.sock"
    with serving(tmp_path, half(tmp_path), "--uds", uds):
        assert uds.stat().st_mode & 0o777 == 0o660
        assert ask(uds, "POST", PREDICT, HALF).json() == HALVED
        with Wire(uds) as wire:
            assert wire.ask(b"GET /v2/health/live HTTP/1.1\r\nHost: anything.example\r\n\r\n").status == 200
        (tmp_path / "request.json").write_bytes(HALF)
        said = edge("predict", "half", tmp_path / "request.json", "--uds", uds)
        assert json.loads(said.stdout) == HALVED
    assert not uds.exists(), "it goes with the server"


def test_a_server_may_listen_on_a_unix_socket_alone(tmp_path: Path) -> None:
    uds = tmp_path / "http.sock"
    with serving(tmp_path, half(tmp_path), "--uds", uds) as with_port:
        assert with_port.port
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "edge", "serve", str(half(tmp_path)), "--set", "http.host=", "--uds", str(uds)),
            *("--set", "admin.uds=", "--state-dir", str(tmp_path / "state")),
        ],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        until_blocking(lambda: uds.exists() and answers(uds, "/v2/health/ready"))
        assert ask(uds, "POST", PREDICT, HALF).json() == HALVED
        process.terminate()
        _, said = process.communicate(timeout=20)
        assert process.returncode == 0
        assert f"serving at {uds}" in said
        assert "http://" not in said
    finally:
        process.kill()
        process.communicate()


def test_a_socket_left_by_a_killed_server_is_replaced_and_a_living_ones_is_not(tmp_path: Path) -> None:
    uds, model = tmp_path / "http.sock", half(tmp_path)
    with serving(tmp_path, model, "--uds", uds) as first:
        first.kill()
    assert uds.is_socket()
    with serving(tmp_path, model, "--uds", uds):
        assert ask(uds, "POST", PREDICT, HALF).json() == HALVED
        second = edge(
            "serve", model, "--port", "0", "--uds", uds, "--state-dir", tmp_path / "second", "--set", "admin.uds="
        )
        assert second.returncode == 1
        assert f"cannot start: {uds}: another server listens there" in second.stderr
        assert ask(uds, "POST", PREDICT, HALF).json() == HALVED


def test_a_file_in_the_socket_s_place_is_left_alone(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("data")
    ended = edge("serve", half(tmp_path), "--port", "0", "--uds", precious, "--state-dir", tmp_path / "state")
    assert ended.returncode == 1
    assert "exists and is no socket" in ended.stderr
    assert precious.read_text() == "data"


# -- the admin socket


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return zoo(tmp_path_factory.mktemp("zoo"))


@pytest.fixture(scope="module")
def server(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One server for all; a test leaves each model of version 1 as it was."""
    with serving(tmp_path_factory.mktemp("admin"), models, "--set", "admin.mode=0600") as running:
        yield running


def status(server: Running) -> Any:
    answer = ask(server.admin, "GET", "/v1/status")
    assert answer.status == 200
    return answer.json()


def test_the_admin_socket_is_its_users_alone(server: Running, tmp_path: Path) -> None:
    assert server.admin.stat().st_mode & 0o777 == 0o600
    assert ask(server.port, "GET", "/v1/status").status == 400, "and not on the port"
    assert ask(server.port, "POST", "/v1/reload").status == 400
    (tmp_path / "open").mkdir()
    with serving(tmp_path / "open", half(tmp_path)) as other:
        assert other.admin.stat().st_mode & 0o777 == 0o660, "where its group is let in, as by default"


def test_the_status_has_every_version_with_its_reason_counters_and_window(
    server: Running, models: Path, tmp_path: Path
) -> None:
    before, total = (status(server)["models"]["half"]["versions"]["1"][each] for each in ("window", "totals"))
    for body in (HALF, HALF, b'{"instances": ["x"]}'):
        ask(server.port, "POST", PREDICT, body)
    ask(server.port, "POST", "/v1/models/pick:predict", b'{"instances": [7000000]}')
    ask(server.port, "POST", PREDICT, b'{"instances": [NaN]}')
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "model.tflite").write_bytes(b"\0" * 100)
    publish(broken, models / "half" / "2")
    until_blocking(lambda: "2" in status(server)["models"]["half"]["versions"])
    until_blocking(lambda: status(server)["models"]["half"]["versions"]["2"]["state"] == "failed")
    told = status(server)
    assert told["boot_id"]
    assert told["version"]
    assert told["models"].keys() == {"half", "words", "ints", "flags", "sum", "pick", "digits"}
    first, second = (told["models"]["half"]["versions"][number] for number in ("1", "2"))
    assert (first["state"], first["device"], first["reason"]) == ("ready", "cpu", "")
    assert "model.tflite" in second["reason"]
    window = first["window"]
    assert window["requests"] - before["requests"] == 4
    assert (window["failures"], window["non_finite"]) == (0, 1)
    assert 0 < window["run_p50_s"] <= window["run_p99_s"] < 1
    grown = {key: count - total[key] for key, count in first["totals"].items()}
    assert grown == {"requests": 4, "answered": 3, "failures": 0, "non_finite": 1}
    assert told["models"]["pick"]["versions"]["1"]["window"]["failures"] == 1
    assert told["models"]["pick"]["versions"]["1"]["totals"]["failures"] == 1
    assert ask(server.admin, "GET", "/v1/status").json()["boot_id"] == told["boot_id"]


def test_the_status_says_how_the_process_before_ended(tmp_path: Path) -> None:
    with serving(tmp_path, half(tmp_path)) as first:
        assert status(first)["last_exit"] == "clean", "there was none"
    with serving(tmp_path, half(tmp_path)) as second:
        assert status(second)["last_exit"] == "clean"
        second.kill()
    with serving(tmp_path, half(tmp_path)) as third:
        assert status(third)["last_exit"] == "killed"


def test_unload_and_load_over_the_admin_socket(server: Running) -> None:
    assert ask(server.admin, "POST", "/v1/models/half/unload").status == 200
    assert ask(server.port, "POST", PREDICT, HALF).status == 404
    assert ask(server.port, "POST", "/v1/models/words:predict", b'{"instances": ["a"]}').status == 200
    until_blocking(lambda: status(server)["models"]["half"]["versions"]["1"]["state"] == "unloaded")
    assert ask(server.admin, "POST", "/v1/models/half/load").status == 200
    assert ask(server.port, "POST", PREDICT, HALF).json() == HALVED
    for verb in ("load", "unload"):
        nope = ask(server.admin, "POST", f"/v1/models/nope/{verb}")
        assert nope.status == 404
        assert "no such model" in nope.error


def test_reload_looks_again_and_tries_what_failed(server: Running, models: Path, tmp_path: Path) -> None:
    version = models / "digits" / "2"
    shutil.copytree(DIGITS / "2", tmp_path / "whole")
    (tmp_path / "whole" / "golden.npz").write_bytes(b"no archive")
    publish(tmp_path / "whole", version)
    until_blocking(lambda: status(server)["models"]["digits"]["versions"].get("2", {}).get("state") == "failed")
    before = server.log.read_text().count("digits@2: failed")
    assert ask(server.admin, "POST", "/v1/reload").status == 200
    until_blocking(lambda: server.log.read_text().count("digits@2: failed") > before)
    shutil.copy(DIGITS / "2" / "golden.npz", version / "golden.npz")
    until_blocking(lambda: status(server)["models"]["digits"]["versions"]["2"]["state"] == "ready")


def test_what_the_admin_socket_does_not_know_is_refused_and_its_path_is_its_lock(server: Running) -> None:
    assert ask(server.admin, "GET", "/v2").status == 404
    for verb, target, allowed in (
        ("POST", "/v1/status", "GET"),
        ("GET", "/v1/reload", "POST"),
        ("GET", "/v1/models/half/unload", "POST"),
    ):
        answer = ask(server.admin, verb, target)
        assert (answer.status, answer.headers["allow"]) == (405, allowed)
    with Wire(server.admin) as wire:
        assert wire.ask(b"GET /v1/status HTTP/1.1\r\nHost: evil.example\r\n\r\n").status == 200, "no browser reaches it"
        wire.send(b"not http\r\n\r\n")
        assert wire.answer().status == 400
    assert ask(server.admin, "POST", "/v1/models/%2e%2e%2fhalf/unload").status == 404
    assert status(server)["ready"]


def test_a_second_server_does_without_the_admin_socket_and_says_so(server: Running, tmp_path: Path) -> None:
    log = tmp_path / "second.log"
    with log.open("wb") as file:
        command = [
            sys.executable,
            "-m",
            "edge",
            "serve",
            str(half(tmp_path)),
            "--port",
            "0",
            "--set",
            f"admin.uds={server.admin}",
        ]
        second = subprocess.Popen(
            [*command, "--state-dir", str(tmp_path / "second")], stderr=file, stdin=subprocess.DEVNULL
        )
    try:
        until_blocking(lambda: "serving at" in log.read_text())
        assert f"no admin socket: {server.admin}: another server listens there" in log.read_text()
        assert len(status(server)["models"]) == 7, "the first one's"
        second.terminate()
        assert second.wait(20) == 0
        assert status(server)["ready"], "and it is still there when the second has gone"
    finally:
        second.kill()
        second.wait()


def test_a_thousand_connections_to_the_admin_socket_do_not_lock_the_agent_out(server: Running) -> None:
    idle = [connect(server.admin) for _ in range(1_000)]
    assert status(server)["ready"]
    for each in idle:
        each.close()
