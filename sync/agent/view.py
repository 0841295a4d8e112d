"""What somebody who looks at a device finds there, of which `sync.agent.status` makes words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import tzinfo

from sync.agent.outbox import RefusedReports
from sync.domain.journal import Journal
from sync.domain.ports import ServerHealth
from sync.domain.situation import Situation


@dataclass(frozen=True, slots=True)
class View:
    """What was found on the device. now: seconds since the epoch. peers: as the configuration has it. server: what it said, or why
    it did not. here: bytes of each candidate's that are here.
    """

    journal: Journal
    now: float
    situation: Situation | None = None
    running: bool = False
    server: ServerHealth | str = ""
    here: Mapping[str, int] = field(default_factory=dict)
    waiting_reports: int = 0
    refused_reports: RefusedReports = field(default_factory=RefusedReports)
    peers: str = "off"
    zone: tzinfo | None = None
