"""What many of these tests stand on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.functional.broker import Broker


@pytest.fixture
def broker(mosquitto: str, tmp_path: Path) -> Iterator[Broker]:
    """For one test; what it knows does not outlive it."""
    # Imported here: tests that are run on tflite-runtime have no client of MQTT.
    from tests.functional.broker import running_broker

    with running_broker(mosquitto, tmp_path / "broker") as running:
        yield running
