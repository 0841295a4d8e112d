"""10,000 devices while their store is away, and when it is back."""

from __future__ import annotations

import heapq
import itertools
import random
from bisect import bisect_left
from collections.abc import Iterator
from typing import Any

import pytest

from sync.agent.polls import Polls
from sync.domain.errors import Refused, Unreachable
from tests.unit.sync.plant import DEVICES, DOCUMENTS, LIMITS, LONGEST_S, POLLS_PER_S, by_chance, peak
from tests.unit.sync.simulation import Fleet, Signed, signed


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Signed:
    return signed(tmp_path_factory.mktemp("store"), DOCUMENTS)


def test_after_an_outage_devices_come_back_one_after_the_other() -> None:
    began, ended, until = 3600.0, 3600.0 + 7200.0, 28_800.0
    times = [when for when, _ in polled(DEVICES, until, lambda now: began <= now < ended)]
    during = times[bisect_left(times, began + LONGEST_S) : bisect_left(times, ended)]
    assert len(during) < 0.4 * POLLS_PER_S * (ended - began - LONGEST_S), "fewer polls while there is no answer"
    after = times[bisect_left(times, ended) :]
    for window_s in (1.0, 10.0, 60.0):
        assert peak(after, window_s) < 1.15 * by_chance(POLLS_PER_S * window_s), f"within {window_s} s"
    last = len(times) - bisect_left(times, until - LIMITS.poll_s)
    assert last == pytest.approx(DEVICES, rel=0.02), "all are back to their interval"


def test_after_an_outage_of_days_everybody_is_back_within_the_longest_pause() -> None:
    ended = 3 * 86_400.0
    until = ended + LIMITS.max_poll_s * (1 + LIMITS.jitter)
    back = {device for when, device in polled(1000, until, lambda now: now < ended) if when >= ended}
    assert len(back) == 1000


def test_the_loop_polls_when_the_pauses_say(documents: Signed) -> None:
    fleet = Fleet(documents, 200)
    store = fleet.store

    def answers(error: Unreachable | None) -> None:
        store.down = error

    down, up = 2000.0, 8000.0
    fleet.run(16_000.0, {down: lambda: answers(Unreachable("no route to host")), up: lambda: answers(None)})
    for polls in store.polls.values():
        expected_s = LIMITS.poll_s
        for when, after in itertools.pairwise(polls):
            expected_s = expected_s * 2 if down <= when < up else LIMITS.poll_s
            assert (1 - LIMITS.jitter) * expected_s <= after - when <= (1 + LIMITS.jitter) * expected_s


def test_the_loop_comes_back_when_the_store_wishes_and_not_before(documents: Signed) -> None:
    fleet = Fleet(documents, 50)
    fleet.store.down = Refused("503 Service Unavailable", retry_after_s=10_000)
    fleet.run(12_000.0, {})
    for first, second, *more in fleet.store.polls.values():
        assert 10_000 <= second - first <= 10_000 + LONGEST_S
        assert not more


def polled(count: int, until: float, down: Any) -> Iterator[tuple[float, int]]:
    """Times in order, and devices, by the pauses of the agent's loop. down: whether the store is, at a time."""
    pauses = [Polls(LIMITS, random.Random(device)) for device in range(count)]
    due = [(each.first_s(serves=True), device) for device, each in enumerate(pauses)]
    heapq.heapify(due)
    while due[0][0] < until:
        now, device = due[0]
        yield now, device
        pause = pauses[device].failed_s() if down(now) else pauses[device].good_s()
        heapq.heapreplace(due, (now + pause, device))
