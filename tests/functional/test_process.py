"""The server as a process: signals, full disks, and being killed."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from tests.functional.raw import Wire, answers, ask, connect, request
from tests.functional.server import Running, configuration, serving
from tests.functional.zoo import DIGITS, FOR_EVER, HALF, HALVED, LOOP, PIXELS, half, looping, publish
from tests.waiting import until_blocking

PREDICT = "/v1/models/half:predict"


# -- SIGTERM


def test_sigterm_lets_what_runs_finish_and_takes_nothing_new(tmp_path: Path) -> None:
    with serving(tmp_path, looping(tmp_path)) as server, Wire(server.port) as wire, Wire(server.port) as idle:
        idle.ask(request("GET", "/v2"))
        wire.send(request("POST", LOOP, b'{"inputs": [-8000000]}'))  # a second or more
        until_blocking(lambda: b'edge_queue_depth{model="loop",version="1"} 0.0' in server.ask("/metrics")[1])
        server.process.send_signal(signal.SIGTERM)
        assert idle.rest() == b"", "an idle connection is closed"
        until_blocking(lambda: refused(server.port))
        assert server.process.poll() is None, "the run is still going on"
        answer = wire.answer()
        assert (answer.status, answer.json()) == (200, {"outputs": [0.0]})
        assert answer.headers["connection"] == "close"
        assert server.process.wait(10) == 0


def refused(port: int) -> bool:
    try:
        connect(port).close()
    except ConnectionRefusedError:
        return True
    return False


def test_a_run_that_hangs_does_not_keep_the_server_past_its_drain_time(tmp_path: Path) -> None:
    with serving(tmp_path, looping(tmp_path), "--set", "server.drain_s=1") as server, Wire(server.port) as wire:
        wire.send(request("POST", LOOP, FOR_EVER))
        until_blocking(lambda: processor_seconds(server) > 1.0)  # it runs
        start = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(10) == 0
        took = time.monotonic() - start
        assert 0.9 < took < 8.0
        assert "1 connections did not finish within 1 s (drain_s)" in server.log.read_text()


def processor_seconds(server: Running) -> float:
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_load_that_is_under_way_does_not_keep_the_server_from_ending(tmp_path: Path) -> None:
    models = tmp_path / "models"
    shutil.copytree(DIGITS / "1", models / "digits" / "1")
    with serving(tmp_path, models) as server:
        publish(DIGITS / "2", models / "digits" / "2")
        until_blocking(lambda: "2" in server.ask("/v1/models/digits")[1].decode())  # its trial runs in a child
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(10) == 0


# -- SIGHUP


def test_sighup_takes_up_new_models_and_lets_removed_ones_go(tmp_path: Path) -> None:
    model, file = half(tmp_path), tmp_path / "edge.toml"
    configuration(file, {"kept": model, "removed": model})
    with serving(tmp_path, "--config", file) as server:
        assert server.json("/v1/models/removed:predict", {"instances": [1]}) == HALVED
        configuration(file, {"kept": model, "added": model})
        server.process.send_signal(signal.SIGHUP)
        until_blocking(lambda: server.ask("/v1/models/added:predict", {"instances": [1]})[0] == 200)
        until_blocking(lambda: server.ask("/v1/models/removed")[0] == 404)
        assert server.json("/v1/models/kept:predict", {"instances": [1]}) == HALVED
        status = json.loads(ask(server.admin, "GET", "/v1/status").body)
        assert status["models"].keys() == {"kept", "added"}
        assert list(status["models"]["kept"]["versions"]) == ["1"], "what did not change was not loaded again"


BROKEN = {
    "[models.half\n": "edge.toml",
    "[http]\nprot = 1\n": "prot",
    "": "nothing to serve",
    '[http]\ntoken_file = "/nowhere"\n[models.half]\npath = "/nowhere"\n': "/nowhere",
}


def test_a_broken_configuration_changes_nothing_and_the_log_says_why(tmp_path: Path) -> None:
    model, file = half(tmp_path), tmp_path / "edge.toml"
    configuration(file, {"half": model})
    with serving(tmp_path, "--config", file) as server:
        for number, (broken, why) in enumerate(BROKEN.items()):
            file.write_text(broken)
            server.process.send_signal(signal.SIGHUP)
            until_blocking(partial(complaint, server, number))
            assert why in complaint(server, number)
            assert server.json(PREDICT, {"instances": [1]}) == HALVED
        configuration(file, {"half": model, "added": model})
        server.process.send_signal(signal.SIGHUP)
        until_blocking(lambda: server.ask("/v1/models/added:predict", {"instances": [1]})[0] == 200)


def complaint(server: Running, number: int) -> str:
    """The log's line about the configuration that was refused, in order from 0; empty until there is one."""
    said = "the configuration was not reloaded, the old one holds: "
    found = [line for line in server.log.read_text().splitlines() if said in line]
    return found[number] if number < len(found) else ""


def test_sighup_takes_up_new_tokens(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("old\n")
    with serving(tmp_path, half(tmp_path), "--token-file", tokens) as server:
        tokens.write_text("new\n")
        server.process.send_signal(signal.SIGHUP)
        until_blocking(lambda: server.ask("/v2", headers={"Authorization": "Bearer new"})[0] == 200)
        assert server.ask("/v2", headers={"Authorization": "Bearer old"})[0] == 401


def test_a_hundred_sighups_at_once_harm_nobody(tmp_path: Path) -> None:
    with serving(tmp_path, half(tmp_path)) as server:
        for _ in range(100):
            server.process.send_signal(signal.SIGHUP)
            assert server.json(PREDICT, {"instances": [1]}) == HALVED


# -- logs


def test_a_full_disk_for_logs_costs_no_answer_and_no_clean_end(tmp_path: Path) -> None:
    uds = tmp_path / "http.sock"
    with open("/dev/full", "wb") as full:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "edge", "serve", str(half(tmp_path)), "--access-log", "--log-level", "debug"),
                *("--port", "0", "--uds", str(uds), "--set", "admin.uds=", "--state-dir", str(tmp_path / "state")),
            ],
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=full,
        )
    try:
        until_blocking(
            lambda: process.poll() is not None or (uds.exists() and answers(uds, "/v2/health/ready")), within_s=30
        )
        assert process.poll() is None
        for _ in range(20):
            assert ask(uds, "POST", PREDICT, HALF).json() == HALVED
            assert ask(uds, "POST", PREDICT, b"{").status == 400
        process.send_signal(signal.SIGHUP)
        assert ask(uds, "POST", PREDICT, HALF).json() == HALVED
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()


def test_the_access_log_has_a_line_for_each_request(tmp_path: Path) -> None:
    with serving(tmp_path, half(tmp_path), "--access-log") as server:
        before = server.log.read_text().count("edge.access")
        ask(server.port, "POST", PREDICT, HALF)
        ask(server.port, "GET", "/v2/models/%0d%0aFORGED")
        with Wire(server.port) as wire:
            wire.ask(b"GET /nowhere HTTP/1.1\r\nHost: evil.example\r\n\r\n")
        lines = [line for line in server.log.read_text().splitlines() if "edge.access" in line][before:]
    assert len(lines) == 3
    assert f"POST {PREDICT} 200 " in lines[0]
    assert " 404 " in lines[1]
    assert "GET /nowhere 403 " in lines[2]


def test_json_logs_are_an_object_a_line(tmp_path: Path) -> None:
    with serving(tmp_path, half(tmp_path), "--access-log", "--log-format", "json") as server:
        ask(server.port, "POST", PREDICT, HALF)
        lines = server.log.read_text().splitlines()
    records = [json.loads(line) for line in lines if line.startswith("{")]
    others = [line for line in lines if not line.startswith("{")]
    assert all(line.startswith(("serving at ", "INFO: ")) for line in others), others  # the command's and the runtime's
    asked = [record for record in records if record["logger"] == "edge.access" and record["method"] == "POST"]
    assert [(record["level"], record["target"], record["status"]) for record in asked] == [("info", PREDICT, 200)]
    assert all(record["time"].endswith("Z") for record in records)


# -- kill -9


class Load(threading.Thread):
    """Keeps a server busy until it is gone, and remembers every answer that is not one of those given."""

    def __init__(self, server: Running, right: dict[str, object]) -> None:
        super().__init__(daemon=True)
        self.server, self.right = server, right
        self.wrong: list[object] = []
        self.start()

    def run(self) -> None:
        tensor = {"name": "image", "shape": [1, 8, 8, 1], "datatype": "INT8", "data": [0] * 64}
        body = request("POST", "/v2/models/digits/infer", json.dumps({"inputs": [tensor]}).encode())
        try:
            with Wire(self.server.port) as wire:
                while True:
                    answer = wire.ask(body)
                    got = answer.json()
                    if answer.status != 200 or got["outputs"][0]["data"] != self.right[got["model_version"]]:
                        self.wrong.append(got)
        except (OSError, AssertionError, ValueError):
            return  # the kill cut the answer off


def right_answers(tmp_path: Path) -> dict[str, object]:
    """What each version makes of an empty picture, each served alone."""
    found = {}
    for version in ("1", "2"):
        alone = tmp_path / f"alone{version}"
        shutil.copytree(DIGITS / version, alone / "digits" / version)
        with serving(alone, alone / "digits") as server:
            (found[version],) = server.json("/v1/models/digits:predict", {"instances": [PIXELS]})["predictions"]
    assert found["1"] != found["2"]
    return found


def kill_in_swaps(tmp_path: Path, rounds: int, seed: int) -> None:
    right, chance = right_answers(tmp_path), random.Random(seed)
    models = tmp_path / "models" / "digits"
    shutil.copytree(DIGITS / "1", models / "1")
    for _ in range(rounds):
        shutil.rmtree(models / "2", ignore_errors=True)
        with serving(tmp_path, models.parent) as server:
            loads = [Load(server, right) for _ in range(2)]
            publish(DIGITS / "2", models / "2")
            time.sleep(chance.uniform(0, 1.8))  # the moment of the kill is the point
            server.kill()
            for load in loads:
                load.join(20)
                assert not load.wrong
        with serving(tmp_path, models.parent) as server:
            body = {"inputs": [{"name": "image", "shape": [1, 8, 8, 1], "datatype": "INT8", "data": [0] * 64}]}
            answer = server.json("/v2/models/digits/infer", body)
            assert answer["outputs"][0]["data"] == right[answer["model_version"]]


def test_a_kill_at_any_moment_of_a_swap_under_load_leaves_a_complete_version(tmp_path: Path) -> None:
    kill_in_swaps(tmp_path, rounds=8, seed=11)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_fifty_kills_at_random_moments_of_swaps_each_leave_a_complete_version(tmp_path: Path) -> None:
    kill_in_swaps(tmp_path, rounds=50, seed=12)


def test_a_port_that_is_taken_is_named_with_the_way_out(tmp_path: Path) -> None:
    with serving(tmp_path, half(tmp_path)) as server:
        command = [sys.executable, "-m", "edge", "serve", str(half(tmp_path)), "--port", str(server.port)]
        where = ["--state-dir", str(tmp_path / "other"), "--set", "admin.uds="]
        second = subprocess.run([*command, *where], capture_output=True, text=True, timeout=60, check=False)
    assert second.returncode == 1
    assert f"cannot start: port {server.port} of 127.0.0.1 is taken; --port 0 takes any free one" in second.stderr
