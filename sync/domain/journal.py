"""What the agent knows of each model across crashes: `state.json`, replaced whole, the one commit point of an update.

Rule 1: pure; `sync.agent.journal` makes it durable. Rule 2: a blob is durable before a journal names it.
Rule 3: the life of an update is the table below, and `step` is its only writer.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Literal

import msgspec

from edge.domain.layout import AspiredFile, is_model_name
from edge.domain.models import Swap
from sync.domain.digests import Digest
from sync.domain.errors import DocumentError
from sync.domain.rollout import Probation
from sync.domain.sealed import seal, unsealed

FORMAT = "edge-journal/1"
MAX_JOURNAL_BYTES = 16 << 20
MAX_BAD = 32
"""Releases that failed, remembered for each model; the oldest is forgotten."""


class Phase(Enum):
    """Of one model's update. Durable: a crash finds the one that was written last."""

    IDLE = "idle"
    STAGING = "staging"  # its bytes are on their way, or being verified
    SWAPPING = "swapping"  # the server has been asked: it tries, loads and swaps
    PROBATION = "probation"  # it serves, and is watched
    ROLLING_BACK = "rolling_back"  # the previous version has been asked for again


class Step(Enum):
    """What may happen to an update."""

    BEGIN = "begin"
    STAGED = "staged"
    READY = "ready"
    HEALTHY = "healthy"
    FAIL = "fail"
    BACK = "back"


TABLE: Mapping[tuple[Phase, Step], Phase] = {
    (Phase.IDLE, Step.BEGIN): Phase.STAGING,
    (Phase.STAGING, Step.STAGED): Phase.SWAPPING,
    (Phase.STAGING, Step.FAIL): Phase.IDLE,
    (Phase.SWAPPING, Step.READY): Phase.PROBATION,
    (Phase.SWAPPING, Step.FAIL): Phase.ROLLING_BACK,
    (Phase.PROBATION, Step.HEALTHY): Phase.IDLE,
    (Phase.PROBATION, Step.FAIL): Phase.ROLLING_BACK,
    (Phase.ROLLING_BACK, Step.BACK): Phase.IDLE,
}


class FileRef(msgspec.Struct, frozen=True):
    path: str
    digest: Digest
    size: int


class Installed(msgspec.Struct, frozen=True):
    """A version whose blobs are here. `release`: the manifest's digest; `counter`: its release counter, 0 where that is not known."""

    version: int
    release: Digest
    variant: str
    files: tuple[FileRef, ...]
    share: bool = False
    counter: int = 0


class Bad(msgspec.Struct, frozen=True):
    """A release that failed here. `seq`: of the rollout document, or the pin, under which it did; a newer pin clears it.

    `until`: seconds since the epoch when it may be tried again; 0 for never. `at`: when it failed, by the same clock.
    """

    release: Digest
    version: int
    reason: str
    seq: int
    until: float = 0.0
    at: float = 0.0


class Baseline(msgspec.Struct, frozen=True):
    """The old version's figures just before the swap; `run_p99_s` in seconds."""

    answered: int = 0
    failures: int = 0
    non_finite: int = 0
    run_p99_s: float = 0.0


class Watched(msgspec.Struct, frozen=True):
    """What probation has seen of the new version in the server's processes before this one.

    `seconds`: for which it was watched, up to the last write. `deaths`: of the server, other than clean ends. `boot`: of
    the process that is being watched.
    """

    boot: str = ""
    seconds: float = 0.0
    deaths: int = 0
    answered: int = 0
    failures: int = 0
    non_finite: int = 0


class ModelState(msgspec.Struct, frozen=True):
    """One model. `candidate` is set from STAGING to SWAPPING; in PROBATION it is `active`, and the old one `previous`.

    `rollout`, `seq`: what asked for the update, and the document that said so. `tries`: that a crash of the agent or an
    error cut short. `first_seen`: when the wish first arose, and `since`, when the phase began: seconds since the
    epoch. `generation`: of the aspired file; grows with each change of it. `min_counter`: the highest that any manifest of the
    model has asked for. `outcome`, `reason`, `detail`: of the last update.
    """

    phase: Phase = Phase.IDLE
    active: Installed | None = None
    previous: Installed | None = None
    candidate: Installed | None = None
    generation: int = 0
    rollout: str = ""
    seq: int = 0
    tries: int = 0
    first_seen: float = 0.0
    since: float = 0.0
    baseline: Baseline = Baseline()
    watched: Watched = Watched()
    probation: Probation = Probation()
    swap: Literal["beside", "replace"] = "beside"
    bad: tuple[Bad, ...] = ()
    min_counter: int = 0
    outcome: str = ""
    reason: str = ""
    detail: str = ""


class Held(msgspec.Struct, frozen=True):
    """A version that this device was asked to stay at, by somebody who signs nothing. `by`: "pin", or "rollback" for one that it was
    asked to go back to. `at`: seconds since the epoch."""

    version: int
    release: Digest
    by: Literal["pin", "rollback"]
    at: float = 0.0


class Journal(msgspec.Struct, frozen=True):
    """`generation` grows with every write; `report_seq` with every report. `clean`: the agent ended as it was asked to.

    `holds`: by model.
    """

    format: str = FORMAT
    generation: int = 0
    report_seq: int = 0
    clean: bool = False
    models: Mapping[str, ModelState] = {}
    holds: Mapping[str, Held] = {}


def step(phase: Phase, event: Step) -> Phase:
    """Raises ValueError for what may not happen: a bug."""
    try:
        return TABLE[phase, event]
    except KeyError:
        raise ValueError(f"no {event.value} in {phase.value}") from None


def aspired(state: ModelState) -> AspiredFile | None:
    """What the server is to be told for a model; None while there is nothing to say.

    A first version that failed leaves nothing to go back to: then the server is told to serve none.
    """
    wanted = state.candidate if state.phase is Phase.SWAPPING else state.active
    if wanted is None:
        return AspiredFile(state.generation, (), None) if state.phase is Phase.ROLLING_BACK else None
    beside = {Phase.SWAPPING: state.active, Phase.PROBATION: state.previous}.get(state.phase)
    return AspiredFile(
        generation=state.generation,
        versions=(wanted.version,),
        fallback=beside.version if beside is not None else None,
        labels={"stable": wanted.version} if state.phase is Phase.IDLE else {},
        swap=Swap(state.swap),
    )


def parse_journal(data: bytes) -> Journal:
    """Raises DocumentError."""
    try:
        journal = msgspec.json.decode(unsealed(data), type=Journal)
        if journal.format != FORMAT:
            raise ValueError(f"format: want {FORMAT!r}, got {journal.format[:40]!r}")
        for name, state in journal.models.items():
            _check_model(name, state)
        for name in journal.holds:
            _check_name("holds", name)
    except (ValueError, RecursionError) as error:
        raise DocumentError(f"journal: {error}") from None
    return journal


def _check_model(name: str, state: ModelState) -> None:
    """What no table leads to is no journal of ours, or not one of this program's. Raises ValueError."""
    _check_name("models", name)
    needed = {Phase.STAGING: state.candidate, Phase.SWAPPING: state.candidate, Phase.PROBATION: state.active}
    if needed.get(state.phase, state) is None:
        raise ValueError(f"{name}: want a version that is in {state.phase.value}, got none")


def _check_name(key: str, name: str) -> None:
    if not is_model_name(name):
        raise ValueError(f"{key}: want names of models, got {name[:80]!r}")


def encode_journal(journal: Journal) -> bytes:
    return seal(msgspec.json.encode(journal, order="deterministic"))
