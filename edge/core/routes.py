"""One model's weights over the versions that are ready: which slot a request gets that names none.

Rule: nothing here awaits or changes; the registry makes new ones whenever a version comes or goes, or the weights change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import random

from edge.core.meter import RouteMeter
from edge.core.slot import Slot
from edge.domain.requests import Carried
from edge.domain.routing import Routing, Side, route, version_named


@dataclass(frozen=True, slots=True)
class Routed:
    """What is configured for one model, and who counts what comes of it."""

    routing: Routing
    meter: RouteMeter


class Routes:
    """`newest` answers where no side with a weight is ready."""

    def __init__(
        self, routed: Routed, versions: Mapping[int, Slot], labels: Mapping[str, int], newest: Slot | None
    ) -> None:
        routing = routed.routing
        self._meter, self._newest = routed.meter, newest
        self._header = routing.sticky_header.lower().encode()
        self._slots: dict[str, Slot] = {}
        for name, weight in routing.weights.items():
            version = version_named(name, labels)
            slot = None if version is None else versions.get(version)
            if weight and slot is not None:
                self._slots[name] = slot
        self._sides = tuple(Side(name, routing.weights[name]) for name in self._slots)

    def choose(self, carried: Carried) -> Slot | None:
        """Counted. None where nothing is ready."""
        if not self._sides:
            if self._newest is not None:
                self._meter.routed("", self._newest.id.version)
            return self._newest
        key = carried.get(self._header) if self._header else None
        side = route(self._sides, key or b"", random())
        slot = self._slots[side.name]
        self._meter.routed(side.name, slot.id.version)
        return slot
