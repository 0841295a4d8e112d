"""What nudges and commands do to a device's polls: soon, once, spread, and however many come few."""

from __future__ import annotations

import contextlib
import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.agent.nudges import MAX_POLLS, NudgeLimits, Nudges
from sync.domain.digests import digest_of
from sync.domain.errors import DocumentError
from sync.domain.nudge import Nudge, encode_nudge, nudge_of, parse_nudge

LIMITS = NudgeLimits()
DAY_S = 86400.0


def nudge(generation: int, data: bytes = b"") -> Nudge:
    return Nudge(generation, digest_of(data or b"%d" % generation))


def nudges(seed: int = 1) -> Nudges:
    return Nudges(LIMITS, random.Random(seed))


class Device:
    """Polls when it is asked to; `shows`: the generation that the store has."""

    def __init__(self, shows: int) -> None:
        self.nudges, self.shows, self.known = nudges(), shows, shows
        self.polls: list[float] = []

    def goes_on_to(self, now: float) -> None:
        while self.nudges.at is not None and self.nudges.at <= now:
            at = self.nudges.at
            self.polls.append(at)
            self.known = self.shows
            self.nudges.polled(self.known, at, ok=True, asked=True)

    def hears(self, one: Nudge, now: float, *, fleet: bool = False) -> None:
        self.goes_on_to(now)
        self.nudges.heard(one, self.known, now, fleet=fleet)


def test_a_nudge_causes_one_poll_at_once_and_the_same_one_none_however_often_it_comes() -> None:
    device = Device(shows=7)
    device.shows = 8
    for _ in range(5):
        device.hears(nudge(8), 100.0)
    device.goes_on_to(DAY_S)
    assert device.polls == [100.0]
    device.hears(nudge(8), DAY_S)
    device.hears(nudge(7), DAY_S)
    device.goes_on_to(2 * DAY_S)
    assert device.polls == [100.0], "also what is older than what it has seen"


def test_what_a_group_is_told_is_followed_by_each_device_at_another_moment() -> None:
    at = []
    for seed in range(200):
        each = nudges(seed)
        each.heard(nudge(8), 7, 0.0, fleet=True)
        assert each.at is not None
        at.append(each.at)
    assert 0 <= min(at) < 0.1 * LIMITS.jitter_s
    assert 0.9 * LIMITS.jitter_s < max(at) <= LIMITS.jitter_s


def test_a_nudge_that_is_ahead_of_a_cache_before_the_store_is_followed_again_and_then_given_up() -> None:
    device = Device(shows=7)
    device.hears(nudge(8), 0.0)
    device.goes_on_to(1.0)
    device.shows = 8
    device.goes_on_to(DAY_S)
    assert device.polls == [0.0, 60.0]
    forged = Device(shows=7)
    forged.hears(nudge(2**62), 0.0)
    forged.goes_on_to(DAY_S)
    assert len(forged.polls) == MAX_POLLS
    for hour in range(1, 25):
        forged.hears(nudge(2**62), hour * DAY_S)
    assert len(forged.polls) == MAX_POLLS, "a broker brings what it has kept with each connection"


def test_a_flood_of_nudges_that_somebody_makes_up_is_worth_about_the_polls_that_there_are_anyway() -> None:
    device = Device(shows=7)
    for number in range(86_400):
        device.hears(nudge(1000 + number), float(number))
    device.goes_on_to(2 * DAY_S)
    assert len(device.polls) <= DAY_S / LIMITS.max_every_s + 6 + MAX_POLLS
    device.shows = 8
    device.hears(nudge(8), 2 * DAY_S)
    assert device.nudges.at == 2 * DAY_S, "and holds up no true one that comes later"


def test_a_flood_of_commands_is_a_poll_in_so_many_seconds() -> None:
    device = Device(shows=7)
    for number in range(3600):
        device.goes_on_to(float(number))
        device.nudges.asked(float(number), fleet=False)
    assert 3600 / LIMITS.every_s - 1 <= len(device.polls) <= 3600 / LIMITS.every_s + 1
    gaps = [after - before for before, after in zip(device.polls, device.polls[1:], strict=False)]
    assert min(gaps) >= LIMITS.every_s


def test_a_store_that_wished_to_be_left_alone_is_left_alone() -> None:
    each = nudges()
    each.polled(7, 0.0, ok=False, asked=False, retry_after_s=500.0)
    each.heard(nudge(8), 7, 1.0, fleet=False)
    assert each.at == 500.0
    each.polled(7, 500.0, ok=False, asked=True, retry_after_s=1000.0)
    assert each.at == 1500.0


def test_an_ordinary_poll_that_brings_it_leaves_nothing_to_ask_for() -> None:
    each = nudges()
    each.heard(nudge(8), 7, 0.0, fleet=True)
    each.polled(8, 0.0, ok=True, asked=False)
    assert each.at is None
    each.heard(nudge(9), 8, 1.0, fleet=False)
    assert each.at == 1.0, "and is none that was asked for"


@given(st.binary(max_size=64) | st.text(max_size=64).map(str.encode))
def test_whatever_comes_is_a_nudge_or_a_document_error(data: bytes) -> None:
    with contextlib.suppress(DocumentError):
        assert parse_nudge(data).generation > 0


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"x" * 1025, "want at most 1024 bytes, got 1025"),
        (b"[" * 1000, "Expected `object`"),
        (b'{"generation": 0, "digest": "sha256:%064d"}' % 0, "want 1 to"),
        (b'{"generation": 1e30, "digest": "sha256:%064d"}' % 0, "Expected `int`"),
        (b'{"generation": true, "digest": "sha256:%064d"}' % 0, "Expected `int`"),
        (b'{"generation": 7, "digest": "sha256:x"}', "want sha256: and 64"),
        (b'{"generation": 7}', "missing required field"),
    ],
)
def test_a_nudge_that_makes_no_sense_says_what_was_wanted(data: bytes, why: str) -> None:
    with pytest.raises(DocumentError) as caught:
        parse_nudge(data)
    assert why in caught.value.message


def test_what_a_store_is_said_to_have_is_what_its_timestamp_says() -> None:
    timestamp = msgspec.json.encode({"signatures": [], "signed": {"_type": "timestamp", "version": 42}})
    assert parse_nudge(encode_nudge(nudge_of(timestamp))) == Nudge(42, digest_of(timestamp))
    with pytest.raises(DocumentError):
        nudge_of(b"<html>")
