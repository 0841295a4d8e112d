"""The decider of routing: shares, stickiness, and how few keys move."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from edge.domain.routing import MAX_SIDES, Routing, Side, check_weights, route, standing, version_named

KEYS = [b"device-%d" % number for number in range(4000)]
names = st.text(min_size=1, max_size=12)
weights = st.floats(0.001, 1e9)
sides = st.lists(st.tuples(names, weights), min_size=1, max_size=8, unique_by=lambda side: side[0]).map(
    lambda found: tuple(Side(*side) for side in found)
)
keys = st.binary(min_size=1, max_size=64)
draws = st.floats(0, 1, exclude_max=True)


def sticky(sides: dict[str, float]) -> dict[bytes, str]:
    chosen = tuple(Side(name, weight) for name, weight in sides.items())
    return {key: route(chosen, key, 0.0).name for key in KEYS}


def moved(before: dict[str, float], after: dict[str, float]) -> Counter[tuple[str, str]]:
    """How many keys went from which side to which."""
    old, new = sticky(before), sticky(after)
    return Counter((old[key], new[key]) for key in KEYS if old[key] != new[key])


def near(count: float, share: float) -> bool:
    """Within four standard deviations of what chance gives."""
    return abs(count - share * len(KEYS)) <= 4 * math.sqrt(len(KEYS) * share * (1 - share))


def test_keys_are_shared_out_by_the_weights() -> None:
    counts = Counter(sticky({"stable": 70, "canary": 20, "7": 10}).values())
    assert near(counts["stable"], 0.7)
    assert near(counts["canary"], 0.2)
    assert near(counts["7"], 0.1)


def test_requests_without_a_key_are_shared_out_by_the_weights() -> None:
    three = (Side("a", 70), Side("b", 20), Side("c", 10))
    counts = Counter(route(three, b"", number / 1000).name for number in range(1000))
    assert counts == {"a": 700, "b": 200, "c": 100}


@given(sides, keys, draws, draws)
def test_a_key_always_has_the_same_side(given: tuple[Side, ...], key: bytes, one: float, other: float) -> None:
    assert route(given, key, one) == route(given, key, other) == route(given[::-1], key, one)


@given(sides, draws)
def test_any_draw_has_a_side(given: tuple[Side, ...], draw: float) -> None:
    assert route(given, b"", draw) in given


@given(sides, keys)
def test_the_unit_of_the_weights_does_not_matter(given: tuple[Side, ...], key: bytes) -> None:
    doubled = tuple(Side(side.name, side.weight * 2) for side in given)
    assert route(given, key, 0.0).name == route(doubled, key, 0.0).name


@given(sides, keys, names, weights)
def test_a_side_that_grows_only_takes_keys(given: tuple[Side, ...], key: bytes, name: str, weight: float) -> None:
    before = route(given, key, 0.0)
    rest = tuple(side for side in given if side.name != name)
    assume(all(weight >= side.weight for side in given if side.name == name))
    assert route((*rest, Side(name, weight)), key, 0.0).name in (before.name, name)


@given(sides, keys)
def test_only_the_keys_of_a_side_that_goes_move(given: tuple[Side, ...], key: bytes) -> None:
    assume(len(given) > 1)
    before = route(given, key, 0.0)
    for gone in given:
        left = tuple(side for side in given if side is not gone)
        assert gone is before or route(left, key, 0.0) == before


def test_as_many_keys_move_as_the_weights_do() -> None:
    went = moved({"stable": 90, "canary": 10}, {"stable": 80, "canary": 20})
    assert went.keys() == {("stable", "canary")}
    assert near(went.total(), 0.1)
    went = moved({"a": 1, "b": 1, "c": 1}, {"a": 1, "b": 1})
    assert went.keys() == {("c", "a"), ("c", "b")}
    assert near(went.total(), 1 / 3)


def test_keys_of_a_side_that_is_not_ready_go_to_the_others_by_their_weights() -> None:
    went = moved({"a": 60, "b": 20, "c": 20}, {"a": 60, "b": 20})
    assert abs(went["c", "a"] / went.total() - 0.75) < 0.08


def test_digits_are_a_version_and_anything_else_is_a_label() -> None:
    labels = {"stable": 3, "4": 9}
    assert version_named("4", labels) == 4
    assert version_named("stable", labels) == 3
    assert version_named("canary", labels) is None
    assert version_named("²", labels) is None
    assert version_named("9" * 5000, labels) is None


def test_the_status_says_what_is_not_as_configured() -> None:
    routing = Routing({"stable": 90, "canary": 10, "5": 0}, "x-key", shadow="7")
    labels = {"stable": 1, "canary": 2}
    assert standing(routing, labels, {1, 2, 7}).problem == ""
    assert standing(routing, labels, {1}).problem == "canary: not ready; shadow 7: not ready"
    assert standing(routing, {"canary": 2}, {2, 7}).problem == "stable: no version has this label"
    assert standing(routing, labels, {9, 7}).problem == (
        "stable: not ready; canary: not ready; the newest version answers"
    )
    status = standing(routing, labels, {1, 2})
    assert [(side.version, side.ready) for side in status.sides] == [(1, True), (2, True), (5, False)]


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"a": 0.0}, "at least one weight above 0"),
        ({"a": math.nan}, "finite"),
        ({"": 1.0}, "a version or a label"),
        ({str(number): 1.0 for number in range(MAX_SIDES + 1)}, f"at most {MAX_SIDES}"),
    ],
)
def test_weights_that_say_nothing_are_refused(bad: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check_weights(bad)
    check_weights({"stable": 90, "3": 10})
