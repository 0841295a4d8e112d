"""A store that the commands work on, signed by today's clock."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.unit.sync.fleet.shop import Shop


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    made = Shop(tmp_path, datetime.now(UTC))
    asyncio.run(made.create())
    asyncio.run(made.fill())
    (tmp_path / "root.json").write_bytes(made.root)
    return made
