"""What the agent's process is about right now: for a person who asks beside it, and for nobody else.

Rule 1: nothing is decided by it; it may be missing, old or torn. Rule 2: it says what the journal does not: what was wished
at the last poll, why it is not followed, and when something happens next.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from sync.domain.forms import decoded

FORMAT = "edge-situation/1"
MAX_SITUATION_BYTES = 4 << 20


class Process(msgspec.Struct, frozen=True):
    """Of the agent. `ticks`: of the kernel's clock when it began; `boot`: of the kernel. Together no other process has them."""

    pid: int = 0
    ticks: int = 0
    boot: str = ""


class Trouble(msgspec.Struct, frozen=True):
    """`reason`: one of `sync.domain.errors.Reason`."""

    reason: str
    detail: str = ""


class Wanted(msgspec.Struct, frozen=True):
    """`rollout`: the candidate's id, "" for stable, "pin" for a pin."""

    version: int
    rollout: str = ""


class SeenNeighbours(msgspec.Struct, frozen=True):
    """How many may be asked for blobs, and how many addresses are not asked for now, for they gave other bytes."""

    seen: int = 0
    banned: int = 0


class SeenBroker(msgspec.Struct, frozen=True):
    """The MQTT broker at `where`. `garbage`: messages that made no sense, or were not for this device to obey; `why`: of the last."""

    where: str
    connected: bool = False
    garbage: int = 0
    why: str = ""


class Situation(msgspec.Struct, frozen=True):
    """Times are seconds since the epoch, 0 for never or not known.

    `problem`: why the last poll failed. `signed_until`: when the first of the signatures ends that the last good poll took.
    `wanted`: by model, as of the last good poll; `refused`: why a wish is not followed. `acts_at`: when the agent looks at a
    model again; 0 while it is at work on it. `neighbours`: None where nobody looks for them; `broker`: where there is none.
    """

    format: str = FORMAT
    process: Process = Process()
    written_at: float = 0.0
    polled_at: float = 0.0
    next_poll_at: float = 0.0
    problem: Trouble | None = None
    signed_until: float = 0.0
    clock_ok: bool = True
    wanted: Mapping[str, Wanted] = {}
    refused: Mapping[str, Trouble] = {}
    acts_at: Mapping[str, float] = {}
    neighbours: SeenNeighbours | None = None
    broker: SeenBroker | None = None


def parse_situation(data: bytes) -> Situation:
    """Raises DocumentError."""
    return decoded("situation", data, Situation, FORMAT, max_bytes=MAX_SITUATION_BYTES)


def encode_situation(situation: Situation) -> bytes:
    return msgspec.json.encode(situation, order="deterministic")
