"""All checks together, and what a child process has to say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edge.config import ConfigError, resolve
from edge.doctor import examine as module
from edge.doctor.children import Died, probe
from edge.doctor.examine import examine
from edge.doctor.finding import Finding, Level
from edge.doctor.runtime import check_runtime
from tests.unit.doctor.board import Board


def well(what: str) -> dict[str, Any]:
    return {"runtime": "ai-edge-litert 2.3.0", "numpy": "2.2.6", "run_s": 0.00001}


def died(said: str) -> Finding:
    def run(what: str) -> dict[str, Any]:
        raise Died(said)

    return check_runtime(run)


def test_every_check_is_made_and_is_well_on_a_device_that_lacks_nothing(board: Board, tmp_path: Path) -> None:
    read = resolve(None, {}, {"server.state_dir": tmp_path, "http.port": 0, "admin.uds": tmp_path / "none"})
    found = list(examine(read, board.machine(), run=well))
    checks = ["configuration", "cpu", "memory", "runtime", "edgetpu", "models", "state", "port", "grpc"]
    assert [each.check for each in found] == [*checks, "mdns", "broker"]
    assert {each.level for each in found if each.check != "mdns"} == {Level.OK}


def test_a_configuration_that_cannot_be_used_keeps_only_what_hangs_on_it_from_being_checked(board: Board) -> None:
    found = list(examine(ConfigError(["wrong"]), board.machine(), run=well))
    assert [each.check for each in found] == ["configuration", "cpu", "memory", "runtime"]


def test_a_check_that_breaks_says_so_and_ends_no_other(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> Finding:
        raise ZeroDivisionError("a core of none")

    monkeypatch.setattr(module, "check_cpu", broken)
    found = list(examine(ConfigError(["wrong"]), board.machine(), run=well))
    assert found[1] == Finding("cpu", Level.FAIL, "cannot be checked: ZeroDivisionError: a core of none")
    assert found[-1].level is Level.OK


@pytest.mark.parametrize(
    ("said", "do"),
    [
        ("AttributeError: _ARRAY_API not found", "numpy<2"),
        ("killed by SIGSEGV", "numpy<2"),
        ("edge.domain.errors.LoadError: no TFLite runtime can be imported", "pip install ai-edge-litert"),
        ("no answer within 30 s", "pip install ai-edge-litert"),
        ("ModuleNotFoundError: No module named 'numpy'", "pip install numpy"),
    ],
)
def test_a_runtime_that_does_not_run_is_told_with_what_brings_one(said: str, do: str) -> None:
    found = died(said)
    assert found.level is Level.FAIL
    assert said in found.text
    assert do in found.do


def test_a_child_that_takes_too_long_or_knows_nothing_is_told_as_such() -> None:
    with pytest.raises(Died, match="no answer within"):
        probe("runtime", within_s=0.001)
    with pytest.raises(Died, match="KeyError"):
        probe("weather")
