"""One model as the manager keeps it: what is wished for it, its slots, and which of them serve.

Rule: nothing here awaits, or changes a slot's state; the manager does.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from edge.core.registry import Serving
from edge.core.slot import Slot
from edge.domain.lifecycle import State
from edge.domain.models import Aspired

ENDED = frozenset({State.UNLOADED, State.FAILED})


@dataclass(slots=True)
class Failure:
    """How often in a row the files of this fingerprint failed to load. `due`: the wait for the next try is over."""

    count: int
    fingerprint: str
    due: bool = False


@dataclass(slots=True)
class Model:
    """Slots and failures by version. `held`: unloaded by hand, until it is loaded by hand. `removed`: no source speaks
    for it any more."""

    aspired: Aspired
    slots: dict[int, Slot] = field(default_factory=dict)
    failures: dict[int, Failure] = field(default_factory=dict)
    held: bool = False
    removed: bool = False

    @property
    def wish(self) -> Aspired:
        """What is aspired, unless somebody wants nothing of it."""
        if self.held or self.removed:
            return replace(self.aspired, versions=(), fallback=None, further=())
        return self.aspired

    @property
    def gone(self) -> bool:
        """Whether nobody wants it any more, and nothing of it is left."""
        return self.removed and all(slot.state in ENDED for slot in self.slots.values())

    @property
    def serving(self) -> Serving:
        """What requests get: every ready version; as the newest one that is wished for, else the fallback, else any."""
        wish = self.wish
        ready = {version: slot for version, slot in self.slots.items() if slot.state is State.READY}
        wanted = [version for version in wish.versions if version in ready]
        if wanted:
            newest: int | None = max(wanted)
        elif wish.fallback in ready:
            newest = wish.fallback
        else:
            newest = max(ready, default=None)
        return Serving(ready[newest] if newest is not None else None, ready, wish.labels)

    @property
    def reasons(self) -> str:
        """Why its failed versions failed."""
        return "; ".join(f"{slot.id}: {slot.reason}" for slot in self.slots.values() if slot.state is State.FAILED)

    @property
    def failed(self) -> int | None:
        """The newest version that did."""
        return max((version for version, slot in self.slots.items() if slot.state is State.FAILED), default=None)

    @property
    def comes_back(self) -> bool:
        """Nothing is served, but what was unloaded has yet to drain before it can be loaded again."""
        draining = {version for version, slot in self.slots.items() if slot.state is State.DRAINING}
        return self.serving.newest is None and bool(draining & self.wish.available.keys())

    def is_last_resort(self, version: int) -> bool:
        """Whether every other version that might serve has failed."""
        wish = self.wish
        others = {*wish.versions, *wish.spares} & wish.available.keys() - {version}
        return all(other in self.slots and self.slots[other].state is State.FAILED for other in others)

    def forget(self, most: int) -> None:
        """Of the versions that have ended, keep the newest `most`, and those that failed as long as their files are there."""
        ended = sorted(version for version, slot in self.slots.items() if slot.state in ENDED)
        for version in ended[:-most]:
            if self.slots[version].state is State.UNLOADED or version not in self.aspired.available:
                del self.slots[version]
                self.failures.pop(version, None)
