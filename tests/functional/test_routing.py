"""Weights and shadows in a real server: over REST v1, v2, gRPC and MQTT alike, and while the configuration changes.

A version multiplies by its number, so an answer to 1 tells which version gave it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import psutil
import pytest

from tests import tflite_models
from tests.functional.asked import Asker, on_broker, until_ready
from tests.functional.broker import running_broker
from tests.functional.crowd import Crowd
from tests.functional.grpc_client import call, outputs, predict_request, serving_grpc
from tests.functional.repository import Repository, answer, model_status, reach
from tests.functional.server import Running, serving
from tests.waiting import until_blocking

KEYS = [f"device-{number}" for number in range(40)]
HALF_AND_HALF = (
    'labels = { stable = 1, canary = 2 }\nweights = { stable = 50, canary = 50 }\nsticky_header = "X-Edge-Key"\n'
)
ONE = {"instances": [1.0]}
V2 = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1.0]}]}


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """Versions 1 and 2 of `m`."""
    made = Repository(tmp_path / "models")
    for version in (1, 2):
        made.put("m", version)
    return made


def configure(tmp_path: Path, more: str) -> Path:
    file = tmp_path / "edge.toml"
    new = tmp_path / "edge.toml.new"
    new.write_text(f'[models.m]\npath = "models/m"\npolicy = "all"\n{more}')
    return new.rename(file)


@contextmanager
def routed(tmp_path: Path, more: str = HALF_AND_HALF) -> Iterator[Running]:
    with serving(tmp_path, "--config", configure(tmp_path, more)) as server:
        reach(server, "m", v1="ready", v2="ready")
        yield server


def v1(server: Running, key: str = "") -> int:
    headers = {"x-edge-key": key} if key else None
    return int(server.json("/v1/models/m:predict", ONE, headers)["predictions"][0])


def v2(server: Running, key: str) -> int:
    said = server.json("/v2/models/m/infer", V2, {"X-EDGE-KEY": key})
    assert said["outputs"][0]["data"] == [float(said["model_version"])]
    return int(said["model_version"])


def counts(server: Running, name: str) -> dict[str, float]:
    """Samples by their labels as they stand."""
    found = {}
    for line in server.ask("/metrics")[1].decode().splitlines():
        if line.startswith(name + "{"):
            labels, value = line.removeprefix(name).rsplit(" ", 1)
            found[labels] = float(value)
    return found


def copies(server: Running, result: str, version: int = 2) -> float:
    return counts(server, "edge_shadow_copies_total").get(f'{{model="m",result="{result}",version="{version}"}}', 0)


def test_a_key_has_the_same_version_over_both_protocols_and_the_weights_share_out_the_keys(
    repository: Repository, tmp_path: Path
) -> None:
    with routed(tmp_path) as server:
        first = {key: v1(server, key) for key in KEYS}
        assert {key: v2(server, key) for key in KEYS} == first
        ones = list(first.values()).count(1)
        assert 8 <= ones <= 32
        assert counts(server, "edge_routed_requests_total") == {
            '{model="m",side="stable",version="1"}': 2.0 * ones,
            '{model="m",side="canary",version="2"}': 2.0 * (len(KEYS) - ones),
        }
        assert {v1(server) for _ in range(40)} == {1, 2}, "without a key, each request by itself"
        assert answer(server, "m", "/versions/1") == 1
        assert answer(server, "m", "/labels/canary") == 2


def test_a_key_has_the_same_version_over_grpc(repository: Repository, tmp_path: Path) -> None:
    asked = predict_request("m", x=np.array([1.0], np.float32))
    config = configure(tmp_path, HALF_AND_HALF)
    with serving_grpc(tmp_path, "--config", config) as (server, port), grpc.insecure_channel(f"127.0.0.1:{port}") as to:
        reach(server, "m", v1="ready", v2="ready")

        def over_grpc(key: str) -> int:
            return int(outputs(call(to, "Predict", asked, metadata=[("x-edge-key", key)]))["y"][0])

        assert {key: over_grpc(key) for key in KEYS} == {key: v1(server, key) for key in KEYS}


def test_a_key_has_the_same_version_over_mqtt(mosquitto: str, repository: Repository, tmp_path: Path) -> None:
    config = configure(tmp_path, HALF_AND_HALF)
    with (
        running_broker(mosquitto, tmp_path / "broker") as broker,
        on_broker(tmp_path, broker, "--config", config) as server,
    ):
        reach(server, "m", v1="ready", v2="ready")
        with broker.peer() as peer:
            until_ready(peer, "m")
            asker = Asker(peer, server=server)

            def over_mqtt(key: str) -> int:
                given = asker.ask("m", json.dumps(ONE).encode(), UserProperty=[("x-edge-key", key)])
                assert given.user is not None
                assert given.json["predictions"] == [float(given.user["version"])]
                return int(given.user["version"])

            assert {key: over_mqtt(key) for key in KEYS} == {key: v1(server, key) for key in KEYS}
        with broker.peer(version="3.1.1") as peer:
            given = Asker(peer, server=server).ask("m", json.dumps(ONE).encode())
            assert given.json["predictions"] in ([1.0], [2.0])


def test_status_and_metadata_show_where_requests_go(repository: Repository, tmp_path: Path) -> None:
    weights = 'labels = { stable = 1 }\nweights = { stable = 90, 7 = 10 }\nshadow = "2"\nshadow_share = 0.5\n'
    with routed(tmp_path, weights) as server:
        told = model_status(server, "m")["routing"]
        assert told["problem"] == "7: not ready"
        assert told["sides"] == [
            {"name": "stable", "weight": 90.0, "version": 1, "ready": True},
            {"name": "7", "weight": 10.0, "version": 7, "ready": False},
        ]
        assert server.json("/v2/models/m")["parameters"]["routing"] == {
            "weights": {
                "stable": {"weight": 90.0, "version": "1", "ready": True},
                "7": {"weight": 10.0, "version": "7", "ready": False},
            },
            "sticky_header": "",
            "shadow": {"name": "2", "share": 0.5, "version": "2", "ready": True},
        }
        assert {v1(server, key) for key in KEYS} == {1}, "what is not ready is passed over"
        assert {row["version"] for row in server.json("/v1/models/m")["model_version_status"]} == {"1", "2"}


def test_the_command_line_shows_where_requests_go(repository: Repository, tmp_path: Path) -> None:
    with routed(tmp_path, 'weights = { 1 = 90, gone = 10 }\nshadow = "2"\n') as server:
        command = [sys.executable, "-m", "edge", "models", "show", "m", "--url", server.url]
        said = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
        shown = [line.split() for line in said.splitlines()]
        assert ["weight", "1", "90", "version", "1"] in shown
        assert ["weight", "gone", "10", "version", "?:", "not", "ready"] in shown
        assert ["shadow", "2", "1", "version", "2"] in shown


def test_a_side_that_comes_later_takes_its_share_and_one_that_goes_leaves_it(
    repository: Repository, tmp_path: Path
) -> None:
    with routed(tmp_path, 'weights = { 2 = 50, 3 = 50 }\nsticky_header = "x-edge-key"\n') as server:
        assert {v1(server, key) for key in KEYS} == {2}
        repository.put("m", 3)
        reach(server, "m", v3="ready")
        assert {v1(server, key) for key in KEYS} == {2, 3}
        repository.drop("m", 3)
        reach(server, "m", v3="unloaded")
        assert {v1(server, key) for key in KEYS} == {2}
        repository.drop("m", 2)
        reach(server, "m", v2="unloaded")
        assert {v1(server, key) for key in KEYS} == {1}, "any version is better than none"


def test_new_weights_take_hold_at_a_reload_under_load_and_no_request_fails(
    repository: Repository, tmp_path: Path
) -> None:
    with routed(tmp_path) as server:
        crowd = Crowd(server.port, "/v1/models/m:predict", json.dumps(ONE).encode())
        before = {key: v1(server, key) for key in KEYS}
        with crowd.asking():
            for canary in (100, 0, 75):
                weights = f"weights = {{ stable = {100 - canary}, canary = {canary} }}"
                shadow = 'shadow = "stable"\n' if canary == 75 else ""
                configure(tmp_path, HALF_AND_HALF.replace("weights = { stable = 50, canary = 50 }", weights) + shadow)
                server.process.send_signal(signal.SIGHUP)
                wanted = {100: {2}, 0: {1}}.get(canary)
                if wanted is None:
                    until_blocking(lambda: model_status(server, "m")["routing"]["shadow"] is not None)
                else:
                    until_blocking(lambda wanted=wanted: {v1(server, key) for key in KEYS[:8]} == wanted)  # type: ignore[misc]
        assert crowd.outcomes.keys() == {"200"}
        assert crowd.outcomes["200"] > 100
        after = {key: v1(server, key) for key in KEYS}
        assert all(after[key] == 2 for key, version in before.items() if version == 2), "the canary has only grown"
        loads = server.log.read_text().count("m@1: ready")
        assert loads == 1, "no version was loaded again"


def test_weights_that_mean_nothing_are_refused_and_the_old_ones_hold(repository: Repository, tmp_path: Path) -> None:
    with routed(tmp_path, "weights = { 1 = 1 }\n") as server:
        configure(tmp_path, "weights = { 1 = 0 }\n")
        server.process.send_signal(signal.SIGHUP)
        until_blocking(lambda: "models.m.weights: want at least one weight above 0" in server.log.read_text())
        assert v1(server) == 1


def ask_until(server: Running, result: str, path: str = "/v1/models/m:predict", body: object = ONE) -> None:
    """A copy is run when there is time: some requests, one after the other, until one has come to that."""

    def come() -> float:
        status, said = server.ask(path, body)
        assert status == 200, said
        return copies(server, result)

    until_blocking(come, lambda: counts(server, "edge_shadow_copies_total"))


def test_a_shadows_answers_are_compared_and_counted_and_never_seen(repository: Repository, tmp_path: Path) -> None:
    with routed(tmp_path, 'weights = { 1 = 1 }\nshadow = "2"\n') as server:
        until_blocking(lambda: _shadow_loaded(server))
        assert v1(server) == 1
        ask_until(server, "different")
        assert model_status(server, "m")["routing"]["difference"] == (
            "version 2: different: y: 1 of 1 elements differ, first 1.0 and 2.0"
        )
        ask_until(server, "same", body={"instances": [0.0]})
        requests = counts(server, "edge_requests_total")
        assert not [labels for labels in requests if 'version="2"' in labels], "a copy is no request"
        assert counts(server, "edge_shadow_inference_seconds_count")['{model="m",version="2"}'] >= 2


def test_scores_of_classes_are_the_same_where_the_best_class_is(tmp_path: Path) -> None:
    names = {"labels.txt": b"cat\ndog\n"}
    first, second = ({"model.tflite": tflite_models.scaling(factor, (1, 2))} | names for factor in (1.0, 2.0))
    config = shadowed(tmp_path, first, second)
    with serving(tmp_path, "--config", config) as server:
        reach(server, "m", v1="ready", v2="ready")
        body = {"instances": [[1.0, 2.0]]}
        until_blocking(lambda: server.json("/v1/models/m:predict", body) and copies(server, "same"))
        assert not copies(server, "different"), "though every score is another"


def _shadow_loaded(server: Running) -> bool:
    """Copies are taken once their instance is there."""
    v1(server)
    return sum(counts(server, "edge_shadow_copies_total").values()) > copies(server, "not_ready")


Files = bytes | Mapping[str, bytes]


def shadowed(tmp_path: Path, first: Files, second: Files, more: str = "") -> Path:
    """The configuration: version 1 answers, version 2 is the shadow."""
    repository = Repository(tmp_path / "models")
    repository.put("m", 1, first)
    repository.put("m", 2, second)
    return configure(tmp_path, f'weights = {{ 1 = 1 }}\nshadow = "2"\ninstances = 1\n{more}')


def test_a_shadow_that_fails_fails_no_request(tmp_path: Path) -> None:
    config = shadowed(tmp_path, tflite_models.picking([1.0] * 8), tflite_models.picking([1.0] * 4))
    body: Mapping[str, Any] = {"instances": [6]}
    with serving(tmp_path, "--config", config) as server:
        reach(server, "m", v1="ready", v2="ready")
        until_blocking(lambda: _failed_once(server, body))
        assert server.json("/v1/models/m:predict", body) == {"predictions": [1.0]}
        ask_until(server, "same", body={"instances": [1]})
        version = model_status(server, "m")["versions"]["2"]
        assert (version["state"], version["totals"]["failures"]) == ("ready", 0), "that is the shadow's own affair"


def apart(server: Running) -> list[psutil.Process]:
    """The processes that copies run in."""
    found = []
    for each in psutil.Process(server.process.pid).children():
        with suppress(psutil.NoSuchProcess):  # or one that has just ended
            if "edge.backends.tflite_apart:prepare" in each.cmdline():
                found.append(each)
    return found


def test_a_shadow_that_crashes_takes_nothing_with_it_and_is_started_again(
    repository: Repository, tmp_path: Path
) -> None:
    with routed(tmp_path, 'weights = { 1 = 1 }\nshadow = "2"\n') as server:
        until_blocking(lambda: _shadow_loaded(server))
        crowd = Crowd(server.port, "/v1/models/m/versions/2:predict", json.dumps(ONE).encode())
        with crowd.asking():
            (process,) = apart(server)
            process.send_signal(signal.SIGSEGV)
            until_blocking(lambda: server.json("/v1/models/m:predict", ONE) and apart(server) not in ([], [process]))
        assert crowd.outcomes.keys() == {"200"}, "the very same version, where it serves"
        before = copies(server, "different")
        until_blocking(lambda: v1(server) and copies(server, "different") > before)
        (process,) = apart(server)
    psutil.wait_procs([process], timeout=10)
    assert not process.is_running(), "it does not outlive the server"


def test_a_shadow_computes_when_nobody_else_wants_the_processor_and_goes_with_its_configuration(
    repository: Repository, tmp_path: Path
) -> None:
    with routed(tmp_path, 'weights = { 1 = 1 }\nshadow = "2"\n') as server:
        until_blocking(lambda: apart(server))
        (process,) = apart(server)
        until_blocking(lambda: _shadow_loaded(server))
        tasks = [int(task.name) for task in Path(f"/proc/{process.pid}/task").iterdir()]
        assert {os.sched_getscheduler(task) for task in tasks} == {os.SCHED_IDLE}
        configure(tmp_path, "weights = { 1 = 1 }\n")
        server.process.send_signal(signal.SIGHUP)
        until_blocking(lambda: not apart(server))


def _failed_once(server: Running, body: Mapping[str, Any]) -> bool:
    assert server.ask("/v1/models/m:predict", body)[0] == 200
    return copies(server, "failed") > 0


FOR_EVER, SLOW, QUICK = {"inputs": [-1e9]}, {"inputs": [-4e6]}, {"inputs": [0.0]}


@pytest.mark.parametrize(
    ("body", "max_run_s", "result"),
    [(SLOW, 60.0, "different"), (FOR_EVER, 2.0, "failed")],
    ids=["is slow", "hangs"],
)
def test_a_shadow_keeps_no_request_waiting_that(
    body: Mapping[str, Any], max_run_s: float, result: str, tmp_path: Path
) -> None:
    """The version itself, with one interpreter, answers too while its copy runs."""
    first, second = tflite_models.scaling(1.0, (1,)), tflite_models.looping(0.0)
    config = shadowed(tmp_path, first, second, f"max_run_s = {max_run_s}\n")
    with serving(tmp_path, "--config", config, "--set", "server.drain_s=0.2") as server:
        reach(server, "m", v1="ready", v2="ready")
        until_blocking(lambda: _compared(server))
        answered = 0
        while not copies(server, result):
            for path, asked in (("/v1/models/m", body), ("/v1/models/m/versions/2", QUICK)):
                status, said = server.ask(f"{path}:predict", asked)
                assert status == 200, said
                answered += 1
        assert answered > 10, "whoever waits for a copy is the last to be answered before it has ended"
        assert model_status(server, "m")["versions"]["2"]["state"] == "ready"


def _compared(server: Running) -> bool:
    server.json("/v1/models/m:predict", QUICK)
    return copies(server, "same") > 0


def test_a_busy_server_runs_no_copies_and_answers_everything(repository: Repository, tmp_path: Path) -> None:
    with routed(tmp_path, 'weights = { 1 = 1 }\nshadow = "2"\n') as server:
        until_blocking(lambda: _shadow_loaded(server))
        crowd = Crowd(server.port, "/v1/models/m:predict", json.dumps(ONE).encode())
        with crowd.asking():
            until_blocking(lambda: copies(server, "full") > 200)
        assert crowd.outcomes.keys() == {"200"}
