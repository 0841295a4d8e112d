"""Who runs what: one rollout document for each group of devices, signed by the holder of the `rollouts` key.

Rule 1: pure. Rule 2: `want` and `bucket` decide the same on every device and at every poll, until a document says else.
Rule 3: members that are not known are ignored; what changes a meaning changes `format`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal, NamedTuple

import msgspec

from edge.domain.layout import is_model_name
from edge.domain.models import MAX_VERSION
from sync.domain.forms import decoded

FORMAT = "edge-rollout/1"
PINS_FORMAT = "edge-pins/1"
MAX_DOCUMENT_BYTES = 4 << 20
PIN_BINS = 256
"""What `pin_bin` may say: two hex digits."""
MAX_MODELS = 256
"""Of one group, and with pins of one device."""
MAX_ID_CHARS = 128
"""Of a candidate's id, which goes into the journal and every report."""

_WINDOW = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])-([01][0-9]|2[0-3]):([0-5][0-9])\Z", re.ASCII)
_GROUP = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}\Z", re.ASCII)

State = Literal["running", "paused", "done", "rolling_back"]


class Candidate(msgspec.Struct, frozen=True):
    """A version that is on its way to the group. `percent`: 0 to 100. `window`: local time, "22:00-05:00"; empty for always.

    `deadline`: an instant in RFC 3339 from which on the window no longer holds anybody back; empty for none.
    """

    version: int
    id: str
    state: State
    percent: float = 0.0
    rings: tuple[str, ...] = ()
    window: str = ""
    deadline: str = ""


class Probation(msgspec.Struct, frozen=True):
    """How a new version is judged: for `seconds` and over at least `min_requests`.

    `max_error_rate` is the share above the old version's; `max_p99_ratio` is of the new run time to the old.
    """

    seconds: float = 600.0
    min_requests: int = 50
    max_error_rate: float = 0.02
    max_p99_ratio: float = 1.5


class ModelRollout(msgspec.Struct, frozen=True):
    """`stable`: None until a first version has been rolled out to all."""

    stable: int | None = None
    candidate: Candidate | None = None
    probation: Probation = Probation()
    swap: Literal["beside", "replace"] = "beside"


class Rollout(msgspec.Struct, frozen=True):
    """`spread_s`: devices begin within so many seconds. `min_rate_Bps`: bytes per second under which a source is left.

    `pins_ref`: the path of the pins' documents, `<bin>` standing for two hex digits; empty for no pins.
    """

    format: str
    group: str
    seq: int
    models: Mapping[str, ModelRollout]
    spread_s: float = 3600.0
    min_rate_Bps: int = 2000
    pins_ref: str = ""


class Pin(msgspec.Struct, frozen=True):
    """`seq`: above that of every rollout document before it; a pin newer than a failure clears the failure."""

    version: int
    seq: int


class Pins(msgspec.Struct, frozen=True):
    format: str
    seq: int
    devices: Mapping[str, Mapping[str, Pin]]


class Wish(NamedTuple):
    """A version that this device should run. `rollout`: the candidate's id, "" for stable, "pin" for a pin.

    `wait_s`: seconds from the moment that this wish first arose until the device may begin.
    """

    version: int
    rollout: str = ""
    wait_s: float = 0.0
    pin_seq: int | None = None


def parse_rollout(data: bytes) -> Rollout:
    """Raises DocumentError."""
    return decoded("rollout", data, Rollout, FORMAT, max_bytes=MAX_DOCUMENT_BYTES, check=_check_rollout)


def parse_pins(data: bytes) -> Pins:
    """Raises DocumentError."""
    return decoded("pins", data, Pins, PINS_FORMAT, max_bytes=MAX_DOCUMENT_BYTES, check=_check_pins)


def encode(document: Rollout | Pins) -> bytes:
    """Raises DocumentError where parsing would."""
    data = msgspec.json.encode(document, order="deterministic") + b"\n"
    if isinstance(document, Rollout):
        parse_rollout(data)
    else:
        parse_pins(data)
    return data


def is_group(name: str) -> bool:
    return _GROUP.match(name) is not None


def bucket(salt: str, device_id: str) -> float:
    """Where a device stands in [0, 1): uniform over devices, and independent for each salt."""
    head = hashlib.sha256(salt.encode() + b"\0" + device_id.encode()).digest()[:8]
    return int.from_bytes(head, "big") / 2**64


def pin_bin(device_id: str) -> str:
    """Which pins document names the device: two hex digits."""
    return hashlib.sha256(device_id.encode()).hexdigest()[:2]


def want(
    device_id: str,
    rings: frozenset[str],
    rollout: Rollout,
    model: str,
    *,
    pin: Pin | None = None,
    active: int | None = None,
) -> tuple[Wish, ...]:
    """What the device should run, best first: whoever cannot or must not run one takes the next. Empty: nothing is said.

    `active`: the version that it runs. Order: a pin; back to stable where the candidate is rolled back; the candidate
    for those that it is for, and for those that have it already while it is paused or done; stable.
    Who goes forward waits for its moment in the spread, to a candidate and to what was promoted alike; who goes back goes
    at once: what it goes back to is still there.
    """
    document = rollout.models.get(model)
    wishes: list[Wish] = []
    if pin is not None:
        wishes.append(Wish(pin.version, "pin", pin_seq=pin.seq))
    if document is None:
        return tuple(wishes)
    candidate = document.candidate
    if candidate is not None and _is_for(candidate, device_id, rings, active):
        wait_s = 0.0 if active == candidate.version else rollout.spread_s * bucket(candidate.id + "/spread", device_id)
        wishes.append(Wish(candidate.version, candidate.id, wait_s))
    if (stable := document.stable) is not None:
        recalled = candidate is not None and candidate.state == "rolling_back"
        forward = active is not None and active < stable and not recalled
        wait_s = rollout.spread_s * bucket(f"{model}/{stable}/spread", device_id) if forward else 0.0
        wishes.append(Wish(stable, wait_s=wait_s))
    return tuple(wishes)


def _is_for(candidate: Candidate, device_id: str, rings: frozenset[str], active: int | None) -> bool:
    if candidate.state == "running":
        return (
            active == candidate.version
            or not rings.isdisjoint(candidate.rings)
            or bucket(candidate.id, device_id) * 100 < candidate.percent
        )
    return candidate.state in ("paused", "done") and active == candidate.version


def may_begin(candidate: Candidate, local: datetime) -> bool:
    """Whether the maintenance window, or the deadline, lets a device begin. `local` is aware, in the device's zone."""
    return not candidate.window or is_overdue(candidate, local) or in_window(candidate.window, local)


def is_overdue(candidate: Candidate, local: datetime) -> bool:
    """Whether its deadline is over, from which on no window holds anybody back."""
    return bool(candidate.deadline) and local >= datetime.fromisoformat(candidate.deadline)


def in_window(window: str, local: datetime) -> bool:
    """`window`: "HH:MM-HH:MM", over midnight where the second is the smaller. Raises ValueError."""
    start, end = _minutes(window)
    now = local.hour * 60 + local.minute
    return start <= now < end if start <= end else now >= start or now < end


def opens_in_s(window: str, local: datetime) -> float:
    """Seconds by the clock on the wall until the window opens; 0 within it. Raises ValueError."""
    if in_window(window, local):
        return 0.0
    now_s = local.hour * 3600 + local.minute * 60 + local.second + local.microsecond / 1e6
    return (_minutes(window)[0] * 60 - now_s) % 86400


def _minutes(window: str) -> tuple[int, int]:
    match = _WINDOW.match(window)
    if match is None:
        raise ValueError(f"window: want HH:MM-HH:MM, got {window[:40]!r}")
    start_h, start_m, end_h, end_m = map(int, match.groups())
    return start_h * 60 + start_m, end_h * 60 + end_m


def _check_rollout(document: Rollout) -> None:
    if not _GROUP.match(document.group):
        raise ValueError(f"group: want letters, digits, '_' and '-', got {document.group[:80]!r}")
    _within("seq", document.seq, 0, MAX_VERSION)
    _within("spread_s", document.spread_s, 0, 30 * 86400)
    _within("min_rate_Bps", document.min_rate_Bps, 0, 1 << 40)
    if document.pins_ref and document.pins_ref.count("<bin>") != 1:
        raise ValueError(f"pins_ref: want one '<bin>' in it, got {document.pins_ref[:80]!r}")
    _within("models", len(document.models), 0, MAX_MODELS)
    for name, model in document.models.items():
        _check_model(name, model)


def _check_pins(document: Pins) -> None:
    for device, pins in document.devices.items():
        _within(f"models of {device[:80]}", len(pins), 0, MAX_MODELS)
        for name, pin in pins.items():
            _within(f"{name}.version", pin.version, 0, MAX_VERSION)
            _within(f"{name}.seq", pin.seq, 0, MAX_VERSION)


def _check_model(name: str, model: ModelRollout) -> None:
    if not is_model_name(name):
        raise ValueError(f"models: want names of models, got {name[:80]!r}")
    if model.stable is not None:
        _within(f"{name}.stable", model.stable, 0, MAX_VERSION)
    probation = model.probation
    _within(f"{name}.probation.seconds", probation.seconds, 0, 30 * 86400)
    _within(f"{name}.probation.min_requests", probation.min_requests, 0, 1 << 31)
    _within(f"{name}.probation.max_error_rate", probation.max_error_rate, 0, 1)
    _within(f"{name}.probation.max_p99_ratio", probation.max_p99_ratio, 0, 1e6)
    if (candidate := model.candidate) is not None:
        _within(f"{name}.candidate.version", candidate.version, 0, MAX_VERSION)
        _within(f"{name}.candidate.percent", candidate.percent, 0, 100)
        if not 0 < len(candidate.id) <= MAX_ID_CHARS:
            raise ValueError(f"{name}.candidate.id: want 1 to {MAX_ID_CHARS} characters, got {len(candidate.id)}")
        if candidate.window:
            in_window(candidate.window, datetime.now(UTC))
        if candidate.deadline and datetime.fromisoformat(candidate.deadline).tzinfo is None:
            raise ValueError(f"{name}.candidate.deadline: want an instant with its zone, got {candidate.deadline!r}")


def _within(key: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:  # also what is not a number
        raise ValueError(f"{key}: want {least:g} to {most:g}, got {value}")
