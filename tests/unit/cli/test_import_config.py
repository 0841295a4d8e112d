"""`edge import-config`: what it prints can be served, and what could not be carried is named."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from edge.cli import main
from edge.config import load_config

MODELS = """model_config_list { config { name: "a" base_path: "/m/a" model_platform: "tensorflow"
  model_version_policy { latest { num_versions: 2 } } version_labels { key: "s" value: 3 } } }"""


def imported(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, list[str]]:
    """The exit code, what was printed, and the lines of what was said."""
    with pytest.raises(SystemExit) as left:
        main(["import-config", *map(str, words)])
    said = capsys.readouterr()
    assert isinstance(left.value.code, int)
    return left.value.code, said.out, said.err.splitlines()


@pytest.fixture
def models(tmp_path: Path) -> Path:
    file = tmp_path / "models.config"
    file.write_text(MODELS)
    return file


def read(text: str, place: Path) -> dict[str, Any]:
    """The file's tables, once it was taken as a configuration."""
    file = place / "made.toml"
    file.write_text(text)
    load_config(file)
    return tomllib.loads(text)


def test_files_are_told_by_what_is_in_them(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    batching, monitoring = tmp_path / "b", tmp_path / "m"
    batching.write_text("num_batch_threads { value: 3 }")
    monitoring.write_text("prometheus_config { enable: true }")
    code, out, said = imported(capsys, monitoring, batching, models)
    assert code == 0
    assert [line for line in said if "grpc" not in line] == []
    tables = read(out, tmp_path)
    model = {"path": "/m/a", "policy": "latest:2", "labels": {"s": 3}, "prefer": "savedmodel", "instances": 3}
    assert tables["models"] == {"a": model}
    assert tables["http"] == {"host": "0.0.0.0", "port": 8501, "tfserving_metrics": True}


def test_flags_alone_make_a_file_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ("--rest_api_port", "9000", "--model_base_path=/m/b", "--model_name=b", "--prefer_tflite_model")
    code, out, _ = imported(capsys, "--", *flags, "--port=0")
    assert code == 0
    tables = read(out, tmp_path)
    assert tables["http"]["port"] == 9000
    assert tables["models"] == {"b": {"path": "/m/b", "policy": "latest:1", "prefer": "tflite"}}


def test_what_could_not_be_carried_is_named_and_quiet_names_nothing(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (models, "--", "--port=0", "--grpc_max_threads=4", "--what", "--model_config_file_poll_wait_seconds=9")
    _, out, said = imported(capsys, *words)
    assert [line.split(":")[1].strip() for line in said] == [
        "--grpc_max_threads",
        "unknown argument",
        "--model_config_file_poll_wait_seconds",
    ]
    assert imported(capsys, "--quiet", *words) == (0, out, [])


@pytest.mark.parametrize(
    ("text", "flags", "said"),
    [
        ("garbage", [], "Error parsing text-format tensorflow.serving.ModelServerConfig: 1:8: Message type"),
        (MODELS, ["--port=x"], "Couldn't interpret value x for flag port."),
        ("", [], "want a model config FILE"),
        (MODELS.replace("/m/a", "m"), [], "Expected model a to have an absolute path or URI; got base_path()=m"),
        (MODELS, ["--rest_api_port=70000"], "http.port: want an integer from 0 to 65535, got 70000"),
    ],
)
def test_what_cannot_be_used_is_2_and_prints_nothing(
    text: str, flags: list[str], said: str, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models.write_text(text)
    code, out, lines = imported(capsys, models, "--", *flags)
    assert (code, out) == (2, "")
    assert said in "\n".join(lines)
