from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edge.core.claim import claim

CLAIM = (
    "import sys, pathlib; from edge.core.claim import claim; print(claim(pathlib.Path(sys.argv[1]))); sys.stdin.read()"
)


def test_a_state_directory_is_one_server_s_until_it_is_killed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CLAIM, tmp_path / "state"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "True\n"
        assert not claim(tmp_path / "state")
        assert "another server uses it" in caplog.text
        other.kill()
    assert claim(tmp_path / "state")


def test_a_directory_that_cannot_be_made_costs_the_memory_and_not_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert not claim(tmp_path / "file" / "state")
