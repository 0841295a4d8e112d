"""The commands of a person on the device, against a real server: what they print, and what they leave with."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.functional.repository import reach
from tests.functional.server import Running, serving
from tests.functional.zoo import DIGITS, HALF, zoo


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    path = tmp_path_factory.mktemp("commands")
    with serving(path, zoo(path / "models"), "--model-control") as running:
        yield running


def edge(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def says(server: Running, *arguments: str | Path) -> str:
    done = edge(*arguments, "--url", server.url)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def digit(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """A held-back digit as a picture, and what it is."""
    with np.load(DIGITS / "held_back.npz") as held:
        pixels, label = held["images"][0].reshape(8, 8), int(held["labels"][0])
    path = tmp_path_factory.mktemp("digit") / "digit.png"
    Image.fromarray(np.round(pixels / 16 * 255).astype(np.uint8)).resize((64, 64), Image.Resampling.BOX).save(path)
    return path, label


def test_a_picture_is_named_for_people_and_for_programs(server: Running, digit: tuple[Path, int]) -> None:
    path, label = digit
    names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    rows = says(server, "predict", "digits", path, "--top", "2").splitlines()
    assert len(rows) == 2
    assert names[label] in rows[0]
    document = json.loads(says(server, "predict", "digits", path, "--json"))
    assert names[label] in json.dumps(document)


def test_a_request_and_an_array_are_sent_as_they_are(server: Running, tmp_path: Path) -> None:
    (tmp_path / "request.json").write_bytes(HALF)
    assert json.loads(says(server, "predict", "half", tmp_path / "request.json"))["predictions"]
    np.save(tmp_path / "x.npy", np.array([1, 3], np.float32))
    assert "0.5" in says(server, "predict", "half", tmp_path / "x.npy")


def test_a_label_picks_the_version_whatever_is_sent(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([1, 3], np.float32))
    (tmp_path / "request.json").write_bytes(HALF)
    options = ("--set", "models.half.policy=all", "--set", "models.half.labels=stable=1")
    with serving(tmp_path, "--model", f"half={zoo(tmp_path / 'models') / 'half'}", *options) as labelled:
        for file in ("x.npy", "request.json"):
            assert says(labelled, "predict", "half", tmp_path / file, "--label", "stable")
            done = edge("predict", "half", tmp_path / file, "--label", "canary", "--url", labelled.url)
            assert done.returncode == 1
            assert "label: canary" in done.stderr
    assert edge("predict", "half", tmp_path / "x.npy", "--label", "stable", "--version", "1").returncode == 2


def test_what_the_model_does_not_take_is_told_in_its_own_words(
    server: Running, digit: tuple[Path, int], tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", np.ones((2, 2), np.float64))
    for arguments, words in (
        (("predict", "half", tmp_path / "x.npy"), "half"),
        (("predict", "half", digit[0]), "image"),
        (("predict", "half", tmp_path / "nowhere.jpg"), "nowhere.jpg"),
    ):
        done = edge(*arguments, "--url", server.url)
        assert done.returncode in (1, 2, 3)
        assert words in done.stderr
        assert "Traceback" not in done.stderr
        assert done.stdout == ""
    done = edge("predict", "nope", digit[0], "--url", server.url)
    assert done.returncode == 3
    assert "no model nope; there is digits, flags, half" in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        "models",
        "models ls",
        "models show half",
        "health",
        "health --live",
        "predict digits DIGIT",
        "predict half x.npy",
    ],
)
def test_what_a_server_is_asked_is_answered_as_json_and_nothing_else(
    server: Running, digit: tuple[Path, int], tmp_path: Path, words: str
) -> None:
    np.save(tmp_path / "x.npy", np.array([1, 3], np.float32))
    places = {"DIGIT": str(digit[0]), "x.npy": str(tmp_path / "x.npy")}
    json.loads(says(server, *(places.get(word, word) for word in words.split()), "--json"))


def test_quiet_commands_say_nothing_where_all_is_well(server: Running) -> None:
    for words in (("health",), ("models", "load", "half")):
        done = edge(*words, "--quiet", "--url", server.url)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    done = edge("check", DIGITS / "2", "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_models_are_listed_shown_unloaded_and_loaded(server: Running) -> None:
    listed = says(server, "models")
    assert all(name in listed for name in ("half", "words", "digits"))
    assert {row["name"] for row in json.loads(says(server, "models", "--json"))} >= {"half", "digits"}
    shown = says(server, "models", "show", "half")
    assert "x" in shown
    assert "FP32" in shown
    says(server, "models", "unload", "ints")
    assert server.ask("/v1/models/ints:predict", {"instances": [1]})[0] == 404
    says(server, "models", "load", "ints")
    assert server.json("/v1/models/ints:predict", {"instances": [1]}) == {"predictions": [1]}
    done = edge("models", "load", "nope", "--url", server.url)
    assert done.returncode in (1, 3)
    assert "nope" in done.stderr


def test_health_leaves_with_what_a_script_can_use(server: Running) -> None:
    assert edge("health", "--url", server.url).returncode == 0
    server.ask("/v2/repository/models/flags/unload", {})
    try:
        assert edge("health", "--url", server.url).returncode in (0, 1), "what was unloaded on request is not missed"
    finally:
        server.ask("/v2/repository/models/flags/load", {})
    assert edge("health", "--url", "http://127.0.0.1:1").returncode == 4


def test_a_server_with_a_broken_model_is_not_healthy(tmp_path: Path) -> None:
    version = tmp_path / "models" / "m" / "1"
    version.mkdir(parents=True)
    (version / "model.tflite").write_bytes(b"\0" * 100)
    with serving(tmp_path, tmp_path / "models", ready=False) as server:
        reach(server, "m", v1="failed")
        done = edge("health", "--url", server.url)
        assert done.returncode == 1
        assert done.stdout.startswith("not ready: m (model.tflite: ")


def test_a_check_tries_a_version_as_the_server_would(tmp_path: Path) -> None:
    done = edge("check", DIGITS / "2", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["ok"] is True
    (tmp_path / "model.tflite").write_bytes(b"\0" * 100)
    done = edge("check", tmp_path / "model.tflite", "--json")
    assert done.returncode == 5
    report = json.loads(done.stdout)
    assert report["ok"] is False
    assert "model.tflite" in report["versions"][0]["reason"]
    done = edge("check", tmp_path / "model.tflite")
    assert done.returncode == 5
    assert "model.tflite" in done.stdout + done.stderr


def test_the_configuration_is_checked_and_shown_with_where_it_comes_from(tmp_path: Path) -> None:
    file = tmp_path / "edge.toml"
    file.write_text("[http]\nprot = 1\n")
    done = edge("config", "check", "--config", file)
    assert done.returncode == 2
    assert "edge.toml:2" in done.stderr
    assert "prot" in done.stderr
    assert "port" in done.stderr, "the nearest key that there is"
    file.write_text("[http]\nport = 9000\n")
    assert edge("config", "check", "--config", file).returncode == 0
    shown = edge("config", "show", "--origin", "--config", file)
    assert shown.returncode == 0
    (line,) = (line for line in shown.stdout.splitlines() if "9000" in line)
    assert "edge.toml" in line
