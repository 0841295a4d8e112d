"""Which versions of a model should be served, out of those that are there.

Rule 1: pure; nothing here looks at a disk. Rule 2: the answer is in descending order, and only names what is available.
The three kinds and their defaults are TensorFlow Serving's `model_version_policy`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from edge.domain.models import MAX_VERSION

WANTED = "latest, latest:N, all or specific:V,V"


@dataclass(frozen=True, slots=True)
class Latest:
    """The `count` highest numbers."""

    count: int = 1

    def choose(self, available: Iterable[int]) -> tuple[int, ...]:
        return tuple(sorted(set(available), reverse=True)[: self.count])

    def __str__(self) -> str:
        return f"latest:{self.count}"


@dataclass(frozen=True, slots=True)
class All:
    """Every version there is."""

    def choose(self, available: Iterable[int]) -> tuple[int, ...]:
        return tuple(sorted(set(available), reverse=True))

    def __str__(self) -> str:
        return "all"


@dataclass(frozen=True, slots=True)
class Specific:
    """These versions and no others."""

    versions: tuple[int, ...]

    def choose(self, available: Iterable[int]) -> tuple[int, ...]:
        return tuple(sorted(set(available) & set(self.versions), reverse=True))

    def __str__(self) -> str:
        return "specific:" + ",".join(map(str, self.versions))


VersionPolicy = Latest | All | Specific


def parse_policy(text: str) -> VersionPolicy:
    """`latest:1` and its like → the policy. Raises ValueError, saying what was wanted."""
    kind, colon, rest = (part.strip() for part in text.partition(":"))
    if kind == "all" and not colon:
        return All()
    if kind == "latest" and not colon:
        return Latest()
    if kind == "latest" and (count := _number(rest)):
        return Latest(count)
    if kind == "specific":
        versions = [_number(part) for part in rest.split(",")]
        if None not in versions:
            return Specific(tuple(sorted({number for number in versions if number is not None})))
    raise ValueError(f"want {WANTED}, got {text!r}")


def _number(text: str) -> int | None:
    """A version or a count; None for anything else, unbounded digits included."""
    if not re.fullmatch(r"\s*[0-9]{1,19}\s*", text):
        return None
    number = int(text)
    return number if number <= MAX_VERSION else None
