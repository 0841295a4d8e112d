"""What an operator does to a rollout, one command after the other."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sync.domain.errors import OperatorError
from sync.domain.rollout import Rollout, want
from sync.fleet import rollouts

Change = Callable[[Rollout], Rollout]


def start(document: Rollout, version: int, percent: float = 100.0) -> Rollout:
    return rollouts.started(document, "m", version, percent=percent, today="2026-11-20")


def with_stable(version: int) -> Rollout:
    return rollouts.promoted(start(rollouts.empty("g"), version), "m")


def wanted(document: Rollout, active: int | None = None) -> list[int]:
    return [wish.version for wish in want("dev", frozenset(), document, "m", active=active)]


def test_after_a_rollback_the_next_version_may_be_started() -> None:
    document = rollouts.rolled_back(start(with_stable(2), 3), "m")
    assert wanted(document, active=3) == [2]
    document = start(document, 4)
    assert wanted(document, active=3) == [4, 2]
    assert wanted(start(with_stable(2), 4, percent=0), active=3) == [2], "who is not in its share goes back"


@pytest.mark.parametrize("change", [lambda each: each, lambda each: rollouts.paused(each, "m")])
def test_a_candidate_that_devices_may_have_is_not_replaced_by_another(change: Change) -> None:
    with pytest.raises(OperatorError, match=r"version 3 is (running|paused); promote it or roll it back first"):
        start(change(start(with_stable(2), 3)), 4)


def test_every_change_raises_the_number_of_the_document() -> None:
    document = start(with_stable(1), 2, percent=1)
    steps = [document]
    changes: list[Change] = [
        lambda each: rollouts.widened(each, "m", 10),
        lambda each: rollouts.paused(each, "m"),
        lambda each: rollouts.resumed(each, "m"),
        lambda each: rollouts.rolled_back(each, "m"),
        lambda each: start(each, 3),
        lambda each: rollouts.promoted(each, "m"),
    ]
    for change in changes:
        steps.append(change(steps[-1]))
    seqs = [each.seq for each in steps]
    assert seqs == sorted(set(seqs))


def test_without_a_stable_version_nothing_is_rolled_back() -> None:
    with pytest.raises(OperatorError, match="no stable version"):
        rollouts.rolled_back(start(rollouts.empty("g"), 1), "m")


def test_a_version_that_is_paused_is_resumed_and_not_started_anew() -> None:
    document = rollouts.paused(start(with_stable(2), 3, percent=10), "m")
    with pytest.raises(OperatorError, match="version 3 is paused; resume it first"):
        start(document, 3)


def test_a_share_is_never_made_smaller() -> None:
    document = start(with_stable(2), 3, percent=10)
    with pytest.raises(OperatorError, match=r"want at least 10 %, got 5 %"):
        rollouts.widened(document, "m", 5)
    assert wanted(rollouts.widened(document, "m", 10)) == wanted(document)


def test_a_candidate_that_is_widened_takes_in_the_rings_and_the_window_that_are_named_and_keeps_those_it_has() -> None:
    document = rollouts.started(
        with_stable(2), "m", 3, percent=10, rings=("canary",), window="22:00-05:00", today="2026-11-20"
    )
    again = rollouts.widened(document, "m", 20, rings=("lab", "canary")).models["m"].candidate
    assert again is not None
    assert (again.rings, again.window) == (("canary", "lab"), "22:00-05:00")
    later = rollouts.widened(document, "m", 20, window="01:00-02:00").models["m"].candidate
    assert later is not None
    assert (later.rings, later.window) == (("canary",), "01:00-02:00")
