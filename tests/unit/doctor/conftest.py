from pathlib import Path

import pytest

from tests.unit.doctor.board import Board


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path / "board")
