"""What to do next for one model: pure and total, from a snapshot to one action or none.

Rule 1: nothing that answers is retired before something wanted answers, unless nothing is wanted at all or the
memory is not there for both (`swap = replace`).
Rule 2: there is one notion of wanted, `targets`; loading and retiring both follow it, so nothing can flap.
Rule 3: one load at a time for a model; the highest version first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edge.domain.lifecycle import State
from edge.domain.models import Aspired, Swap

BUSY = frozenset({State.NEW, State.LOADING, State.TESTING})
GONE = frozenset({State.UNLOADED})


@dataclass(frozen=True, slots=True)
class VersionView:
    """`retry`: it failed, and may be tried again now."""

    state: State
    retry: bool = False


@dataclass(frozen=True, slots=True)
class Load:
    version: int


@dataclass(frozen=True, slots=True)
class Retire:
    version: int


Action = Load | Retire | None


def targets(aspired: Aspired, views: Mapping[int, VersionView]) -> frozenset[int]:
    """The versions that should be loaded now: those wanted, and the fallback where it is needed."""
    wanted = {version for version in aspired.versions if version in aspired.available}
    hopeful = {version for version in wanted if not _hopeless(views.get(version))}
    if not hopeful and aspired.versions:
        spare = next((each for each in aspired.spares if not _hopeless(views.get(each))), None)
        return frozenset(wanted if spare is None else wanted | {spare})
    # A fallback kept warm comes after what is wanted: it may not delay it.
    fallback = aspired.fallback
    if (
        aspired.keep_fallback
        and fallback is not None
        and fallback in aspired.available
        and any(_is(views, version, State.READY) for version in wanted)
    ):
        return frozenset(wanted | {fallback})
    return frozenset(wanted)


def next_action(aspired: Aspired, views: Mapping[int, VersionView]) -> Action:
    if any(view.state in BUSY for view in views.values()):
        return None
    target = targets(aspired, views)
    ready = {version for version, view in views.items() if view.state is State.READY}
    draining = any(view.state is State.DRAINING for view in views.values())
    surplus = sorted(ready - target)
    missing = sorted((version for version in target if _loadable(views.get(version))), reverse=True)

    if missing and aspired.swap is Swap.REPLACE:
        if surplus:
            return Retire(surplus[0])
        # The memory is free only when the old one has gone.
        return None if draining else Load(missing[0])
    if missing:
        return Load(missing[0])
    if surplus and (ready & target or not aspired.versions):
        return Retire(surplus[0])
    return None


def _loadable(view: VersionView | None) -> bool:
    return view is None or view.state in GONE or (view.state is State.FAILED and view.retry)


def _hopeless(view: VersionView | None) -> bool:
    return view is not None and view.state is State.FAILED and not view.retry


def _is(views: Mapping[int, VersionView], version: int, state: State) -> bool:
    view = views.get(version)
    return view is not None and view.state is state
