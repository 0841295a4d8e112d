"""From what a request asks for to the slot that answers: an immutable map, replaced whole at a swap.

Rule: `publish` is one assignment; whoever acquired a slot before it keeps that slot.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from edge.core.slot import Slot
from edge.domain.errors import NotFound, UnknownLabel
from edge.domain.models import ModelSpec


@dataclass(frozen=True, slots=True)
class Serving:
    """One model's ready slots; `newest` is what a request gets that names neither version nor label."""

    newest: Slot | None
    versions: Mapping[int, Slot]
    labels: Mapping[str, int]


class Registry:
    def __init__(self) -> None:
        self._models: Mapping[str, Serving] = MappingProxyType({})

    def publish(self, models: Mapping[str, Serving]) -> None:
        self._models = MappingProxyType(dict(models))

    @property
    def models(self) -> Mapping[str, Serving]:
        return self._models

    def acquire(self, spec: ModelSpec) -> Slot:
        """The slot, to be held in a `with` before anything else is awaited. Raises NotFound, UnknownLabel."""
        model = self._models.get(spec.name)
        if model is not None and model.newest is not None and spec.version is None and spec.label is None:
            return model.newest
        return self._look_up(spec, model)

    def hung(self, now: float) -> str:
        """Why one of the versions that serve does so no more until the process is another one; empty where none is so.
        `now` of the monotonic clock."""
        slots = (slot for model in self._models.values() for slot in model.versions.values())
        return next((why for slot in slots if slot.lanes is not None and (why := slot.lanes.hung(now))), "")

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
