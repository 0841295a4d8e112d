"""Real models and photographs, which are not part of the repository."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

BESIDE = Path(__file__).parents[2] / "shared" / "data"


def shared_data(name: str) -> Path:
    """A file of the shared data; the test is skipped, saying so, where it is not there."""
    path = Path(os.environ.get("EDGE_SHARED_DATA") or BESIDE) / name
    if not path.exists():
        pytest.skip(f"{name} is not in {path.parent} (EDGE_SHARED_DATA names another place)")
    return path
