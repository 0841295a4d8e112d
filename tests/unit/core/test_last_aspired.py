"""What the agent wanted last outlives the process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge.core.last_aspired import FORMAT, LastAspired
from edge.domain.layout import parse_aspired

GOOD = b'{"format": "edge-aspired/1", "generation": 7, "versions": [3], "fallback": 2, "labels": {"stable": 2}}'
MODELS = Path("/models/m")


def test_what_is_kept_is_recalled_by_the_next_process(tmp_path: Path) -> None:
    LastAspired(tmp_path).keep("m", MODELS, GOOD)
    recalled = LastAspired(tmp_path).recall("m", MODELS)
    assert recalled is not None
    assert parse_aspired(recalled) == parse_aspired(GOOD)
    assert [file.name for file in (tmp_path / "aspired").iterdir()] == ["m.json"]


def test_another_directory_of_the_same_name_is_another_model(tmp_path: Path) -> None:
    LastAspired(tmp_path).keep("m", MODELS, GOOD)
    assert LastAspired(tmp_path).recall("m", Path("/elsewhere/m")) is None
    assert LastAspired(tmp_path).recall("n", MODELS) is None


def test_what_is_kept_already_is_not_written_again(tmp_path: Path) -> None:
    memory = LastAspired(tmp_path)
    memory.keep("m", MODELS, GOOD)
    before = (tmp_path / "aspired" / "m.json").stat().st_ino
    memory.keep("m", MODELS, GOOD)
    assert (tmp_path / "aspired" / "m.json").stat().st_ino == before
    memory.keep("m", MODELS, GOOD.replace(b"7", b"8"))
    assert (tmp_path / "aspired" / "m.json").stat().st_ino != before


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"[]", b"\xff\xff", b'{"format": "other/1"}', json.dumps({"format": FORMAT}).encode()]
)
def test_a_damaged_record_is_none_and_is_replaced(
    tmp_path: Path, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    memory = LastAspired(tmp_path)
    (tmp_path / "aspired").mkdir()
    (tmp_path / "aspired" / "m.json").write_bytes(damage)
    assert memory.recall("m", MODELS) is None
    assert "unreadable" in caplog.text
    memory.keep("m", MODELS, GOOD)
    assert memory.recall("m", MODELS) is not None


def test_a_state_directory_that_cannot_be_written_to_costs_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    LastAspired(tmp_path / "file").keep("m", MODELS, GOOD)
    assert "cannot be written" in caplog.text
    nowhere = LastAspired(None)
    nowhere.keep("m", MODELS, GOOD)
    assert nowhere.recall("m", MODELS) is None
