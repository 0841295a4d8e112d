"""The TFLite backend passes its tests on tflite-runtime as well."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests import on_tflite_runtime
from tests.functional.apart import passes_apart
from tests.on_tflite_runtime import find_uv

LIMIT_S = 570.0


def test_uv_is_the_one_that_runs_this_else_on_path_else_where_the_readme_puts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_tflite_runtime, "ROOT", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "on-path"))
    monkeypatch.delenv("UV", raising=False)
    assert find_uv() is None
    for directory in (".uv/bin", "on-path"):
        uv = tmp_path / directory / "uv"
        uv.parent.mkdir(parents=True)
        uv.write_text("")
        uv.chmod(0o755)
        assert find_uv() == str(uv)
    monkeypatch.setenv("UV", "/somewhere/uv")
    assert find_uv() == "/somewhere/uv"


@pytest.mark.timeout(600)
@pytest.mark.skipif(os.environ.get("EDGE_RUNTIME") == "tflite", reason="this is that run")
async def test_the_tflite_backend_passes_its_tests_on_tflite_runtime() -> None:
    await passes_apart("tests/on_tflite_runtime.py", limit_s=LIMIT_S)
