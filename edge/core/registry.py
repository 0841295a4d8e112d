"""From what a request asks for to the slot that answers: an immutable map, replaced whole at a swap.

Rule: `publish` is one assignment; whoever acquired a slot before it keeps that slot. So is `route`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from edge.core.slot import Slot
from edge.domain.errors import NotFound, UnknownLabel
from edge.domain.models import ModelSpec
from edge.domain.requests import NOTHING_CARRIED, Carried

if TYPE_CHECKING:
    from edge.core.routes import Routed, Routes
    from edge.core.shadow import Shadows


@dataclass(frozen=True, slots=True)
class Serving:
    """One model's ready slots; `newest` is what a request gets that names neither version nor label, unless `routes` has
    weights that say otherwise. `routed`: what was configured of that, if anything; `shadow`: what answers are compared
    with. `straight`: `newest` where there are no weights to ask."""

    newest: Slot | None
    versions: Mapping[int, Slot]
    labels: Mapping[str, int]
    routed: Routed | None = None
    routes: Routes | None = None
    shadow: Slot | None = None
    straight: Slot | None = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "straight", self.newest if self.routes is None else None)


class Registry:
    """`shadows` is there where copies of requests are to be run."""

    def __init__(self) -> None:
        self._unrouted: Mapping[str, Serving] = {}
        self._routed: Mapping[str, Routed] = {}
        self._models: Mapping[str, Serving] = MappingProxyType({})
        self.shadows: Shadows | None = None

    def publish(self, models: Mapping[str, Serving]) -> None:
        self._unrouted = dict(models)
        made = dict(models)
        for name, routed in self._routed.items():
            if name in made:
                made[name] = _routed(made[name], routed)
        self._models = MappingProxyType(made)
        if self.shadows is not None:
            self.shadows.follow(self._models)

    def route(self, routed: Mapping[str, Routed]) -> None:
        """By these, from the next request on. Models that are not named have no weights and no shadow."""
        self._routed = dict(routed)
        if self.shadows is not None:
            self.shadows.forgive()
        self.publish(self._unrouted)

    @property
    def models(self) -> Mapping[str, Serving]:
        return self._models

    @property
    def slots(self) -> Iterator[Slot]:
        """All that serve."""
        return (slot for model in self._models.values() for slot in model.versions.values())

    def acquire(self, spec: ModelSpec, carried: Carried = NOTHING_CARRIED) -> Slot:
        """The slot, to be held in a `with` before anything else is awaited. Raises NotFound, UnknownLabel."""
        model = self._models.get(spec.name)
        if model is not None and model.straight is not None and spec.version is None and spec.label is None:
            return model.straight
        if model is not None and model.routes is not None and spec.version is None and spec.label is None:
            slot = model.routes.choose(carried)
            if slot is not None:
                return slot
        return self._look_up(spec, model)

    def find(self, spec: ModelSpec) -> Slot:
        """The slot to describe: the newest one for all requests that name none. Raises NotFound, UnknownLabel."""
        model = self._models.get(spec.name)
        if model is not None and model.newest is not None and spec.version is None and spec.label is None:
            return model.newest
        return self._look_up(spec, model)

    def hung(self, now: float) -> str:
        """Why one of the versions that serve does so no more until the process is another one; empty where none is so.
        `now` of the monotonic clock."""
        return next((why for slot in self.slots if slot.lanes is not None and (why := slot.lanes.hung(now))), "")

    def _look_up(self, spec: ModelSpec, model: Serving | None) -> Slot:
        version = spec.version
        if spec.label is not None:
            if model is None or spec.label not in model.labels:
                raise UnknownLabel(spec)
            version = model.labels[spec.label]
        slot = model.versions.get(version) if model is not None and version is not None else None
        if slot is None:
            raise NotFound(ModelSpec(spec.name, version), model_known=model is not None)
        return slot


def _routed(serving: Serving, routed: Routed) -> Serving:
    from edge.core.routes import Routes  # for models that have weights or a shadow
    from edge.domain.routing import version_named

    routing, versions, labels = routed.routing, serving.versions, serving.labels
    routes = Routes(routed, versions, labels, serving.newest) if routing.weights else None
    target = version_named(routing.shadow, labels) if routing.shadow else None
    shadow = versions.get(target) if target is not None else None
    return Serving(serving.newest, versions, labels, routed, routes, shadow)
