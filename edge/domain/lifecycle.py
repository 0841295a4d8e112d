"""The life of one version, as a table.

Rule 1: every transition is a row. Rule 2: `step` is the only writer. Rule 3: nothing here awaits.

    NEW → LOADING → TESTING → READY → DRAINING → UNLOADED, or FAILED from LOADING, TESTING and READY
"""

from __future__ import annotations

from enum import Enum


class State(Enum):
    NEW = "new"
    LOADING = "loading"
    TESTING = "testing"
    READY = "ready"
    DRAINING = "draining"
    UNLOADED = "unloaded"
    FAILED = "failed"


class Event(Enum):
    LOAD = "load"
    LOADED = "loaded"
    PASSED = "passed"
    FAIL = "fail"
    RETIRE = "retire"
    DRAINED = "drained"


TABLE: dict[tuple[State, Event], State] = {
    (State.NEW, Event.LOAD): State.LOADING,
    (State.LOADING, Event.LOADED): State.TESTING,
    (State.LOADING, Event.FAIL): State.FAILED,
    (State.TESTING, Event.PASSED): State.READY,
    (State.TESTING, Event.FAIL): State.FAILED,
    (State.READY, Event.FAIL): State.FAILED,
    (State.READY, Event.RETIRE): State.DRAINING,
    (State.DRAINING, Event.DRAINED): State.UNLOADED,
}


def step(state: State, event: Event) -> State:
    """The state after `event`. Raises ValueError where the table has no row: that is a bug."""
    try:
        return TABLE[state, event]
    except KeyError:
        raise ValueError(f"no row for {event} in {state}") from None
