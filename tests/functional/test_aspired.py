"""The model directory is the whole way down, the status the whole way up: what an agent may rely on."""

from __future__ import annotations

import http.client
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edge.core.blackbox import RECORD_BYTES
from tests import tflite_models
from tests.functional.repository import Repository, answer, model_status, reach, states, version_status
from tests.functional.server import Running, serving
from tests.waiting import until_blocking

BROKEN = b"no model at all"


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    made = Repository(tmp_path / "models")
    for version in (1, 2, 3):
        made.put("m", version)
    return made


@contextmanager
def served(repository: Repository, tmp_path: Path) -> Iterator[Running]:
    with serving(tmp_path, repository.path) as server:
        yield server


def test_aspired_json_decides_what_is_served_its_fallback_stays_warm_and_its_labels_lead_to_both(
    repository: Repository, tmp_path: Path
) -> None:
    repository.aspire("m", 2, fallback=1, labels={"stable": 1, "canary": 2}, generation=42)
    with served(repository, tmp_path) as server:
        assert answer(server, "m") == 2
        reach(server, "m", v1="ready")
        assert answer(server, "m", "/labels/stable") == 1
        assert answer(server, "m", "/labels/canary") == 2
        status = model_status(server, "m")
        assert (status["generation"], status["problem"]) == (42, "")
        assert status["labels"] == {"stable": 1, "canary": 2}
        assert states(server, "m") == {"1": "ready", "2": "ready"}, "nobody asked for version 3"
        repository.aspire("m", 3, fallback=2, labels={"stable": 2}, generation=43)
        reach(server, "m", v3="ready", v2="ready", v1="unloaded")
        assert answer(server, "m") == 3
        assert answer(server, "m", "/labels/stable") == 2
        assert answer(server, "m", "/labels/canary") == 400
        assert model_status(server, "m")["generation"] == 43


def test_where_the_aspired_version_fails_its_trial_the_fallback_serves_and_the_status_says_why(
    repository: Repository, tmp_path: Path
) -> None:
    repository.put("m", 4, BROKEN)
    repository.aspire("m", 4, fallback=2)
    with served(repository, tmp_path) as server:
        until_blocking(lambda: answer(server, "m") == 2)
        assert "want a TFLite model" in version_status(server, "m", 4)["reason"]
        assert states(server, "m") == {"4": "failed", "2": "ready"}
        repository.put("m", 5, BROKEN)
        repository.aspire("m", 5, fallback=3)
        reach(server, "m", v5="failed", v3="ready", v2="unloaded")
        assert answer(server, "m") == 3


def test_where_the_aspired_version_is_missing_the_fallback_serves_until_it_comes(
    repository: Repository, tmp_path: Path
) -> None:
    repository.aspire("m", 7, fallback=2)
    with served(repository, tmp_path) as server:
        until_blocking(lambda: answer(server, "m") == 2)
        assert model_status(server, "m")["problem"] == "aspired.json: version 7 is not there"
        repository.put("m", 7)
        until_blocking(lambda: answer(server, "m") == 7)
        assert model_status(server, "m")["problem"] == ""


@pytest.mark.parametrize("fallback", [{}, {"fallback": 1}])
def test_an_invalid_file_and_a_vanished_one_change_nothing_and_the_status_says_so(
    repository: Repository, tmp_path: Path, fallback: dict[str, int]
) -> None:
    repository.aspire("m", 2, generation=5, **fallback)
    with served(repository, tmp_path) as server:
        for text, problem in (
            ("{", "aspired.json: not JSON"),
            ("[" * 100_000, "aspired.json: not JSON"),
            ('{"format": "edge-aspired/1", "generation": 6, "versions": [3.5]}', "aspired.json: versions: want an integer"),
            ('{"format": "edge-aspired/9", "generation": 6, "versions": [3]}', "aspired.json: format: want"),
        ):  # fmt: skip
            repository.aspire_text("m", text)
            until_blocking(lambda want=problem: want in model_status(server, "m")["problem"])  # type: ignore[misc]
            assert answer(server, "m") == 2
        (repository.path / "m" / "aspired.json").unlink()
        until_blocking(lambda: "is gone; the last one holds" in model_status(server, "m")["problem"])
        assert answer(server, "m") == 2
        assert model_status(server, "m")["generation"] == 5
        repository.aspire("m", 3, generation=6)
        until_blocking(lambda: answer(server, "m") == 3)
        assert model_status(server, "m")["problem"] == ""


@pytest.mark.parametrize("text", ["", '{"format"', None])
def test_the_last_good_file_holds_after_kill_9_and_a_restart_with_a_bad_one(
    repository: Repository, tmp_path: Path, text: str | None
) -> None:
    repository.aspire("m", 2, fallback=1, labels={"stable": 1}, generation=5)
    with served(repository, tmp_path) as server:
        assert answer(server, "m") == 2
        server.kill()
    if text is None:
        (repository.path / "m" / "aspired.json").unlink()
    else:
        repository.aspire_text("m", text)
    with served(repository, tmp_path) as server:
        assert answer(server, "m") == 2, "the version policy would have chosen 3"
        status = model_status(server, "m")
        assert (status["generation"], status["labels"]) == (5, {"stable": 1})
        assert "holds" in status["problem"]
        reach(server, "m", v1="ready")


def test_a_server_is_not_ready_while_the_only_version_is_still_being_written(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "models")
    half = repository.path / "m" / "1"
    half.mkdir(parents=True)
    content = tflite_models.scaling(1.0)
    with serving(tmp_path, repository.path, ready=False) as server:
        (half / "model.tflite").write_bytes(content[:200])
        until_blocking(lambda: model_status(server, "m"))
        assert server.ask("/v2/health/live")[0] == 200
        assert server.ask("/v2/health/ready")[0] == 400
        assert answer(server, "m") == 404
        (half / "model.tflite").write_bytes(content)
        server.wait_ready()
        assert answer(server, "m") == 1


@pytest.mark.parametrize("way", ["aspired", "policy"])
def test_two_deaths_while_a_version_runs_bring_up_the_one_before_it_and_the_status_says_so(
    tmp_path: Path, way: str
) -> None:
    """What kills the process here is a signal while the version's run never ends; a crash leaves the same traces."""
    repository = Repository(tmp_path / "models")
    repository.put("m", 1, tflite_models.scaling(1.0, (1,)))
    # From 0 on its loop ends at once, which is what the self-test sees; from -1e9 it never does.
    repository.put("m", 2, tflite_models.looping(0.0))
    if way == "aspired":
        repository.aspire("m", 2, fallback=1)
    for _ in range(2):
        with served(repository, tmp_path) as server:
            assert states(server, "m")["2"] == "ready"
            die_while_it_runs(server, tmp_path / "state" / "running.bin")
    with served(repository, tmp_path) as server:
        assert states(server, "m") == {"1": "ready", "2": "failed"}
        assert "the server died 2 times while this version ran" in version_status(server, "m", 2)["reason"]
        assert answer(server, "m") == 1
        repository.put("m", 2, tflite_models.scaling(2.0, (1,)))
        until_blocking(lambda: answer(server, "m") == 2)


def die_while_it_runs(server: Running, black_box: Path) -> None:
    body = json.dumps({"instances": [-1e9]})
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("POST", "/v1/models/m:predict", body)
    until_blocking(lambda: 1 in black_box.read_bytes()[::RECORD_BYTES])
    server.kill()
    connection.close()


def test_a_place_that_has_become_another_models_is_served_by_its_policy(repository: Repository, tmp_path: Path) -> None:
    repository.aspire("m", 2)
    with served(repository, tmp_path) as server:
        assert answer(server, "m") == 2
    shutil.rmtree(repository.path / "m")
    repository.put("m", 11)
    with served(repository, tmp_path) as server:
        assert answer(server, "m") == 11


def test_a_version_that_is_there_and_not_aspired_is_not_served(repository: Repository, tmp_path: Path) -> None:
    repository.aspire("m", 2)
    with served(repository, tmp_path) as server:
        assert answer(server, "m", "/versions/3") == 404
        repository.put("m", 4)
        with pytest.raises(TimeoutError):
            until_blocking(lambda: states(server, "m") != {"2": "ready"}, within_s=1.5)
        assert answer(server, "m") == 2
