import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.telemetry.window import SAMPLES, WINDOW_S, Window, percentile
from tests.unit.telemetry.clock import Clock


def test_a_new_window_is_empty() -> None:
    recent = Window(Clock()).recent()
    assert (recent.requests, recent.failures, recent.run_p99_s) == (0, 0, 0.0)


def test_percentiles_are_of_the_newest_answers() -> None:
    clock = Clock()
    window = Window(clock)
    for number in range(SAMPLES + 100):
        window.answered(total_s=number + 1000.0, run_s=float(number))
    recent = window.recent()
    assert recent.requests == SAMPLES + 100
    assert recent.run_p50_s == 100 + SAMPLES // 2 - 1
    assert recent.run_p99_s == 100 + 1013
    assert sorted(window.samples())[0] == (100.0, 1100.0)


def test_what_is_older_than_asked_for_is_forgotten() -> None:
    clock = Clock()
    window = Window(clock)
    window.answered(2.0, 1.0)
    window.refused(failure=True)
    window.refused(failure=False)
    window.non_finite()
    clock.now += 30
    window.answered(4.0, 3.0)
    assert (window.recent().requests, window.recent().failures, window.recent().non_finite) == (4, 1, 1)
    assert window.recent(10).requests == 1
    assert window.recent(10).run_p99_s == 3.0
    assert (window.recent(10).failures, window.recent(10).non_finite) == (0, 0)
    clock.now += 3600
    assert window.recent().requests == 0
    assert window.recent().run_p50_s == 0.0


def test_the_rate_is_of_the_last_ten_whole_seconds() -> None:
    clock = Clock()
    window = Window(clock)
    for _ in range(40):
        for _ in range(5):
            window.answered(0.1, 0.1)
        clock.now += 1
    assert window.rate() == 5.0
    clock.now += 5
    assert window.rate() == 2.5
    clock.now += 5
    assert window.rate() == 0.0


def test_the_rate_of_a_young_window_is_over_its_life() -> None:
    clock = Clock()
    window = Window(clock)
    for _ in range(6):
        window.answered(0.1, 0.1)
    clock.now += 0.5
    assert window.rate() == 12.0
    clock.now += 2.5
    assert window.rate() == 2.0


@given(st.lists(st.tuples(st.floats(0, 100), st.booleans()), max_size=60), st.integers(1, WINDOW_S))
def test_counts_are_exact_for_whole_seconds(steps: list[tuple[float, bool]], seconds: int) -> None:
    clock = Clock()
    window = Window(clock)
    times = []
    for wait, good in steps:
        clock.now += wait
        times.append(clock.now)
        if good:
            window.answered(0.0, 0.0)
        else:
            window.refused(failure=True)
    first = int(clock.now - seconds) + 1
    assert window.recent(seconds).requests == sum(int(at) >= first for at in times)


@pytest.mark.parametrize(("share", "value"), [(0.5, 5.0), (0.9, 9.0), (0.99, 10.0), (0.0, 1.0), (1.0, 10.0)])
def test_a_percentile_is_the_nearest_rank(share: float, value: float) -> None:
    assert percentile([float(number) for number in range(1, 11)], share) == value


def test_a_version_that_has_answered_nothing_takes_no_room_for_answers() -> None:
    window = Window(Clock())
    window.refused(failure=True)
    assert (window.samples(), window.recent().failures) == ([], 1)
    assert sum(len(one) for one in (window._at, window._run, window._total)) == 0
