from __future__ import annotations

import random

import pytest

from sync.agent.polls import PollLimits, Polls

LIMITS = PollLimits(poll_s=900, jitter=0.2, max_poll_s=21_600)


class Fixed(random.Random):
    """Chance that always says the same: `share`, in [0, 1)."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def random(self) -> float:
        return self.share


def polls(share: float = 0.5, limits: PollLimits = LIMITS) -> Polls:
    return Polls(limits, Fixed(share))


@pytest.mark.parametrize(("share", "wait_s"), [(0.0, 720), (0.5, 900), (1.0, 1080)])
def test_a_poll_comes_a_fifth_sooner_or_later(share: float, wait_s: float) -> None:
    assert polls(share).good_s() == pytest.approx(wait_s)


def test_failures_double_the_wait_up_to_its_bound() -> None:
    failing = polls()
    assert [failing.failed_s() for _ in range(7)] == [1800, 3600, 7200, 14_400, 21_600, 21_600, 21_600]


def test_one_good_poll_ends_the_backing_off() -> None:
    failing = polls()
    failing.failed_s()
    failing.failed_s()
    assert failing.good_s() == 900
    assert failing.failed_s() == 1800


def test_a_bound_below_the_interval_makes_nobody_poll_more_often() -> None:
    assert polls(limits=PollLimits(poll_s=900, max_poll_s=60)).failed_s() == 900


@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
def test_a_store_that_says_when_is_not_asked_before(share: float) -> None:
    assert polls(share).failed_s(retry_after_s=7200) >= 7200


def test_devices_that_a_store_bids_back_at_one_moment_come_at_many() -> None:
    came = {Polls(LIMITS, random.Random(device)).failed_s(7200) for device in range(100)}
    assert max(came) - min(came) > 150


def test_who_has_nothing_to_serve_asks_at_once_and_all_others_within_one_interval() -> None:
    assert polls().first_s(serves=False) == 0
    assert [polls(share).first_s(serves=True) for share in (0.0, 0.5, 1.0)] == pytest.approx([0, 450, 1080])
