"""Broken models beside a good one: the good one serves, each of the others says what is wrong with it."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from tests import tflite_models
from tests.functional.repository import Repository, answer, model_status, reach, version_status
from tests.functional.server import Running, serving

GOOD = tflite_models.scaling(1.0)
BROKEN: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "model.tflite"),
    "truncated": (GOOD[: len(GOOD) // 2], "model.tflite"),
    "random": (random.Random(7).randbytes(4096), "model.tflite"),
    "text": (b"<!doctype html><title>404</title>", "model.tflite"),
    "later": (tflite_models.make([tflite_models.Graph([], [], [])], version=4), "version"),
    "unknown_op": (tflite_models.custom("no-such-op"), "no-such-op"),
    "compiled": (tflite_models.custom("edgetpu-custom-op"), "Edge TPU"),
}


def index(server: Running) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in server.json("/v2/repository/index", {})}


def test_each_broken_model_says_what_is_wrong_and_the_good_one_serves(tmp_path: Path) -> None:
    models = Repository(tmp_path / "models")
    models.put("good", 1, GOOD)
    for name, (content, _) in BROKEN.items():
        models.put(name, 1, content)
    (models.path / "file_in_the_way").mkdir()
    (models.path / "file_in_the_way" / "1").write_bytes(GOOD)
    with serving(tmp_path, models.path, "--set", "server.max_load_retries=1", ready=False) as server:
        reach(server, "good", v1="ready")
        for name, (_, words) in BROKEN.items():
            reach(server, name, v1="failed")
            reason = version_status(server, name, 1)["reason"]
            assert words in reason, f"{name}: {reason}"
            assert "Traceback" not in reason
        assert answer(server, "good") == 1.0
        for name in BROKEN:
            status, body = server.ask(f"/v1/models/{name}:predict", {"instances": [1.0]})
            assert (status, b"Servable not found for request" in body) == (404, True), body
            (told,) = server.json(f"/v1/models/{name}")["model_version_status"]
            assert told["state"] == "END"
            assert told["status"]["error_code"] != "OK"
            assert told["status"]["error_message"]
            assert server.ask(f"/v2/models/{name}/ready")[0] == 400
        rows = index(server)
        assert rows["good"]["state"] == "READY"
        assert all(rows[name]["state"] == "UNAVAILABLE" and rows[name]["reason"] for name in BROKEN)
        assert server.ask("/v2/health/live")[0] == 200
        command = [sys.executable, "-m", "edge", "models", "--url", server.url]
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert all(name in listed for name in BROKEN)
        assert "Traceback" not in server.log.read_text()


def test_after_a_restart_the_newest_version_that_can_be_served_is(tmp_path: Path) -> None:
    models = Repository(tmp_path / "models")
    for version in (1, 2):
        models.put("m", version)
    for version in (3, 4, 5):
        models.put("m", version, GOOD[: 100 * version])
    with serving(tmp_path, models.path, "--set", "server.max_load_retries=0") as server:
        assert answer(server, "m") == 2
        assert server.ask("/v2/health/ready")[0] == 200


def test_pipes_in_the_places_of_files_hold_nobody_up(tmp_path: Path) -> None:
    models = Repository(tmp_path / "models")
    models.put("good", 1, GOOD)
    for name, file in {
        "weights": "model.tflite",
        "names": "labels.txt",
        "vectors": "golden.npz",
        "options": "model.toml",
    }.items():
        version = models.put(name, 1, GOOD)
        (version / file).unlink(missing_ok=True)
        os.mkfifo(version / file)
    models.put("wish", 1, GOOD)
    os.mkfifo(models.path / "wish" / "aspired.json")
    with serving(tmp_path, models.path, ready=False) as server:
        reach(server, "good", v1="ready")
        reach(server, "names", v1="ready")
        for name in ("vectors", "options"):
            reach(server, name, v1="failed")
            assert "want a file, got something else" in version_status(server, name, 1)["reason"]
        assert answer(server, "good") == 1.0
        problem = "aspired.json: cannot be read: want a file, got something else"
        assert model_status(server, "wish")["problem"] == problem


@pytest.mark.skipif(
    os.geteuid() == 0, reason="root may read everything: nothing was tested about a directory without permission"
)
def test_a_directory_without_permission_is_named(tmp_path: Path) -> None:
    models = Repository(tmp_path / "models")
    models.put("good", 1, GOOD)
    closed = models.put("closed", 1, GOOD)
    closed.chmod(0)
    try:
        with serving(tmp_path, models.path, ready=False) as server:
            reach(server, "good", v1="ready")
            reach(server, "closed", v1="failed")
            assert "ermission denied" in version_status(server, "closed", 1)["reason"]
    finally:
        closed.chmod(0o755)


def test_what_is_written_into_the_file_of_a_model_that_serves_changes_no_answer(tmp_path: Path) -> None:
    models = Repository(tmp_path / "models")
    file = models.put("good", 1, GOOD) / "model.tflite"
    with serving(tmp_path, models.path) as server:
        stop, wrong = threading.Event(), []

        def load() -> None:
            while not stop.is_set():
                if (got := answer(server, "good")) != 1.0:
                    wrong.append(got)

        clients = [threading.Thread(target=load) for _ in range(3)]
        for client in clients:
            client.start()
        try:
            with file.open("r+b") as handle:
                handle.write(b"\0" * len(GOOD))
            file.write_bytes(b"")
            os.truncate(file, 10)
            file.write_bytes(random.Random(1).randbytes(100_000))
            models.put("other", 1, GOOD)
            reach(server, "other", v1="ready")
        finally:
            stop.set()
            for client in clients:
                client.join()
        assert wrong == []
        assert version_status(server, "good", 1)["totals"]["failures"] == 0
