"""What a check found. The words and levels are those of `edge-sync agent doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Level(Enum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """`do`: what a person may do about it; "" for nothing."""

    check: str
    level: Level
    text: str
    do: str = ""


def ok(check: str, text: str) -> Finding:
    return Finding(check, Level.OK, text)


def warn(check: str, text: str, do: str = "") -> Finding:
    return Finding(check, Level.WARN, text, do)


def fail(check: str, text: str, do: str = "") -> Finding:
    return Finding(check, Level.FAIL, text, do)
