"""What a person is told of the agent, for `sync.agent.status` to put into words and for programs to read."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from sync.agent.outbox import RefusedReports
from sync.domain.situation import SeenBroker, SeenNeighbours, Trouble


class ModelTold(msgspec.Struct, frozen=True):
    """`runs`, `wanted`: versions. `serving`: the state of `runs` in the server. `held`: at which version, None for at none.

    `now`, `last`, `why`, `next`, `hold`: sentences, "" for none.
    """

    runs: int | None
    serving: str
    wanted: int | None
    rollout: str
    phase: str
    outcome: str
    reason: str
    detail: str
    tries: int
    now: str
    last: str
    why: str
    next: str
    held: int | None = None
    hold: str = ""


class Told(msgspec.Struct, frozen=True):
    """`running`: whether the agent's process is there. Times: seconds since the epoch, 0 for not known."""

    running: bool
    agent: str
    polled_at: float
    next_poll_at: float
    signed_until: float
    problem: Trouble | None
    waiting_reports: int
    refused_reports: RefusedReports
    peers: str
    neighbours: SeenNeighbours | None
    server: str
    broker: SeenBroker | None
    models: Mapping[str, ModelTold]
