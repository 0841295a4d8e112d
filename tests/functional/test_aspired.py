"""What an agent writes and what the server makes of it: `aspired.json`, without an agent."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests import tflite_models as models
from tests.functional.server import Running, serving
from tests.waiting import until_blocking

FACTORS = {1: 2.0, 2: 3.0, 3: 5.0}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Versions 1 to 3 of `m`, which multiply by 2, 3 and 5."""
    directory = tmp_path / "models" / "m"
    for version, factor in FACTORS.items():
        (directory / str(version)).mkdir(parents=True)
        (directory / str(version) / "model.tflite").write_bytes(models.scaling(factor))
    return directory


def aspire(place: Path, generation: int, versions: Sequence[int], **more: Any) -> None:
    """As the agent does: by a rename."""
    wish = {"format": "edge-aspired/1", "generation": generation, "versions": versions, **more}
    temporary = place.parent.parent / "aspired.tmp"
    temporary.write_text(json.dumps(wish))
    temporary.replace(place / "aspired.json")


def factor(server: Running, path: str = "/v1/models/m") -> float:
    status, body = server.ask(f"{path}:predict", {"instances": [1.0]})
    return float(json.loads(body)["predictions"][0]) if status == 200 else -status


def model_of(server: Running) -> Any:
    """What the admin socket says of the model."""
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(server.admin))
    connection.request("GET", "/v1/status")
    answer = json.loads(connection.getresponse().read())
    connection.close()
    return answer["models"]["m"]


def becomes(server: Running, expected: float, path: str = "/v1/models/m") -> None:
    until_blocking(lambda: factor(server, path) == expected, within_s=30)


def holds(check: Callable[[], bool], seconds: float = 2.5) -> None:
    """For longer than two looks at the directory take."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert check()
        time.sleep(0.05)


def test_the_aspired_version_is_served_though_a_newer_one_is_there(place: Path, tmp_path: Path) -> None:
    aspire(place, 1, [2], labels={"stable": 2})
    with serving(tmp_path, place.parent) as server:
        assert factor(server) == 3.0
        assert factor(server, "/v1/models/m/labels/stable") == 3.0
        assert factor(server, "/v1/models/m/versions/3") == -404
        assert model_of(server)["generation"] == 1
        aspire(place, 2, [3], fallback=2, labels={"stable": 2})
        becomes(server, 5.0)
        # The fallback stays loaded beside it.
        assert factor(server, "/v1/models/m/labels/stable") == 3.0
        assert model_of(server)["generation"] == 2


def test_the_fallback_serves_where_the_aspired_version_fails_its_trial(place: Path, tmp_path: Path) -> None:
    (place / "3" / "model.tflite").write_bytes(b"\0" * 64)
    aspire(place, 1, [3], fallback=1)
    with serving(tmp_path, place.parent, ready=False) as server:
        becomes(server, 2.0)
        assert "model.tflite" in json.dumps(model_of(server)["versions"])


def test_an_invalid_file_and_a_vanished_one_change_nothing_and_the_status_says_so(place: Path, tmp_path: Path) -> None:
    aspire(place, 1, [2])
    with serving(tmp_path, place.parent) as server:
        (place / "aspired.json").write_text("{ not json")
        until_blocking(lambda: "aspired.json" in json.dumps(model_of(server)), within_s=30)
        holds(lambda: factor(server) == 3.0)
        (place / "aspired.json").unlink()
        until_blocking(lambda: "gone" in json.dumps(model_of(server)), within_s=30)
        holds(lambda: factor(server) == 3.0)
        aspire(place, 2, [1])
        becomes(server, 2.0)


@pytest.mark.parametrize("spoilt", ["{ not json", None], ids=["invalid", "gone"])
def test_after_a_kill_the_last_valid_file_still_holds(place: Path, tmp_path: Path, spoilt: str | None) -> None:
    aspire(place, 7, [2])
    with serving(tmp_path, place.parent) as server:
        assert factor(server) == 3.0
        server.kill()
    if spoilt is None:
        (place / "aspired.json").unlink()
    else:
        (place / "aspired.json").write_text(spoilt)
    with serving(tmp_path, place.parent) as server:
        assert factor(server) == 3.0
        assert "aspired.json" in json.dumps(model_of(server))


def test_a_place_that_has_become_another_models_is_served_by_its_policy(place: Path, tmp_path: Path) -> None:
    aspire(place, 7, [2])
    with serving(tmp_path, place.parent) as server:
        assert factor(server) == 3.0
    shutil.rmtree(place)
    (place / "11").mkdir(parents=True)
    (place / "11" / "model.tflite").write_bytes(models.scaling(7.0))
    with serving(tmp_path, place.parent) as server:
        assert factor(server) == 7.0


def test_a_version_that_is_aspired_before_it_is_there_is_served_once_it_is(place: Path, tmp_path: Path) -> None:
    shutil.move(place / "3", tmp_path / "later")
    aspire(place, 1, [1])
    with serving(tmp_path, place.parent) as server:
        aspire(place, 2, [3])
        until_blocking(lambda: "version 3 is not there" in json.dumps(model_of(server)), within_s=30)
        holds(lambda: factor(server) == 2.0)
        shutil.move(tmp_path / "later", place / "3")
        becomes(server, 5.0)
