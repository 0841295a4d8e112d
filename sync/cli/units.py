"""Quantities in options, with their units: `90s`, `12h`, `1h30m`, `7d`; `512`, `64KiB`, `1.5GB`; instants, with their zone.

Rule 1: a duration without a unit is refused, unless the option has always been in seconds: nobody should have to guess.
Rule 2: of sizes, `K`, `M` and `G` with an `i` are powers of 1024, without it of 1000; a bare number is bytes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import click

from sync.agent.words import amount

SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}
BYTES: dict[str, int] = {"": 1, "B": 1} | {
    f"{letter}{form}": base**power
    for power, letter in enumerate("KMGT", 1)
    for form, base in (("B", 1000), ("iB", 1024), ("", 1000), ("i", 1024))
}
_TERM = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)(ms|[smhdw])", re.ASCII)
_NUMBER = re.compile(r"\d{1,12}(?:\.\d{1,9})?\Z", re.ASCII)
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,9})?) ?([A-Za-z]{0,3})\Z", re.ASCII)
_BY_CASEFOLD = {name.casefold(): factor for name, factor in BYTES.items()}


def parse_duration(text: str, *, bare: bool = False) -> float:
    """Seconds. bare: a number alone is seconds too. Raises ValueError."""
    if text == "0" or (bare and _NUMBER.match(text)):
        return float(text)
    terms = _TERM.findall(text)
    units = [unit for _, unit in terms]
    if not terms or "".join(map("".join, terms)) != text or len(set(units)) != len(units):
        raise ValueError(f"want a duration as 90s, 15m, 12h, 1h30m or 7d, got {text[:40]!r}")
    return sum(float(number) * SECONDS[unit] for number, unit in terms)


def parse_size(text: str) -> int:
    """Bytes. Raises ValueError."""
    match = _SIZE.match(text)
    factor = _BY_CASEFOLD.get(match[2].casefold()) if match is not None else None
    if match is None or factor is None:
        raise ValueError(f"want a size as 512, 64KiB, 10MiB or 1.5GB, got {text[:40]!r}")
    return math.floor(float(match[1]) * factor) if "." in match[1] else int(match[1]) * int(factor)


def parse_instant(text: str, now: datetime) -> str:
    """In RFC 3339 and UTC, of an instant, or of a duration from `now` on; "" for "". Raises ValueError."""
    if not text:
        return ""
    try:
        seconds = parse_duration(text)
    except ValueError:
        try:
            at = datetime.fromisoformat(text)
        except ValueError:
            at = datetime.min
        if at.tzinfo is None:
            raise ValueError(
                f"want an instant with its zone as 2026-12-01T04:00Z, or a duration as 3d, got {text[:40]!r}"
            ) from None
    else:
        at = now + timedelta(seconds=min(seconds, 3650 * 86400.0))
    try:
        return f"{at.astimezone(UTC).replace(microsecond=0, tzinfo=None).isoformat()}Z"
    except OverflowError:
        raise ValueError(f"want an instant within the years 1 to 9999, got {text[:40]!r}") from None


def say_duration(seconds: float) -> str:
    """For people: `12 h`, `3 d 4 h`, `45 s`."""
    left, parts = max(round(seconds), 0), []
    for unit in ("d", "h", "m"):
        count, left = divmod(left, int(SECONDS[unit]))
        if count:
            parts.append(f"{count} {'min' if unit == 'm' else unit}")
    if left and not parts:
        parts.append(f"{left} s")
    return " ".join(parts[:2]) or "0 s"


say_size = amount
"""For people: `512 B`, `1.5 MiB`."""


def duration(*, least: float = 0.0, most: float = 3650 * 86400.0, bare: bool = False) -> Callable[[str], float]:
    """A type for options: seconds, from `least` to `most`; bare: a number alone is seconds."""

    def duration(text: str) -> float:
        try:
            seconds = parse_duration(text, bare=bare)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None
        if not least <= seconds <= most:
            raise click.BadParameter(f"want {say_duration(least)} to {say_duration(most)}, got {text}")
        return seconds

    return duration


def instant() -> Callable[[str], str]:
    """A type for options: an instant in RFC 3339 and UTC, or ""."""

    def instant(text: str) -> str:
        try:
            return parse_instant(text, datetime.now(UTC))
        except ValueError as error:
            raise click.BadParameter(str(error)) from None

    return instant


def size(*, least: int = 0, most: int = 1 << 50) -> Callable[[str], int]:
    """A type for options: bytes, from `least` to `most`."""

    def size(text: str) -> int:
        try:
            count = parse_size(text)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None
        if not least <= count <= most:
            raise click.BadParameter(f"want {say_size(least)} to {say_size(most)}, got {text}")
        return count

    return size
