"""`edge check` of a SavedModel: 0 for one that would serve, 5 and the reason for any other."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.gpu import saved

Maker = Callable[[Path], Path]


def not_one(path: Path) -> Path:
    path.mkdir(parents=True)
    (path / "saved_model.pb").write_bytes(b"\x12\xff not a graph" * 9)
    return path


def other_tags(path: Path) -> Path:
    return saved.v1(path, tags=("train",))


def with_golden(factor: float) -> Maker:
    def make(path: Path) -> Path:
        saved.scaling(path, 2.0)
        x = np.ones((3, 4, 2), np.float32)
        arrays: dict[str, Any] = {"input:x": x, "output:y": factor * x}
        np.savez(path / "golden.npz", **arrays)
        return path

    return make


CASES: dict[str, tuple[Maker, int, str]] = {
    "keras": (saved.keras, 0, ""),
    "golden": (with_golden(2.0), 0, ""),
    "wrong": (with_golden(3.0), 5, "output y: 24 of 24 elements are not within"),
    "no-variables": (saved.without_variables, 5, "saved_model.pb: The passed save_path is not a valid checkpoint"),
    "no-signatures": (saved.without_signatures, 5, "it has no signature that can be served"),
    "no-serve-tag": (other_tags, 5, "could not be found in SavedModel, with available tags '[{'train'}]'"),
    "endless": (saved.endless, 5, "timed out: not done after 24 s"),
    "crashing": (saved.crashing, 5, "its worker crashed (SIGABRT)"),
    "not-one": (not_one, 5, "saved_model.pb: "),
}


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, Any]]:
    """All at once: what takes long is TensorFlow's import, again and again."""
    root = tmp_path_factory.mktemp("check")
    for name, (make, _, _) in CASES.items():
        (root / name).mkdir()
        make(root / name / "1")

    def check(name: str) -> tuple[int, Any]:
        timeout = ["--timeout", "24"] if name == "endless" else []
        command = [sys.executable, "-m", "edge", "check", str(root / name / "1"), "--json", *timeout]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)["versions"][0]

    with ThreadPoolExecutor(3) as pool:
        found = dict(zip(CASES, pool.map(check, CASES), strict=True))
    shutil.rmtree(root)
    return found


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", CASES)
def test_what_would_serve_passes_and_nothing_else_does(checked: dict[str, tuple[int, Any]], name: str) -> None:
    _, status, reason = CASES[name]
    code, report = checked[name]
    assert (code, report["ok"]) == (status, status == 0), report
    assert reason in report["reason"]
    assert report["platform"] == "savedmodel"


def test_the_report_tells_what_was_measured_in_the_worker(checked: dict[str, tuple[int, Any]]) -> None:
    _, report = checked["golden"]
    assert report["runs"] == 3
    assert report["device"] == "cpu"
    assert 0 < report["run_s"] < 1 < report["load_s"]
    assert report["model_bytes"] < 200 * 2**20 < report["peak_bytes"]
    assert report["signatures"]["serving_default"]["inputs"] == {"x": {"dtype": "float32", "shape": [-1, 2]}}
