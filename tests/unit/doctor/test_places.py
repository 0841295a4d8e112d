"""The configuration, models and the state directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.config import ConfigError, Resolved, resolve
from edge.doctor.finding import Finding, Level
from edge.doctor.places import check_configuration, check_models, check_state, model_sizes
from tests.unit.doctor.board import Board


def resolved(tmp_path: Path, **flags: object) -> Resolved:
    state = {"server.state_dir": tmp_path / "state"}
    return resolve(None, {}, state | {key.replace("__", "."): value for key, value in flags.items()})


def levels(findings: list[Finding]) -> list[Level]:
    return [each.level for each in findings]


def test_each_thing_that_is_wrong_with_the_configuration_fails_by_itself() -> None:
    found = list(check_configuration(ConfigError(["edge.toml:2: http.prot: no such key", "b"])))
    assert levels(found) == [Level.FAIL, Level.FAIL]
    assert found[0].text.startswith("edge.toml:2")


def test_a_file_that_is_missing_fails_and_what_is_doubtful_warns(tmp_path: Path) -> None:
    read = resolved(tmp_path, http__token_file=tmp_path / "gone", http__host="0.0.0.0", models__m__path=tmp_path / "m")
    assert sorted(each.level.value for each in check_configuration(read)) == ["fail", "warn", "warn"]


def test_a_valid_configuration_says_where_it_comes_from(tmp_path: Path) -> None:
    file = tmp_path / "edge.toml"
    file.write_text("[http]\nport = 9000\n")
    (found,) = check_configuration(resolve(file, {"EDGE_LOG__LEVEL": "debug"}, {}))
    assert found.text == f"valid: {file}, 1 keys of the environment and of flags"
    (found,) = check_configuration(resolve(None, {}, {}))
    assert found.text == "valid: nothing but defaults"


def test_models_that_may_be_read_are_counted(tmp_path: Path, board: Board) -> None:
    for name, version in (("a", 1), ("a", 2), ("b", 1)):
        (tmp_path / "models" / name / str(version)).mkdir(parents=True)
        (tmp_path / "models" / name / str(version) / "model.tflite").write_bytes(b"x" * 10)
    config = resolved(tmp_path, repository__path=tmp_path / "models", models__a__device="cpu").config
    (found,) = check_models(board.machine(), config)
    assert (found.level, found.text.endswith("3 versions")) == (Level.OK, True)
    assert model_sizes(config) == [10, 10, 10]


@pytest.mark.parametrize("barred", ["", "m", "m/1", "m/1/model.tflite"])
def test_a_model_that_may_not_be_read_fails_wherever_the_bar_is(tmp_path: Path, board: Board, barred: str) -> None:
    place = tmp_path / "models"
    (place / "m/1").mkdir(parents=True)
    (place / "m/1/model.tflite").touch()
    config = resolved(tmp_path, repository__path=place).config
    found = list(check_models(board.machine(access=lambda path, mode: path != place / barred), config))
    assert levels(found) == [Level.FAIL]
    assert str(place / barred) in found[0].text


def test_a_directory_without_versions_warns_and_one_that_is_not_there_is_left_to_the_configuration(
    tmp_path: Path, board: Board
) -> None:
    (tmp_path / "empty").mkdir()
    config = resolved(tmp_path, models__m__path=tmp_path / "empty", models__n__path=tmp_path / "gone").config
    assert levels(list(check_models(board.machine(), config))) == [Level.WARN]


def test_a_configuration_that_names_no_model_is_well(tmp_path: Path, board: Board) -> None:
    assert levels(list(check_models(board.machine(), resolved(tmp_path).config))) == [Level.OK]


@pytest.mark.parametrize(("free", "level"), [(0, Level.FAIL), (5 << 20, Level.WARN), (1 << 30, Level.OK)])
def test_the_state_directory_wants_room(tmp_path: Path, board: Board, free: int, level: Level) -> None:
    assert check_state(board.machine(), resolved(tmp_path).config, free).level is level


def test_the_state_directory_is_not_made_and_must_be_one_that_could_be(tmp_path: Path, board: Board) -> None:
    config = resolved(tmp_path).config
    assert "is made at the first start" in check_state(board.machine(), config).text
    assert not (tmp_path / "state").exists()
    assert check_state(board.machine(access=lambda path, mode: False), config).level is Level.FAIL
    (tmp_path / "state").touch()
    assert "want a directory" in check_state(board.machine(), config).text
