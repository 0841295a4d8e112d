"""Which runtime is used, and what is read of a directory, without importing more than needed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge.backends import catalog
from edge.backends.runtime import runtime
from edge.domain.errors import LoadError
from edge.domain.models import Platform


def test_an_unknown_runtime_is_refused_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_RUNTIME", "tensorrt")
    with pytest.raises(LoadError, match="EDGE_RUNTIME: want auto, litert or tflite, got 'tensorrt'"):
        runtime()


def test_a_runtime_that_is_not_installed_is_named_with_what_to_install() -> None:
    """In a process where neither can be imported."""
    program = (
        "import sys; sys.modules['ai_edge_litert'] = sys.modules['tflite_runtime'] = None\n"
        "from edge.backends.runtime import runtime\n"
        "from edge.domain.errors import LoadError\n"
        "try: runtime()\n"
        "except LoadError as error: print(error)\n"
    )
    environment = os.environ | {"EDGE_RUNTIME": "auto"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    assert "no TFLite runtime can be imported (ai-edge-litert: " in done.stdout
    assert "install ai-edge-litert, or edge-serving[tflite]" in done.stdout


def test_the_runtime_that_is_asked_for_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    found = runtime()
    assert found.name in ("ai-edge-litert", "tflite-runtime")
    assert str(found) == f"{found.name} {found.version}"
    name = {"ai-edge-litert": "litert", "tflite-runtime": "tflite"}[found.name]
    monkeypatch.setenv("EDGE_RUNTIME", name)
    assert runtime().Interpreter is found.Interpreter


def test_no_runtime_is_imported_before_a_model_is_loaded() -> None:
    program = (
        "import sys, edge.backends.catalog as catalog\n"
        "from edge.domain.models import Platform\n"
        "assert not any('edge.backends.tflite' in name for name in sys.modules)\n"
        "catalog.backend_for(Platform.TFLITE)\n"
        "loaded = {name.partition('.')[0] for name in sys.modules}\n"
        "assert not loaded & {'ai_edge_litert', 'tflite_runtime', 'tensorflow', 'aiohttp', 'asyncio'}, loaded\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_backend_is_made_once() -> None:
    assert catalog.backend_for(Platform.TFLITE) is catalog.backend_for(Platform.TFLITE)


def test_a_backend_that_is_not_installed_is_named() -> None:
    with pytest.raises(LoadError, match=r"backend edge\.backends\.nothing:Here is not installed"):
        catalog.backend_at("edge.backends.nothing:Here")


def test_a_platform_is_known_by_its_files(tmp_path: Path) -> None:
    assert catalog.platform_of(tmp_path) is None
    (tmp_path / "saved_model.pb").touch()
    assert catalog.platform_of(tmp_path) is Platform.SAVEDMODEL
    (tmp_path / "model.tflite").touch()
    assert catalog.platform_of(tmp_path) is Platform.TFLITE
    assert catalog.platform_of(tmp_path / "model.tflite") is Platform.TFLITE
    assert catalog.platform_of(tmp_path / "saved_model.pb") is None
    assert catalog.platform_of(tmp_path / "nothing") is None
