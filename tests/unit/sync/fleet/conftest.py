"""The store that the tests of the operator's tools begin with."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.sync.fleet.shop import Shop


@pytest.fixture
async def shop(tmp_path: Path) -> Shop:
    made = Shop(tmp_path)
    await made.create()
    await made.fill()
    return made
