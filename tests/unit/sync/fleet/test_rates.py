"""A bucket of tokens for each key."""

from __future__ import annotations

import pytest

from sync.fleet.rates import MAX_KEYS, Rates


def test_a_burst_passes_and_then_so_many_in_a_second() -> None:
    rates = Rates(per_s=2, burst=3)
    assert [rates.wait_s("a", 0.0) for _ in range(3)] == [0, 0, 0]
    assert rates.wait_s("a", 0.0) == pytest.approx(0.5)
    assert rates.wait_s("a", 0.5) == 0
    assert rates.wait_s("a", 0.5) > 0
    assert [rates.wait_s("a", 1000.0) for _ in range(4)] == [0, 0, 0, pytest.approx(0.5)]


def test_one_key_takes_nothing_from_another() -> None:
    rates = Rates(per_s=1, burst=1)
    assert rates.wait_s("a", 0.0) == 0
    assert rates.wait_s("b", 0.0) == 0


def test_what_it_remembers_is_bounded() -> None:
    rates = Rates(per_s=1, burst=1)
    for number in range(MAX_KEYS + 5):
        rates.wait_s(str(number), 0.0)
    assert len(rates._buckets) == MAX_KEYS
