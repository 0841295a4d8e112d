"""Real models and photographs, kept beside the repository: too large to live in it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def shared_data(name: str) -> Path:
    """A file of `../shared/data`, or of the directory that EDGE_SHARED_DATA names; the test is skipped without it."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    path = Path(os.environ.get("EDGE_SHARED_DATA", beside)) / name
    if not path.exists():
        pytest.skip(f"no {name}: set EDGE_SHARED_DATA to a directory that has it")
    return path
