"""What a configuration has the local network told of."""

from __future__ import annotations

import pytest

from edge.config import load_config
from edge.frontends.announce.announcer import Announcement
from edge.frontends.announce.opening import announcer
from edge.telemetry.build import version
from tests.unit.frontends.announce.test_announcer import Here, Kept


def told(url: str, **flags: object) -> Announcement | None:
    config = load_config(None, {}, {key.replace("__", "."): value for key, value in flags.items()})
    made = announcer(config, url, Here(), Kept())
    return None if made is None else made._said


def test_where_the_server_really_listens_is_told_be_the_socket_its_own_or_from_systemd() -> None:
    said = told("https://192.0.2.1:9000", http__token_file="/tokens", advertise__node="cam-1")
    wanted = Announcement("cam-1", "192.0.2.1", 9000, version(), tls=True, auth="bearer")
    assert said == wanted
    said = told("http://[::]:9000", http__host="127.0.0.1", advertise__ipv6="true")
    assert said is not None
    assert (said.host, said.ipv6) == ("::", True)


@pytest.mark.parametrize("url", ["", "http://127.0.0.1:8501", "http://localhost:8501", "http://[::1]:8501"])
def test_nobody_is_told_of_what_they_cannot_reach(url: str) -> None:
    assert told(url) is None


def test_the_topics_are_told_of_where_there_are_some_and_under_the_same_name() -> None:
    said = told("http://192.0.2.1:1", mqtt__host="broker", mqtt__prefix="site/edge", mqtt__node="cam-2")
    assert said is not None
    assert (said.mqtt, said.node) == ("site/edge", "cam-2")
    said = told("http://192.0.2.1:1")
    assert said is not None
    assert (said.mqtt, said.node) == ("", "")
