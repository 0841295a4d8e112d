"""What systemd is told of the models, in one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edge.app import CPUINFO, doubt_processor
from edge.domain.lifecycle import State
from edge.domain.models import ModelId
from edge.domain.ports import ModelStatus, VersionStatus
from edge.frontends.supervised import standing

S = State


def model(name: str, *states: State) -> ModelStatus:
    return ModelStatus(name, [VersionStatus(ModelId(name, at + 1), state) for at, state in enumerate(states)], {})


@pytest.mark.parametrize(
    ("models", "text"),
    [
        ((), "no models"),
        (((S.READY,),), "1 model ready"),
        (((S.READY,), (S.READY,), (S.READY,), (S.TESTING,)), "3 models ready, 1 loading"),
        (((S.LOADING, S.READY), (S.FAILED, S.READY)), "2 models ready, 1 updating"),
        (((S.FAILED,), (S.FAILED, S.LOADING), (S.DRAINING, S.UNLOADED)), "1 model loading, 1 unloading, 1 failed"),
        (((S.UNLOADED,), ()), "2 models not there"),
    ],
)
def test_each_model_counts_once_by_the_best_of_its_versions(models: tuple[tuple[State, ...], ...], text: str) -> None:
    assert standing(model(f"m{at}", *states) for at, states in enumerate(models)) == text


def test_a_server_that_cannot_see_its_processor_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    doubt_processor(CPUINFO)
    assert caplog.text == ""
    doubt_processor(tmp_path / "cpuinfo")
    assert "cpuinfo cannot be opened (No such file or directory)" in caplog.text
    assert "ProcSubset=pid" in caplog.text


def test_a_server_that_nobody_keeps_does_not_import_what_talks_to_systemd() -> None:
    code = (
        "import sys, edge.app; from edge.frontends.supervised import Supervised; Supervised();"
        "print('edge.systemd' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PATH": "/usr/bin"}
    )
    assert done.stdout.strip() == "False"
