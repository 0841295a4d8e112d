import time
from pathlib import Path

from edge.sources.stillness import Stillness

HERE = Path("here")


def test_files_that_are_old_by_their_own_times_stand_still_at_once() -> None:
    stillness = Stillness(settle_s=3600)
    assert stillness.holds(HERE, "a", time.time() - 3601)
    assert not stillness.holds(HERE, "a", time.time())


def test_where_the_clock_is_behind_the_files_it_is_what_was_seen_that_counts() -> None:
    stillness = Stillness(settle_s=0.02)
    tomorrow = time.time() + 86_400
    assert not stillness.holds(HERE, "a", tomorrow)
    time.sleep(0.02)
    assert stillness.holds(HERE, "a", tomorrow)
    assert not stillness.holds(HERE, "b", tomorrow), "it has changed"


def test_what_is_not_there_any_more_is_seen_anew_when_it_comes_back() -> None:
    stillness = Stillness(settle_s=0.02)
    tomorrow = time.time() + 86_400
    stillness.holds(HERE, "a", tomorrow)
    time.sleep(0.02)
    stillness.forget_all_but(())
    assert not stillness.holds(HERE, "a", tomorrow)
