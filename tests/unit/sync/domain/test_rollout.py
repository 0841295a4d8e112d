from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.domain.errors import DocumentError
from sync.domain.rollout import (
    Candidate,
    ModelRollout,
    Pin,
    Rollout,
    Wish,
    bucket,
    encode,
    in_window,
    may_begin,
    opens_in_s,
    parse_pins,
    parse_rollout,
    pin_bin,
    want,
)

DEVICES = [f"device-{n}" for n in range(20_000)]


def rollout(candidate: Candidate | None = None, stable: int | None = 16, spread_s: float = 0.0) -> Rollout:
    return Rollout("edge-rollout/1", "g", 1, {"m": ModelRollout(stable, candidate)}, spread_s=spread_s)


def candidate(state: Any = "running", **fields: Any) -> Candidate:
    return Candidate(17, "r-1", state, **fields)


def versions(document: Rollout, device: str = "d", **more: Any) -> list[int]:
    return [wish.version for wish in want(device, more.pop("rings", frozenset()), document, "m", **more)]


def eligible(percent: float, name: str = "r-1") -> set[str]:
    return {device for device in DEVICES if bucket(name, device) * 100 < percent}


@pytest.mark.parametrize("percent", [0, 1, 10, 50, 100])
def test_a_percentage_reaches_that_share_of_the_devices(percent: float) -> None:
    assert len(eligible(percent)) / len(DEVICES) * 100 == pytest.approx(percent, abs=0.7)


def test_a_larger_share_holds_the_smaller_one() -> None:
    assert eligible(1) < eligible(10) < eligible(50) < eligible(100)


def test_who_comes_first_in_one_rollout_need_not_in_the_next() -> None:
    both = eligible(10) & eligible(10, "r-2")
    assert len(both) / len(DEVICES) == pytest.approx(0.01, abs=0.004)


def test_a_device_that_is_in_wants_the_candidate_and_stable_where_it_cannot_have_that() -> None:
    assert versions(rollout(candidate(percent=100))) == [17, 16]


def test_a_device_that_is_not_in_wants_stable() -> None:
    assert versions(rollout(candidate(percent=0))) == [16]
    assert versions(rollout()) == [16]


def test_a_ring_comes_before_every_percentage() -> None:
    document = rollout(candidate(rings=("canary",)))
    assert versions(document, rings=frozenset({"canary"})) == [17, 16]
    assert versions(document, rings=frozenset({"other"})) == [16]


@pytest.mark.parametrize("state", ["paused", "done"])
def test_paused_and_done_keep_those_that_have_it_and_take_nobody_in(state: str) -> None:
    document = rollout(candidate(state, percent=100))
    assert versions(document, active=17) == [17, 16]
    assert versions(document, active=16) == [16]


def test_a_lowered_percentage_sends_nobody_back() -> None:
    assert versions(rollout(candidate(percent=0)), active=17) == [17, 16]


def test_a_rollout_that_is_rolled_back_sends_everybody_to_stable() -> None:
    assert versions(rollout(candidate("rolling_back", percent=100, rings=("c",))), rings=frozenset("c"), active=17) == [
        16
    ]


def test_a_pin_comes_before_all_else() -> None:
    document = rollout(candidate(percent=100))
    assert versions(document, pin=Pin(9, 4)) == [9, 17, 16]
    assert versions(Rollout("edge-rollout/1", "g", 1, {}), pin=Pin(9, 4)) == [9]


def test_a_model_that_no_document_names_is_left_alone() -> None:
    assert want("d", frozenset(), rollout(), "other") == ()
    assert want("d", frozenset(), rollout(stable=None), "m") == ()


@given(st.text(min_size=1, max_size=20), st.floats(0, 86_400))
def test_a_device_begins_at_its_own_moment_within_the_spread(device: str, spread_s: float) -> None:
    document = rollout(candidate(percent=100), spread_s=spread_s)
    wish = want(device, frozenset(), document, "m")[0]
    assert 0 <= wish.wait_s <= spread_s
    assert wish == want(device, frozenset(), document, "m")[0]


def test_devices_spread_evenly_and_not_by_who_came_first() -> None:
    document = rollout(candidate(percent=100), spread_s=1000)
    waits = [want(device, frozenset(), document, "m")[0].wait_s for device in DEVICES]
    for tenth in range(10):
        share = sum(tenth * 100 <= wait < tenth * 100 + 100 for wait in waits) / len(waits)
        assert share == pytest.approx(0.1, abs=0.01)
    early = eligible(1)
    assert sum(wait for device, wait in zip(DEVICES, waits, strict=True) if device in early) / len(
        early
    ) == pytest.approx(500, abs=100)


def test_who_runs_the_candidate_has_nothing_to_wait_for() -> None:
    document = rollout(candidate(percent=100), spread_s=1000)
    assert want("d", frozenset(), document, "m", active=17)[0] == Wish(17, "r-1", 0.0)


def test_what_was_promoted_is_spread_as_the_candidate_was() -> None:
    document = rollout(spread_s=1000)
    waits = [want(device, frozenset(), document, "m", active=15)[0].wait_s for device in DEVICES]
    for tenth in range(10):
        share = sum(tenth * 100 <= wait < tenth * 100 + 100 for wait in waits) / len(waits)
        assert share == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize("active", [None, 16, 17])
def test_who_has_nothing_or_goes_back_goes_at_once(active: int | None) -> None:
    assert want("d", frozenset(), rollout(spread_s=1000), "m", active=active) == (Wish(16),)


def test_a_rollout_that_is_rolled_back_is_left_at_once_to_whichever_side() -> None:
    document = rollout(candidate("rolling_back"), stable=18, spread_s=1000)
    assert want("d", frozenset(), document, "m", active=17) == (Wish(18),)


@pytest.mark.parametrize(
    ("window", "inside", "outside"),
    [("22:00-05:00", (23, 0), (12, 59)), ("22:00-05:00", (4, 59), (5, 0)), ("09:00-17:30", (17, 29), (17, 30))],
)
def test_a_window_may_go_over_midnight(window: str, inside: tuple[int, int], outside: tuple[int, int]) -> None:
    assert in_window(window, datetime(2026, 1, 1, *inside, tzinfo=UTC))
    assert not in_window(window, datetime(2026, 1, 1, *outside, tzinfo=UTC))


@pytest.mark.parametrize(
    ("at", "seconds"),
    [((21, 59, 30), 30), ((22, 0, 0), 0), ((4, 59, 59), 0), ((5, 0, 0), 17 * 3600), ((12, 0, 0), 10 * 3600)],
)
def test_how_long_it_is_until_a_window_opens(at: tuple[int, int, int], seconds: float) -> None:
    assert opens_in_s("22:00-05:00", datetime(2026, 1, 1, *at)) == seconds


@given(st.times(), st.times(), st.times())
def test_when_the_wait_is_over_the_window_is_open(start: time, end: time, now: time) -> None:
    window, local = f"{start:%H:%M}-{end:%H:%M}", datetime.combine(date(2026, 1, 1), now)
    if window[:5] != window[6:]:
        wait_s = opens_in_s(window, local)
        assert 0 <= wait_s < 86400
        assert in_window(window, local + timedelta(seconds=wait_s))


def test_past_the_deadline_the_window_holds_nobody_back() -> None:
    given_ = candidate(window="22:00-05:00", deadline="2026-01-02T00:00:00Z")
    assert not may_begin(given_, datetime(2026, 1, 1, 12, tzinfo=UTC))
    assert may_begin(given_, datetime(2026, 1, 2, 12, tzinfo=UTC))
    assert may_begin(candidate(), datetime(2026, 1, 1, 12, tzinfo=UTC))


def test_a_document_is_read_as_it_was_written() -> None:
    document = rollout(candidate(percent=12.5, rings=("a",), window="22:00-05:00", deadline="2026-01-02T00:00:00Z"))
    assert parse_rollout(encode(document)) == document


GOOD: dict[str, Any] = {"format": "edge-rollout/1", "group": "g", "seq": 1, "models": {}}
RUNNING = {"version": 1, "id": "r", "state": "running"}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"format": "edge-rollout/2"}, "want 'edge-rollout/1', got 'edge-rollout/2'"),
        ({"group": "../x"}, "group: want letters"),
        ({"seq": -1}, "seq: want 0"),
        ({"spread_s": 1e12}, "spread_s: want 0 to"),
        ({"pins_ref": "rollouts/pins.json"}, "want one '<bin>'"),
        ({"models": {"a/b": {}}}, "want names of models"),
        ({"models": {"m": {"stable": -2}}}, "m.stable: want 0"),
        ({"models": {"m": {"candidate": {**RUNNING, "percent": 101}}}}, "percent: want 0 to 100, got 101"),
        ({"models": {"m": {"candidate": {**RUNNING, "state": "odd"}}}}, "Invalid enum value 'odd'"),
        ({"models": {"m": {"candidate": {**RUNNING, "id": ""}}}}, "candidate.id: want 1 to 128 characters, got 0"),
        (
            {"models": {"m": {"candidate": {**RUNNING, "id": "i" * 129}}}},
            "candidate.id: want 1 to 128 characters, got 129",
        ),
        ({"models": {f"m{number}": {} for number in range(257)}}, "models: want 0 to 256, got 257"),
        ({"models": {"m": {"candidate": {**RUNNING, "window": "25:00-05:00"}}}}, "window: want HH:MM-HH:MM"),
        ({"models": {"m": {"candidate": {**RUNNING, "deadline": "2026-01-01T00:00:00"}}}}, "with its zone"),
        ({"models": {"m": {"candidate": {**RUNNING, "deadline": "soon"}}}}, "soon"),
        ({"models": {"m": {"probation": {"max_error_rate": 2}}}}, "max_error_rate: want 0 to 1"),
        ({"models": {"m": {"swap": "maybe"}}}, "Invalid enum value 'maybe'"),
    ],
)
def test_a_document_that_breaks_a_bound_is_refused_with_the_reason(change: dict[str, Any], text: str) -> None:
    with pytest.raises(DocumentError, match=r"^rollout: ") as caught:
        parse_rollout(msgspec.json.encode({**GOOD, **change}))
    assert text in caught.value.message


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b'{"format": NaN}', b"\xff", b"[" * 100_000])
def test_what_is_no_document_is_refused(data: bytes) -> None:
    for parse in (parse_rollout, parse_pins):
        with pytest.raises(DocumentError):
            parse(data)


def test_members_that_are_not_known_are_ignored() -> None:
    assert parse_rollout(msgspec.json.encode({**GOOD, "later": 1})).group == "g"


def test_a_device_is_pinned_to_so_many_models_and_no_more() -> None:
    pins = {f"m{number}": {"version": 9, "seq": 4} for number in range(257)}
    with pytest.raises(DocumentError, match=r"models of d: want 0 to 256, got 257"):
        parse_pins(msgspec.json.encode({"format": "edge-pins/1", "seq": 4, "devices": {"d": pins}}))


def test_pins_lie_in_bins_of_their_device() -> None:
    assert pin_bin("d") == pin_bin("d")
    assert len({pin_bin(device) for device in DEVICES}) == 256
    pins = parse_pins(b'{"format": "edge-pins/1", "seq": 4, "devices": {"d": {"m": {"version": 9, "seq": 4}}}}')
    assert pins.devices["d"]["m"] == Pin(9, 4)
