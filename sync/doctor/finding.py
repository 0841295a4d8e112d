"""What a check found.

Rule: what fails carries the error that the agent would meet, from which its code in a script follows.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from sync.agent.words import words_of
from sync.domain.errors import SyncError


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
    error: SyncError | None = None


def ok(check: str, text: str) -> Finding:
    return Finding(check, Level.OK, text)


def warn(check: str, text: str, do: str = "") -> Finding:
    return Finding(check, Level.WARN, text, do)


def fail(check: str, error: SyncError, do: str = "") -> Finding:
    """do: by default what the error's reason says."""
    return Finding(check, Level.FAIL, error.message, do or words_of(error.reason.value).do, error)
