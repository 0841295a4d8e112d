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
from sync.config import Config, load_config, plain, resolve
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
        f"  {file}:2: device.gruop: no such key; did you mean device.group?",
        f"  {file}:3: polls: no such section; there are device, store, paths, poll, network, update, report, mqtt",
        f"  {file}:5: network.peers: want one of off, use, use_and_share, got 'of'",
        "  EDGE_SYNC_POLL__EVERY_S: poll.every_s: want float, got 'sixty'",
        "  --set store.xyz: store.xyz: no such key; there are url, root, token_file, ca_file",
        "  --set network.window: network.window: want two times that differ, got '22:00-22:00'",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"[poll]\nevery_s = \n", ":2: not TOML: "),
        (b"[poll]\nevery_s = 'x\n", ":2: not TOML: "),
        (b"[poll]\n\xff\n", ":2: not TOML: want UTF-8"),
        (b"\npoll = 60\n", ":2: poll: want a section, [poll]"),
        (b'[poll]\n\nevery_s = "x"\n', ":3: poll.every_s: want float, got 'x'"),
        (b"[poll]\njitter = 2\n", ":2: poll.jitter: want float < 1.0, got 2"),
    ],
)
def test_what_is_wrong_with_the_file_is_told_with_its_line(tmp_path: Path, text: bytes, message: str) -> None:
    file = tmp_path / "agent.toml"
    file.write_bytes(text)
    with pytest.raises(OperatorError) as raised:
        load_config(file, {}, {})
    assert f"{file}{message}" in raised.value.message


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("EDGE_SYNC_POLL_EVERY_S", "did you mean EDGE_SYNC_POLL__EVERY_S?"),
        ("EDGE_SYNC_NETWORK_LIMIT_BPS", "did you mean EDGE_SYNC_NETWORK__LIMIT_BPS?"),
        ("EDGE_SYNC_POLL", "a key is set by EDGE_SYNC_SECTION__KEY"),
    ],
)
def test_a_variable_that_sets_nothing_is_warned_of(name: str, hint: str) -> None:
    ours = {"EDGE_SYNC_STORE": "/srv", "EDGE_SYNC_KEYS": "/keys", "EDGE_SYNC_CONFIG": "a.toml", "EDGE_HTTP__PORT": "1"}
    assert resolve(None, {**ours, name: "60"}, {}).warnings == (f"{name}: no such setting; {hint}",)


def test_every_key_has_an_origin(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text("[poll]\nevery_s = 1\nmax_s = 2\njitter = 0.1\n")
    found = resolve(file, {"EDGE_SYNC_POLL__MAX_S": "3"}, {"poll.jitter": "0.3"})
    assert found.origins.keys() == plain(found.config).keys()
    assert {key: who for key, who in found.origins.items() if who != "default"} == {
        "poll.every_s": f"{file}:2",
        "poll.max_s": "EDGE_SYNC_POLL__MAX_S",
        "poll.jitter": "--set poll.jitter",
    }


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


def test_where_there_is_a_broker_names_that_are_no_levels_of_topics_are_refused_with_their_lines(
    tmp_path: Path,
) -> None:
    file = tmp_path / "agent.toml"
    file.write_text('[device]\nid = "Cam_7"\n')
    assert load_config(file, {}, {}).device.id == "Cam_7"
    file.write_text('[device]\nid = "Cam_7"\n[mqtt]\nhost = "hub"\nprefix = "a//b"\n')
    with pytest.raises(OperatorError) as raised:
        load_config(file, {}, {})
    assert raised.value.message.splitlines() == [
        "configuration:",
        f"  {file}:2: device.id: with mqtt.host, want at most 63 letters a-z, digits and inner hyphens, got 'Cam_7'",
        f"  {file}:5: mqtt.prefix: want a prefix such as edge or site/edge, got 'a//b'",
    ]
