"""What the agent is told before it starts: taken, or refused with what was wanted."""

from __future__ import annotations

from pathlib import Path

import pytest

from sync.config import load_config
from sync.domain.errors import OperatorError


def test_a_flag_beats_the_environment_and_that_the_file(tmp_path: Path) -> None:
    file = tmp_path / "edge-sync.toml"
    file.write_text('[network]\nlimit_Bps = 1\nwindow = "22:00-05:00"\n[poll]\nevery_s = 1')
    environment = {"EDGE_SYNC_NETWORK__LIMIT_BPS": "2", "EDGE_SYNC_POLL__EVERY_S": "2"}
    config = load_config(file, environment, {"poll.every_s": "3"})
    assert (config.network.window, config.network.limit_Bps, config.poll.every_s) == ("22:00-05:00", 2, 3.0)


@pytest.mark.parametrize("window", ["", "22:00-05:00", "00:00-23:59"])
def test_a_window_for_downloads_is_two_times_or_none(window: str) -> None:
    assert load_config(None, {}, {"network.window": window}).network.window == window


@pytest.mark.parametrize("window", ["22-5", "24:00-05:00", "22:00", "22:00-22:00", "22:00-05:60", "22:00-05:00 "])
def test_a_window_that_is_none_or_never_opens_is_refused(window: str) -> None:
    with pytest.raises(OperatorError, match="window"):
        load_config(None, {}, {"network.window": window})
