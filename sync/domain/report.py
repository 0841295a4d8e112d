"""What a device says of itself: on every transition, and as a heartbeat.

Idempotent by (device, rollout, seq): the same report may arrive twice, late or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from sync.domain.forms import decoded

FORMAT = "edge-report/1"
MAX_REPORT_BYTES = 1 << 20


class Refusal(msgspec.Struct, frozen=True, omit_defaults=True):
    """A wish that the device does not follow: `version` and `rollout` as in the wish; None and "" where it is of no one model.

    `reason`: one of `sync.domain.errors.Reason`; `detail`: the same in words.
    """

    reason: str
    detail: str = ""
    version: int | None = None
    rollout: str = ""


class ModelReport(msgspec.Struct, frozen=True, omit_defaults=True):
    """`outcome`: "committed", "committed_idle" (without traffic to judge by), "failed", "rolled_back", or "" while under way.

    `reason`: one of `sync.domain.errors.Reason`, or "". `refused`: the best wish that it does not follow; None for none.
    `held`: the version that it was asked beside the device to stay at; None for none.
    """

    active: int | None = None
    previous: int | None = None
    candidate: int | None = None
    phase: str = "idle"
    rollout: str = ""
    outcome: str = ""
    reason: str = ""
    detail: str = ""
    tries: int = 0
    refused: Refusal | None = None
    held: int | None = None


class Transfer(msgspec.Struct, frozen=True):
    """The last update's bytes by where they came from, and its times in milliseconds: until its files were here, and then until it
    had passed its trial or failed it. All 0 where this process of the agent knows of none."""

    bytes_full: int = 0
    bytes_delta: int = 0
    bytes_peer: int = 0
    ms_download: int = 0
    ms_test: int = 0


class Report(msgspec.Struct, frozen=True):
    """`ts`: seconds since the epoch by the device's clock; `clock_ok`: whether that is to be believed.

    `problem`: why no document is followed at all; None where all is well, and where the store is only out of reach.
    `disk_free`, `mem_avail`: bytes. `agent`, `edge`: versions of the programs; "" where the server did not answer when it was asked last.
    """

    device: str
    group: str
    seq: int
    ts: float
    models: Mapping[str, ModelReport]
    format: str = FORMAT
    clock_ok: bool = True
    meta: Mapping[str, int] = {}
    last: Transfer = Transfer()
    disk_free: int = 0
    mem_avail: int = 0
    agent: str = ""
    edge: str = ""
    problem: Refusal | None = None


def parse_report(data: bytes) -> Report:
    """Raises DocumentError."""
    return decoded("report", data, Report, FORMAT, max_bytes=MAX_REPORT_BYTES)


def encode_report(report: Report) -> bytes:
    return msgspec.json.encode(report, order="deterministic")
