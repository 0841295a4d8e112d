"""What this device has seen and may not go behind: metadata versions, and a time.

The client of the metadata keeps a cache of its own, which a power cut may empty; an old repository would then be taken for
a new one. Rule 1: written durably after every good refresh. Rule 2: a role's version counts for the keys that signed it: when
its keys are rotated, it begins anew (the specification's recovery from a fast-forward attack, section 5.3.11).
Rule 3: the time is only ever one at which metadata was valid, so that a clock that was wrong once cannot lock the device out.
Rule 4: a floor that cannot be read is none, and said so: it costs a protection, never the updates.

Source: https://theupdateframework.github.io/specification/latest/
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import msgspec

from sync.domain.durable import replace_durably
from sync.domain.errors import Reason, TrustError
from sync.domain.ports import Files

log = logging.getLogger(__name__)

FORMAT = "edge-floor/1"
MAX_FLOOR_BYTES = 1 << 20


class Mark(msgspec.Struct, frozen=True):
    """The highest version of a role that was seen under these keys."""

    version: int
    keys: tuple[str, ...]


class Floor(msgspec.Struct, frozen=True):
    """`time`: seconds since the epoch."""

    format: str = FORMAT
    time: float = 0.0
    roles: Mapping[str, Mark] = {}


def check(floor: Floor, seen: Mapping[str, Mark]) -> None:
    """Raises TrustError for a role whose version was higher before."""
    for role, mark in seen.items():
        before = floor.roles.get(role)
        if before is not None and before.keys == mark.keys and mark.version < before.version:
            raise TrustError(
                f"{role}: want version {before.version} or later, got {mark.version}", Reason.TRUST_ROLLBACK
            )


def raised(floor: Floor, seen: Mapping[str, Mark], now: float) -> Floor:
    """The floor after a refresh at `now`, by the clock that the metadata was valid by."""
    return Floor(time=max(floor.time, now), roles={**floor.roles, **seen})


class FloorFile:
    """Methods block."""

    def __init__(self, files: Files, path: Path) -> None:
        self._files, self._path = files, path
        self.problem = ""

    def load(self) -> Floor:
        """Never raises."""
        try:
            size = self._files.size(self._path)
            if size is None:
                return Floor()
            if size > MAX_FLOOR_BYTES:
                raise ValueError(f"want at most {MAX_FLOOR_BYTES} bytes, got {size}")
            floor = msgspec.json.decode(self._files.read(self._path), type=Floor)
            if floor.format != FORMAT:
                raise ValueError(f"format: want {FORMAT!r}, got {floor.format[:40]!r}")
        except (OSError, ValueError) as error:
            self.problem = f"{self._path}: {error}; older metadata than was seen before would be taken"
            log.error("%s", self.problem)
            return Floor()
        return floor

    def write(self, floor: Floor) -> None:
        """Durably. Raises DiskError."""
        replace_durably(self._files, self._path, msgspec.json.encode(floor, order="deterministic"))
        self.problem = ""
