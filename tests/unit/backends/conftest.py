"""Models on disk, and a device that is not there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edge.domain.models import Artifact, ModelId, Platform

Put = Callable[..., Artifact]


@pytest.fixture
def put(tmp_path: Path) -> Put:
    """put(content, name="model.tflite") writes a file of version 1 of `m`, and gives the artifact."""
    directory = tmp_path / "m" / "1"
    directory.mkdir(parents=True)

    def put(content: bytes, name: str = "model.tflite") -> Artifact:
        (directory / name).write_bytes(content)
        return Artifact(ModelId("m", 1), Platform.TFLITE, directory)

    return put


@pytest.fixture
def device(fake_library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A device whose behaviour is told by files in the directory that this gives: see `fake_delegate.c`."""
    directory = tmp_path / "device"
    directory.mkdir()
    monkeypatch.setenv("EDGE_EDGETPU_LIBRARY", str(fake_library))
    monkeypatch.setenv("FAKE_DELEGATE_DIR", str(directory))
    return directory
