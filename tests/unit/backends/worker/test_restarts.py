"""When a worker is started again."""

from __future__ import annotations

from edge.backends.worker.restarts import Restarts


def test_the_wait_doubles_up_to_its_bound_and_then_there_is_no_further_start() -> None:
    restarts = Restarts(backoff_s=0.5, max_backoff_s=3.0, max_deaths=6)
    assert [restarts.wait_s(deaths) for deaths in range(1, 8)] == [0.5, 1.0, 2.0, 3.0, 3.0, None, None]


def test_who_served_for_long_enough_begins_a_new_row() -> None:
    restarts = Restarts(settled_s=60.0)
    assert restarts.row(3, 59.9) == 4
    assert restarts.row(3, 60.0) == 1
    assert restarts.row(0, 0.0) == 1
