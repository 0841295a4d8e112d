"""Versions come and go in a directory while the server runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests import tflite_models
from tests.functional.repository import (
    Repository,
    answer,
    model_status,
    reach,
    states,
    version_status,
)
from tests.functional.server import Running, serving
from tests.waiting import until_blocking

BROKEN = b"no model at all"


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    made = Repository(tmp_path / "models")
    made.put("m", 1)
    return made


def test_a_version_that_is_renamed_into_place_takes_over_and_the_old_one_goes(
    repository: Repository, tmp_path: Path
) -> None:
    with serving(tmp_path, repository.path) as server:
        assert answer(server, "m") == 1
        repository.put("m", 2)
        reach(server, "m", v2="ready", v1="unloaded")
        assert answer(server, "m") == 2
        assert answer(server, "m", "/versions/1") == 404
        repository.drop("m", 2)
        reach(server, "m", v1="ready", v2="unloaded")
        assert answer(server, "m") == 1


def test_a_version_that_is_copied_slowly_is_not_loaded_before_it_is_complete(
    repository: Repository, tmp_path: Path
) -> None:
    """In four parts, more than a settling time in all; a part alone would fail the version, and the status would say so."""
    content = tflite_models.scaling(2.0)
    with serving(tmp_path, repository.path) as server:
        folder = repository.path / "m" / "2"
        folder.mkdir()
        size = -(-len(content) // 4)
        for at in range(0, len(content), size):
            with (folder / "model.tflite").open("ab") as file:
                file.write(content[at : at + size])
            assert _unchanged_for(server, 0.6)
        reach(server, "m", v2="ready")
        assert answer(server, "m") == 2
        assert server.log.read_text().count("failed") == 0


def _unchanged_for(server: Running, seconds: float) -> bool:
    """Version 1 alone, all the time."""
    with pytest.raises(TimeoutError):
        until_blocking(lambda: states(server, "m") != {"1": "ready"}, within_s=seconds)
    return answer(server, "m") == 1


def test_a_copy_that_keeps_old_times_is_awaited_as_well(repository: Repository, tmp_path: Path) -> None:
    with serving(tmp_path, repository.path) as server:
        source = tmp_path / "source"
        source.mkdir()
        (source / "model.tflite").write_bytes(tflite_models.scaling(2.0))
        folder = repository.path / "m" / "2"
        folder.mkdir()
        shutil.copystat(source, folder)
        assert _unchanged_for(server, 0.5)
        shutil.copy2(source / "model.tflite", folder / "model.tflite")
        reach(server, "m", v2="ready")
        assert answer(server, "m") == 2


def test_with_swap_replace_the_old_version_goes_before_the_new_one_is_loaded(
    repository: Repository, tmp_path: Path
) -> None:
    with serving(tmp_path, "--model", f"m={repository.path / 'm'}", "--set", "models.m.swap=replace") as server:
        repository.put("m", 2)
        reach(server, "m", v2="ready", v1="unloaded")
        assert answer(server, "m") == 2
        log = server.log.read_text()
        assert 0 < log.index("m@1: unloaded") < log.index("m@2: ready")


def test_the_policies_all_and_specific_and_the_configured_labels(repository: Repository, tmp_path: Path) -> None:
    for version in (2, 3, "00000123"):
        repository.put("m", version)
    (repository.path / "m" / "not-a-number").mkdir()
    path = repository.path / "m"
    with serving(
        tmp_path,
        *("--model", f"all={path}", "--set", "models.all.policy=all"),
        *("--model", f"some={path}", "--set", "models.some.policy=specific:1,3"),
        *("--model", f"two={path}", "--set", "models.two.policy=latest:2", "--set", "models.two.labels=stable=3"),
    ) as server:
        reach(server, "all", v1="ready", v2="ready", v3="ready", v123="ready")
        reach(server, "two", v3="ready", v123="ready")
        assert answer(server, "all") == answer(server, "all", "/versions/123") == 123
        assert answer(server, "all", "/versions/00000123") == 123
        assert states(server, "some") == {"1": "ready", "3": "ready"}
        assert answer(server, "some") == 3
        assert answer(server, "some", "/versions/2") == 404
        assert answer(server, "two", "/labels/stable") == 3
        repository.put("m", 124)
        reach(server, "two", v124="ready", v123="ready", v3="unloaded")
        assert answer(server, "two", "/labels/stable") == 404
        reach(server, "all", v124="ready", v1="ready")
        assert states(server, "some") == {"1": "ready", "3": "ready"}


def test_two_directories_of_one_version_are_one_and_a_problem(repository: Repository, tmp_path: Path) -> None:
    repository.put("m", "01", tflite_models.scaling(9.0))
    with serving(tmp_path, repository.path) as server:
        assert answer(server, "m") == 1
        assert model_status(server, "m")["problem"] == "version 01: 1 is version 1 too"


def test_a_base_path_that_vanishes_changes_nothing_and_one_that_is_emptied_unloads(
    repository: Repository, tmp_path: Path
) -> None:
    with serving(tmp_path, repository.path) as server:
        (repository.path / "m").rename(repository.path / ".aside")
        until_blocking(lambda: "no such directory" in model_status(server, "m")["problem"])
        assert answer(server, "m") == 1
        assert server.ask("/v2/health/ready")[0] == 200
        (repository.path / ".aside").rename(repository.path / "m")
        until_blocking(lambda: not model_status(server, "m")["problem"])
        assert answer(server, "m") == 1
        repository.drop("m", 1)
        reach(server, "m", v1="unloaded")
        assert answer(server, "m") == 404
        assert server.ask("/v2/health/ready")[0] == 200, "nothing is wanted"
        repository.put("m", 2)
        reach(server, "m", v2="ready")


def test_a_repository_that_vanishes_changes_nothing(repository: Repository, tmp_path: Path) -> None:
    with serving(tmp_path, repository.path) as server:
        repository.path.rename(tmp_path / "aside")
        until_blocking(lambda: "no such directory" in model_status(server, "m")["problem"])
        assert answer(server, "m") == 1
        (tmp_path / "aside").rename(repository.path)
        repository.put("n", 4)
        until_blocking(lambda: answer(server, "n") == 4)


def test_a_failed_version_is_tried_again_at_once_when_its_files_change(repository: Repository, tmp_path: Path) -> None:
    with serving(tmp_path, repository.path) as server:
        repository.put("m", 2, BROKEN)
        reach(server, "m", v2="failed", v1="ready")
        assert "want a TFLite model" in version_status(server, "m", 2)["reason"]
        repository.put("m", 2)
        reach(server, "m", v2="ready", v1="unloaded")
        assert answer(server, "m") == 2
        assert version_status(server, "m", 2)["reason"] == ""


def test_a_failed_version_is_tried_a_bounded_number_of_times_with_growing_pauses(
    repository: Repository, tmp_path: Path
) -> None:
    repository.put("m", 2, BROKEN)
    limits = ("--set", "server.max_load_retries=2", "--set", "server.load_retry_s=0.1")
    with serving(tmp_path, repository.path, *limits) as server:
        until_blocking(lambda: "m@2: failed (3)" in server.log.read_text(), within_s=90)
        with pytest.raises(TimeoutError):
            until_blocking(lambda: "m@2: failed (4)" in server.log.read_text(), within_s=1.0)
        assert answer(server, "m") == 1


def test_a_file_that_is_replaced_is_the_next_version(tmp_path: Path) -> None:
    file = tmp_path / "half.tflite"
    file.write_bytes(tflite_models.scaling(5.0))
    with serving(tmp_path, file) as server:
        assert answer(server, "half") == 5
        new = tmp_path / "half.tflite.new"
        new.write_bytes(tflite_models.scaling(6.0))
        new.rename(file)
        until_blocking(lambda: answer(server, "half") == 6)
        assert states(server, "half")["2"] == "ready"
        file.write_bytes(BROKEN)
        reach(server, "half", v3="failed", v2="ready")
        assert answer(server, "half") == 6


def test_where_the_system_does_not_notify_directories_are_looked_at(repository: Repository, tmp_path: Path) -> None:
    """The watcher's library says what it says when the kernel has no more watches to give."""
    library = tmp_path / "libraries"
    library.mkdir()
    (library / "watchfiles.py").write_text(
        "async def awatch(*paths, **options):\n"
        "    raise OSError(28, 'OS file watch limit reached')\n"
        "    yield\n"
    )  # fmt: skip
    with serving(
        tmp_path, repository.path, "--set", "server.poll_s=0.2", environment={"PYTHONPATH": str(library)}
    ) as server:
        until_blocking(lambda: "no notification for" in server.log.read_text())
        repository.put("m", 2)
        reach(server, "m", v2="ready")
        assert answer(server, "m") == 2


INDEX = "/v2/repository/index"
MODEL = "/v2/repository/models/"


def control(server: Running, name: str, verb: str, body: object = None) -> tuple[int, str]:
    status, text = server.ask(f"{MODEL}{name}/{verb}", {} if body is None else body)
    return status, json.loads(text)["error"] if text else ""


def test_models_are_loaded_and_unloaded_over_http_where_that_is_allowed(repository: Repository, tmp_path: Path) -> None:
    repository.put("other", 7)
    with serving(tmp_path, repository.path, "--model-control") as server:
        assert control(server, "m", "unload") == (200, "")
        assert answer(server, "m") == 404
        unloaded = {"name": "m", "version": "1", "state": "UNAVAILABLE", "reason": "unloaded"}
        until_blocking(lambda: rows(server)["m"] == unloaded)
        assert [row["name"] for row in server.json(INDEX, {"ready": True})] == ["other"]
        assert server.ask("/v2/models/m/ready")[0] == 400
        assert server.ask("/v2/health/ready")[0] == 200, "a person wanted it so"
        repository.put("m", 2)
        assert answer(server, "other") == 7
        assert control(server, "m", "load") == (200, "")
        until_blocking(lambda: answer(server, "m") == 2)
        assert control(server, "m", "load") == (200, ""), "loading twice is no error"
        assert control(server, "m", "unload", {"parameters": {"unload_dependents": True}}) == (200, "")
        assert control(server, "m", "unload") == (200, "")


def rows(server: Running) -> dict[str, Any]:
    return {row["name"]: row for row in server.json(INDEX, {})}


def test_what_cannot_be_loaded_or_unloaded_is_answered_as_triton_does(repository: Repository, tmp_path: Path) -> None:
    repository.put("bad", 1, BROKEN)
    with serving(tmp_path, repository.path, "--model-control", ready=False) as server:
        reach(server, "bad", v1="failed")
        reach(server, "m", v1="ready")
        unknown = "failed to load 'nope', failed to poll from model repository"
        assert control(server, "nope", "load") == (500, unknown)
        status, text = control(server, "bad", "load")
        assert status == 500
        assert text.startswith("failed to load 'bad', bad@1: model.tflite: want a TFLite model")
        status, text = control(server, "m", "load", {"parameters": {"config": "{}"}})
        assert (status, text) == (
            400,
            "load parameter 'config' is not supported; a model is loaded as it lies in the repository",
        )
        assert control(server, "m", "load", b"{")[0] == 400
        assert server.ask(f"{MODEL}m/load")[0] == 405
        assert answer(server, "m") == 1


def test_loading_and_unloading_over_http_is_off_unless_it_is_allowed(repository: Repository, tmp_path: Path) -> None:
    with serving(tmp_path, repository.path) as server:
        for verb in ("load", "unload"):
            status, text = control(server, "m", verb)
            assert status == 403
            assert "not allowed" in text
        assert answer(server, "m") == 1
        counted = server.ask("/metrics")[1].decode()
        assert 'edge_requests_total{code="forbidden",model="",protocol="v2",version=""} 2.0' in counted


@pytest.mark.parametrize("swaps", [30, pytest.param(100, marks=[pytest.mark.slow, pytest.mark.timeout(600)])])
def test_after_many_swaps_the_memory_is_that_after_five(tmp_path: Path, swaps: int) -> None:
    """Versions take turns; each swap loads one beside the other, with a trial in a child."""
    repository = Repository(tmp_path / "models")
    for version in (1, 2):
        repository.put("m", version)
    repository.aspire("m", 1)
    with serving(tmp_path, repository.path) as server:
        process = psutil.Process(server.process.pid)
        after_five = 0
        for swap in range(swaps):
            version = 2 - swap % 2
            repository.aspire("m", version)
            until_blocking(lambda want=version: answer(server, "m") == want)  # type: ignore[misc]
            until_blocking(lambda old=str(3 - version): states(server, "m")[old] == "unloaded")  # type: ignore[misc]
            if swap == 4:
                after_five = process.memory_info().rss
        grown = process.memory_info().rss / after_five
        assert grown < 1.05
        assert len(process.children()) == 0
