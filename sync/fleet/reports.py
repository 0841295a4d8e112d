"""Devices' reports in a directory: one file for each device, with the last of what it said.

devices/<hh>/<device>.json    hh: the device's bin, two hex digits

Rule 1: idempotent: a report that is there changes nothing, and one that comes late never hides a later one. Rule 2: a report
is durable before anybody is told that it was taken. Rule 3: what a device may say has bounds; what is longer than a person
reads is cut, what makes no sense is refused. Rule 4: a device's clock orders its reports only where it may be believed;
else they are ordered as they came.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from edge.domain.layout import is_model_name
from edge.domain.models import MAX_VERSION
from sync.domain.durable import replace_durably
from sync.domain.errors import DiskError, DocumentError
from sync.domain.ports import Files
from sync.domain.report import ModelReport, Refusal, Report
from sync.domain.rollout import pin_bin

log = logging.getLogger(__name__)

FORMAT = "edge-reports/1"
MAX_KEPT = 32
"""Reports of one device; the oldest go."""
MAX_MODELS = 256
MAX_ROLES = 64
MAX_DETAIL_CHARS = 500
MAX_NAME_CHARS = 128
MAX_TIME_S = 253_402_300_799.0
MAX_COUNT = 2**63 - 1
MAX_FILE_BYTES = 64 << 20

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}\Z", re.ASCII)
_CODE = re.compile(r"[a-z][a-z0-9_]{0,39}\Z|\Z", re.ASCII)


class Kept(msgspec.Struct, frozen=True):
    """`received`: seconds since the epoch, by the collector's clock."""

    received: float
    report: Report

    @property
    def at(self) -> float:
        """When it was made, as far as that is to be believed."""
        return min(self.report.ts, self.received) if self.report.clock_ok else self.received


class DeviceLog(msgspec.Struct, frozen=True):
    """The latest report is the last."""

    device: str
    kept: tuple[Kept, ...] = ()
    format: str = FORMAT

    @property
    def latest(self) -> Kept:
        return self.kept[-1]


def taken(log: DeviceLog, fresh: Kept) -> DeviceLog | None:
    """The log with one more report; None where it changes nothing."""
    if not log.kept:
        return msgspec.structs.replace(log, kept=(fresh,))
    latest, seq = log.latest, fresh.report.seq
    if any(one.report == fresh.report for one in log.kept):
        return None
    if seq == latest.report.seq:  # a heartbeat has the number of what it repeats
        kept = (*log.kept[:-1], fresh) if fresh.at > latest.at else None
    elif seq < latest.report.seq and fresh.at <= latest.at:
        kept = _late(log.kept, fresh)
    else:  # the next one, or the first after the device has lost its memory
        kept = (*log.kept, fresh)
    return None if kept is None else msgspec.structs.replace(log, kept=kept[-MAX_KEPT:])


def _late(kept: tuple[Kept, ...], fresh: Kept) -> tuple[Kept, ...] | None:
    """Where it belongs, before the latest; None for what a later one of its number has replaced."""
    if any(one.report.seq == fresh.report.seq for one in kept) or len(kept) >= MAX_KEPT:
        return None
    return (*sorted((*kept[:-1], fresh), key=lambda one: (one.at, one.report.seq)), kept[-1])


def checked(report: Report) -> Report:
    """As it may be kept. Raises DocumentError."""
    try:
        _check_names(report)
        for key, value, most in (
            ("seq", report.seq, MAX_VERSION),
            ("ts", report.ts, MAX_TIME_S),
            ("disk_free", report.disk_free, MAX_COUNT),
            ("mem_avail", report.mem_avail, MAX_COUNT),
            *((f"meta.{role[:40]}", version, MAX_COUNT) for role, version in report.meta.items()),
            *((f"last.{key}", value, MAX_COUNT) for key, value in msgspec.structs.asdict(report.last).items()),
        ):
            _within(key, value, most)
        models = {name: _checked_model(name, model) for name, model in report.models.items()}
        problem = _checked_refusal("problem", report.problem)
    except ValueError as error:
        raise DocumentError(f"report: {error}") from None
    agent, edge = report.agent[:MAX_NAME_CHARS], report.edge[:MAX_NAME_CHARS]
    return msgspec.structs.replace(report, models=models, problem=problem, agent=agent, edge=edge)


def _check_names(report: Report) -> None:
    for key, name in (("device", report.device), ("group", report.group)):
        if not _NAME.match(name):
            raise ValueError(f"{key}: want letters, digits, '_', '.' and '-', at most 128, got {name[:40]!r}")
    for key, names, most in (("models", report.models, MAX_MODELS), ("meta", report.meta, MAX_ROLES)):
        if len(names) > most:
            raise ValueError(f"{key}: want at most {most}, got {len(names)}")
        if any(len(name) > MAX_NAME_CHARS for name in names):
            raise ValueError(f"{key}: want names of at most {MAX_NAME_CHARS} characters")


def _checked_model(name: str, model: ModelReport) -> ModelReport:
    if not is_model_name(name):
        raise ValueError(f"models: want names of models, got {name[:40]!r}")
    for key in ("active", "previous", "candidate", "tries", "held"):
        _within(f"{name}.{key}", getattr(model, key) or 0, MAX_VERSION)
    for key in ("phase", "outcome", "reason"):
        if not _CODE.match(text := getattr(model, key)):
            raise ValueError(f"{name}.{key}: want a short word, got {text[:40]!r}")
    if len(model.rollout) > MAX_NAME_CHARS:
        raise ValueError(f"{name}.rollout: want at most {MAX_NAME_CHARS} characters, got {len(model.rollout)}")
    refused = _checked_refusal(f"{name}.refused", model.refused)
    return msgspec.structs.replace(model, detail=model.detail[:MAX_DETAIL_CHARS], refused=refused)


def _checked_refusal(key: str, refusal: Refusal | None) -> Refusal | None:
    if refusal is None:
        return None
    _within(f"{key}.version", refusal.version or 0, MAX_VERSION)
    if not refusal.reason or not _CODE.match(refusal.reason):
        raise ValueError(f"{key}.reason: want a short word, got {refusal.reason[:40]!r}")
    if len(refusal.rollout) > MAX_NAME_CHARS:
        raise ValueError(f"{key}.rollout: want at most {MAX_NAME_CHARS} characters, got {len(refusal.rollout)}")
    return msgspec.structs.replace(refusal, detail=refusal.detail[:MAX_DETAIL_CHARS])


def _within(key: str, value: float, most: float) -> None:
    if not 0 <= value <= most:  # also what is not a number
        raise ValueError(f"{key}: want 0 to {most:g}, got {str(value)[:40] if abs(value) < 1e300 else 'far more'}")


class ReportDirectory:
    """Its methods block. One process writes; others may read meanwhile."""

    def __init__(self, files: Files, directory: Path) -> None:
        self._files, self._directory = files, directory / "devices"

    def take(self, report: Report, now: float) -> bool:
        """Whether anything was new; durable then. now: seconds since the epoch. Raises DiskError."""
        before = self.of(report.device) or DeviceLog(report.device)
        after = taken(before, Kept(now, report))
        if after is None:
            return False
        path = self._path(report.device)
        try:
            self._files.make(path.parent)
        except OSError as error:
            raise DiskError(f"{path.parent}: cannot be made: {error.strerror}") from None
        replace_durably(self._files, path, msgspec.json.encode(after))
        return True

    def of(self, device: str) -> DeviceLog | None:
        """What a device has said; None where that is nothing, or cannot be read. Raises DiskError."""
        path = self._path(device)
        try:
            if (size := self._files.size(path)) is None:
                return None
            if size > MAX_FILE_BYTES:
                raise ValueError(f"want at most {MAX_FILE_BYTES} bytes, got {size}")
            kept = msgspec.json.decode(self._files.read(path), type=DeviceLog)
            if (kept.format, kept.device) != (FORMAT, device) or not kept.kept:
                raise ValueError(f"want {FORMAT} of {device}")
        except OSError as error:
            raise DiskError(f"{path}: cannot be read: {error.strerror}") from None
        except (ValueError, RecursionError) as error:
            log.error("%s: is begun anew: %s", path, error)
            return None
        return kept

    def devices(self) -> Iterator[str]:
        """In the order of their bins. Raises DiskError."""
        try:
            for folder in self._files.names(self._directory):
                for name in self._files.names(self._directory / folder):
                    if name.endswith(".json") and _NAME.match(name[:-5]):
                        yield name[:-5]
        except OSError as error:
            raise DiskError(f"{self._directory}: cannot be read: {error.strerror}") from None

    def logs(self) -> Iterable[DeviceLog]:
        """Raises DiskError."""
        for device in self.devices():
            if (found := self.of(device)) is not None:
                yield found

    def _path(self, device: str) -> Path:
        return self._directory / pin_bin(device) / f"{device}.json"
