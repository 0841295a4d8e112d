"""Which version answers a request that names neither a version nor a label, and which one is tried beside it. Pure.

Rule 1: as long as the weights stand, a key has one side. Where one weight changes, keys move to or from that side alone, and
no more of them than its share has changed by: none moves between two others.
Rule 2: a side that is not ready is passed over: its keys go to the others by their weights, and all other keys stay.
Rule 3: a side is known by what the configuration calls it, so a label that comes to another version keeps its keys.

A key's side is found by weighted rendezvous hashing, with the logarithmic method: Schindelhauer and Schomaker, "Weighted
distributed hash tables", SPAA 2005.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from types import MappingProxyType
from typing import NamedTuple

from edge.domain.models import MAX_VERSION

MAX_SIDES = 64
"""Versions and labels that one model's weights may name."""


@dataclass(frozen=True, slots=True)
class Routing:
    """What the configuration says of one model. Versions are named by their digits, anything else is a label.

    weights: by version or label, in any unit; empty for the newest version alone. sticky_header: where a request carries
    the key that ties it to a side. shadow: the version or label that answers are compared with, for `shadow_share` of the
    requests; floats are the same within shadow_atol + shadow_rtol·|first answer|.
    """

    weights: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    sticky_header: str = ""
    shadow: str = ""
    shadow_share: float = 1.0
    shadow_atol: float = 0.0
    shadow_rtol: float = 0.0

    def __bool__(self) -> bool:
        return bool(self.weights or self.shadow)


class Side(NamedTuple):
    """`weight` above 0."""

    name: str
    weight: float


@dataclass(frozen=True, slots=True)
class SideStatus:
    """`version` None: no version carries the label. `weight` is a shadow's share."""

    name: str
    weight: float
    version: int | None
    ready: bool

    @property
    def problem(self) -> str:
        """Why it gets no requests, or empty."""
        if self.ready:
            return ""
        return f"{self.name}: " + ("no version has this label" if self.version is None else "not ready")


@dataclass(frozen=True, slots=True)
class RoutingStatus:
    """Where requests go now. `problem`: what of it is not as configured, if anything; `difference`: how the last answer
    of a shadow differed from the first's."""

    sides: tuple[SideStatus, ...]
    sticky_header: str = ""
    shadow: SideStatus | None = None
    problem: str = ""
    difference: str = ""


def version_named(name: str, labels: Mapping[str, int]) -> int | None:
    """The version that a side or a shadow stands for; None where no version carries the label."""
    if name.isascii() and name.isdecimal():
        return int(name) if len(name) <= len(str(MAX_VERSION)) else None
    return labels.get(name)


def route(sides: Sequence[Side], key: bytes, draw: float) -> Side:
    """One of the sides, of which there is at least one. key: b"" for none; then `draw`, evenly from [0, 1), decides."""
    if len(sides) == 1:
        return sides[0]
    if not key:
        return _by_draw(sides, draw)
    return min(sides, key=lambda side: _arrival(side, key))


def _by_draw(sides: Sequence[Side], draw: float) -> Side:
    left = draw * math.fsum(side.weight for side in sides)
    for side in sides:
        left -= side.weight
        if left < 0:
            return side
    return sides[-1]


def _arrival(side: Side, key: bytes) -> float:
    """Of a race of sides for the key: exponentially distributed with the weight as its rate, so the first to arrive is a
    side by its share. A side's arrival hangs on nothing but its own name and weight."""
    name = side.name.encode("utf-8", "surrogatepass")
    digest = blake2b(b"%d:%b%b" % (len(name), name, key), digest_size=8).digest()
    even = (int.from_bytes(digest) + 0.5) / 2**64
    return -math.log(even) / side.weight


def standing(
    routing: Routing, labels: Mapping[str, int], ready: Collection[int], difference: str = ""
) -> RoutingStatus:
    """What becomes of the wish with these versions ready."""
    sides = tuple(_status(name, weight, labels, ready) for name, weight in routing.weights.items())
    shadow = _status(routing.shadow, routing.shadow_share, labels, ready) if routing.shadow else None
    troubles = [side.problem for side in sides if side.weight]
    if sides and all(troubles):
        troubles.append("the newest version answers")
    if shadow is not None and shadow.problem:
        troubles.append(f"shadow {shadow.problem}")
    return RoutingStatus(sides, routing.sticky_header, shadow, _joined(troubles), difference)


def _status(name: str, weight: float, labels: Mapping[str, int], ready: Collection[int]) -> SideStatus:
    version = version_named(name, labels)
    return SideStatus(name, weight, version, version in ready)


def _joined(texts: Iterable[str]) -> str:
    return "; ".join(text for text in texts if text)


def check_weights(weights: Mapping[str, float]) -> None:
    """Raises ValueError, saying what was wanted."""
    if len(weights) > MAX_SIDES:
        raise ValueError(f"want at most {MAX_SIDES} versions and labels, got {len(weights)}")
    if "" in weights or not all(math.isfinite(weight) for weight in weights.values()):
        raise ValueError("want a version or a label before each weight, and numbers that are finite")
    if weights and not any(weights.values()):
        raise ValueError("want at least one weight above 0, got none")
