from __future__ import annotations

from edge.core.callers import Callers


def test_one_caller_is_alone_once_nobody_else_has_asked_for_a_while() -> None:
    callers = Callers(company_s=1.0)
    asked = [callers.alone(7, now) for now in (100.0, 100.5, 100.999, 101.0, 101.1, 500.0)]
    assert asked == [False, False, False, True, True, True]


def test_two_that_ask_in_turns_are_never_alone() -> None:
    callers = Callers(company_s=1.0)
    assert not any(callers.alone(1 + turn % 2, 100 + turn * 0.4) for turn in range(20))


def test_a_second_ends_the_solitude_of_the_first() -> None:
    callers = Callers(company_s=1.0)
    callers.alone(1, 100.0)
    assert callers.alone(1, 102.0)
    assert not callers.alone(2, 102.1)
    assert not callers.alone(1, 102.2)
    assert not callers.alone(1, 103.1)
    assert callers.alone(1, 103.2)


def test_who_cannot_be_told_from_others_is_never_alone() -> None:
    callers = Callers(company_s=1.0)
    assert not any(callers.alone(0, float(now)) for now in range(100, 110))
