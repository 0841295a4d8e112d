"""What is here, for status and metadata: a view of the manager's models. Implements edge.domain.ports.Catalog."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from edge.core.manager import Manager
from edge.core.model import Model
from edge.core.registry import Registry, Serving
from edge.domain.lifecycle import State
from edge.domain.models import ModelSpec
from edge.domain.ports import ModelStatus
from edge.domain.requests import ModelInfo

if TYPE_CHECKING:
    from edge.domain.routing import RoutingStatus


class Catalog:
    def __init__(self, manager: Manager, registry: Registry) -> None:
        self._manager, self._registry = manager, registry

    def models(self) -> Sequence[ModelStatus]:
        return [self._status(name, model) for name, model in sorted(self._manager.models.items())]

    def status(self, name: str) -> ModelStatus | None:
        model = self._manager.models.get(name)
        return None if model is None else self._status(name, model)

    def describe(self, spec: ModelSpec) -> ModelInfo:
        slot = self._registry.find(spec)
        assert slot.info is not None
        serving = self._registry.models[spec.name]
        device = slot.lanes.instances[0].device if slot.lanes and slot.lanes.instances else slot.info.device
        ready = tuple(sorted(serving.versions))
        return replace(slot.info, device=device, ready_versions=ready, routing=_routing(serving))

    @property
    def starting(self) -> bool:
        """Whether what was wished at the start is still being tried."""
        return self._manager.starting

    async def changed(self) -> None:
        """Returns when any state may have changed."""
        await self._manager.changed()

    @property
    def ready(self) -> bool:
        """True once the start is over and every model that should be served has a version that can run.

        A version that loads, drains or failed beside one that answers changes nothing.
        """
        if self._manager.starting:
            return False
        return all(self._answers(name) for name, model in self._manager.models.items() if _wanted(model))

    def _status(self, name: str, model: Model) -> ModelStatus:
        slots = [model.slots[version] for version in sorted(model.slots, reverse=True)]
        serving = self._registry.models.get(name)
        return ModelStatus(
            name=name,
            versions=[slot.status() for slot in slots if slot.state is not State.NEW],
            labels=model.aspired.labels,
            generation=model.aspired.generation,
            problem=model.aspired.problem,
            routing=None if serving is None else _routing(serving),
        )

    def _answers(self, name: str) -> bool:
        serving = self._registry.models.get(name)
        if serving is None or serving.newest is None:
            return False
        lanes = serving.newest.lanes
        return lanes is not None and not lanes.wedged


def _wanted(model: Model) -> bool:
    return bool(model.wish.versions) or (model.wish.pending and not model.held)


def _routing(serving: Serving) -> RoutingStatus | None:
    routed = serving.routed
    if routed is None:
        return None
    from edge.domain.routing import standing

    return standing(routed.routing, serving.labels, serving.versions, routed.meter.difference)
