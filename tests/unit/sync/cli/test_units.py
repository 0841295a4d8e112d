"""Durations and sizes mean what they say, and what could be meant two ways is refused."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.cli.units import duration, parse_duration, parse_instant, parse_size, say_duration, say_size, size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("90s", 90), ("15m", 900), ("12h", 43200), ("7d", 604800), ("2w", 1209600), ("1h30m", 5400),
     ("1.5h", 5400), ("250ms", 0.25), ("1m500ms", 60.5)],
)  # fmt: skip
def test_a_duration_is_so_many_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    ["", "12", "h", "12 h", "12H", "-1h", "1h1h", "1e3s", "12hours", "١h", "nan", "inf", "1h\n", "9" * 400 + "s"],
)
def test_what_is_no_duration_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match="want a duration as 90s, 15m, 12h"):
        parse_duration(text)


def test_a_bare_number_is_seconds_only_where_it_always_was() -> None:
    assert parse_duration("90", bare=True) == 90
    assert parse_duration("1.5", bare=True) == 1.5
    with pytest.raises(ValueError, match="got '90'"):
        parse_duration("90")


@pytest.mark.parametrize(
    ("text", "count"),
    [("0", 0), ("512", 512), ("512B", 512), ("64KiB", 65536), ("10MiB", 10485760), ("10 MiB", 10485760),
     ("1GB", 10**9), ("1.5GB", 1_500_000_000), ("2k", 2000), ("2ki", 2048), ("1tib", 1 << 40)],
)  # fmt: skip
def test_a_size_is_so_many_bytes(text: str, count: int) -> None:
    assert parse_size(text) == count


@pytest.mark.parametrize("text", ["", "MiB", "-1", "10 MiBs", "1e6", "10Mb/s", "ten", "1,5GB", "10XiB", "1 0", "1\n"])
def test_what_is_no_size_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match="want a size as 512, 64KiB, 10MiB"):
        parse_size(text)


@given(st.text(max_size=20))
def test_no_text_makes_it_raise_anything_but_value_error(text: str) -> None:
    for parse in (parse_duration, parse_size):
        with contextlib.suppress(ValueError):
            assert parse(text) >= 0


@pytest.mark.parametrize(
    ("text", "instant"),
    [("", ""), ("3d", "2026-11-23T10:00:00Z"), ("1h30m", "2026-11-20T11:30:00Z"),
     ("2026-12-01T04:00Z", "2026-12-01T04:00:00Z"), ("2026-12-01T04:00:00.5+02:00", "2026-12-01T02:00:00Z")],
)  # fmt: skip
def test_an_instant_is_said_in_full_or_from_now_on(text: str, instant: str) -> None:
    assert parse_instant(text, datetime(2026, 11, 20, 10, tzinfo=UTC)) == instant


@pytest.mark.parametrize("text", ["soon", "2026-12-01", "2026-12-01T04:00", "04:00Z", "3", "0001-01-01T00:00+23:00"])
def test_an_instant_without_its_zone_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match="want an instant"):
        parse_instant(text, datetime(2026, 11, 20, 10, tzinfo=UTC))


def test_out_of_bounds_says_the_bounds() -> None:
    with pytest.raises(click.BadParameter, match="want 1 min to 12 h, got 20h"):
        duration(least=60, most=43200)("20h")
    with pytest.raises(click.BadParameter, match=r"want 1.0 KiB to 1.0 MiB, got 2MiB"):
        size(least=1024, most=1 << 20)("2MiB")


def test_people_are_told_two_units_at_most() -> None:
    assert [say_duration(each) for each in (0, 0.4, 59, 61, 43200, 90061)] == ["0 s", "0 s", "59 s", "1 min", "12 h", "1 d 1 h"]  # fmt: skip
    assert [say_size(each) for each in (0, 1023, 1536, 10 << 20, 3 << 40)] == ["0 B", "1023 B", "1.5 KiB", "10.0 MiB", "3.0 TiB"]  # fmt: skip
