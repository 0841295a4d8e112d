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


def test_all_that_is_wrong_is_told_at_once_with_who_set_it_and_what_was_wanted(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text('[device]\ngruop = "x"\n[polls]\n[network]\npeers = "of"\npeer_port = 70000\n')
    environment = {"EDGE_SYNC_POLL__EVERY_S": "sixty", "EDGE_SYNC_NETWORK__PEER_PORT": "8"}
    with pytest.raises(OperatorError) as raised:
        load_config(file, environment, {"store.xyz": "1", "network.window": "22:00-22:00"})
    assert raised.value.message.splitlines() == [
        "configuration:",
        f"  {file}: device.gruop: no such key; did you mean device.group?",
        f"  {file}: polls: no such section; there are device, store, paths, poll, network, report",
        f"  {file}: network.peers: want one of off, use, use_and_share, got 'of'",
        "  EDGE_SYNC_POLL__EVERY_S: poll.every_s: want float, got 'sixty'",
        "  --set store.xyz: store.xyz: no such key; there are url, root, token_file, ca_file",
        "  --set network.window: network.window: want two times that differ, got '22:00-22:00'",
    ]


def test_one_thing_that_is_wrong_is_told_in_one_line() -> None:
    with pytest.raises(OperatorError) as raised:
        load_config(None, {}, {"poll.every_s": "-1"})
    assert raised.value.message == "configuration: --set poll.every_s: poll.every_s: want float >= 0.0, got '-1'"
