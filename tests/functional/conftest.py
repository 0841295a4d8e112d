"""What many of these tests stand on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.functional.broker import Broker, running_broker


@pytest.fixture
def broker(mosquitto: str, tmp_path: Path) -> Iterator[Broker]:
    """For one test; what it knows does not outlive it."""
    with running_broker(mosquitto, tmp_path / "broker") as running:
        yield running
