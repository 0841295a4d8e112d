"""The repository that these tests begin with."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.sync.trust.world import MANIFEST, ROLLOUT, World


@pytest.fixture
async def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    await made.create()
    await made.publish("rollouts", ROLLOUT, b"rollout 1")
    await made.publish("releases", MANIFEST.format(1), b"manifest 1")
    return made
