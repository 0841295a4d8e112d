"""What the agent is told before it starts: taken, or refused with what was wanted."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from sync.agent.delivery import TIMEOUT_S
from sync.agent.download import DownloadLimits
from sync.agent.limits import UpdateLimits, update_limits
from sync.agent.loop import LoopLimits
from sync.agent.outbox import MAX_OUTBOX
from sync.agent.places import Reserve
from sync.config import Config, load_config
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
        f"  {file}: polls: no such section; there are device, store, paths, poll, network, update, report, mqtt",
        f"  {file}: network.peers: want one of off, use, use_and_share, got 'of'",
        "  EDGE_SYNC_POLL__EVERY_S: poll.every_s: want float, got 'sixty'",
        "  --set store.xyz: store.xyz: no such key; there are url, root, token_file, ca_file",
        "  --set network.window: network.window: want two times that differ, got '22:00-22:00'",
    ]


def test_one_thing_that_is_wrong_is_told_in_one_line() -> None:
    with pytest.raises(OperatorError) as raised:
        load_config(None, {}, {"poll.every_s": "-1"})
    assert raised.value.message == "configuration: --set poll.every_s: poll.every_s: want float >= 0.0, got '-1'"


def test_without_a_configuration_every_bound_is_the_one_that_its_module_names() -> None:
    config = Config()
    assert update_limits(config) == UpdateLimits()
    assert Reserve(config.update.min_free_bytes, config.update.min_free_share) == Reserve()
    network, downloads = config.network, DownloadLimits()
    assert (network.limit_Bps, network.stall_s, network.source_s) == (
        downloads.limit_Bps,
        downloads.stall_s,
        downloads.source_s,
    )
    poll, loop = config.poll, LoopLimits()
    assert (poll.every_s, poll.max_s, poll.jitter) == (loop.poll_s, loop.max_poll_s, loop.jitter)
    report = config.report
    assert (report.heartbeat_s, report.timeout_s, report.max_waiting) == (loop.heartbeat_s, TIMEOUT_S, MAX_OUTBOX)


@pytest.mark.parametrize("key", [each.name for each in fields(UpdateLimits)])
def test_every_bound_of_an_update_has_a_key(key: str) -> None:
    config = load_config(None, {"EDGE_SYNC_UPDATE__" + key.upper(): "7.5"}, {})
    assert getattr(update_limits(config), key) == 7.5


@pytest.mark.parametrize(
    ("key", "value"),
    [("update.watch_s", "0"), ("update.retry_s", "-1"), ("update.min_free_share", "1"), ("poll.jitter", "1.5"),
     ("report.max_waiting", "0"), ("network.stall_s", "0"), ("update.watch_s", "soon")],
)  # fmt: skip
def test_a_bound_that_makes_no_sense_is_refused_with_its_name(key: str, value: str) -> None:
    with pytest.raises(OperatorError, match=key.partition(".")[2]):
        load_config(None, {}, {key: value})
