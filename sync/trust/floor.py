"""What this device has seen and may not go behind: metadata versions, and a time.

The client of the metadata keeps a cache of its own, which a power cut may empty; an old repository would then be taken for
a new one. Rule 1: written durably after every good refresh; one that cannot be written is no good refresh.
Rule 2: a role's version counts for the keys that signed it. Where so many of them were taken away that the rest could not
sign, it begins anew (the specification's recovery from a fast-forward attack, section 5.3.11); a spare key changes nothing.
New keys of the snapshot begin anew all that it names, as in the specification, where those versions are the snapshot's.
Rule 3: the root's version begins anew only with another provisioned root: who could go behind it would bring back the keys
that rule 2 asks for. Rule 4: the time is only ever one at which metadata was valid, so that a clock that was wrong once
cannot lock the device out for longer than the timestamp holds. Rule 5: a floor that cannot be read is none, and that is told:
it costs a protection, never the updates.

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
from sync.domain.sealed import seal, unsealed

log = logging.getLogger(__name__)

FORMAT = "edge-floor/1"
TIMESTAMP, SNAPSHOT = "timestamp", "snapshot"
MAX_FLOOR_BYTES = 8 << 20
MAX_TIME_S = 253_402_300_799.0
"""The end of the year 9999, beyond which there are no dates."""
MAX_VERSION = 2**53
"""Beyond it JSON's numbers are not the same everywhere."""
MAX_ROLES = 100_000
"""Of one family. Above it, roles that the snapshot no longer names are forgotten."""
MAX_FAMILY_BYTES = 512 << 10
"""What the versions of one family may take on the disk; the same is forgotten above it."""
MAX_SEEN_BYTES = 4 << 20
"""What those of all that a snapshot names may take: a floor too large to be read again would be none."""


class Family(msgspec.Struct, frozen=True):
    """Roles that the same keys answer for: one of the top level, or one delegated to with its bins; their versions."""

    keys: tuple[str, ...]
    threshold: int
    versions: Mapping[str, int]


class Floor(msgspec.Struct, frozen=True):
    """`time`: seconds since the epoch. `provisioned`: the digest of the root that the device was given; `root`: a version."""

    format: str = FORMAT
    time: float = 0.0
    provisioned: str = ""
    root: int = 0
    families: Mapping[str, Family] = {}


def generation_of(floor: Floor) -> int:
    """The number of the newest timestamp that was seen; 0 for none."""
    family = floor.families.get(TIMESTAMP)
    return family.versions.get(TIMESTAMP, 0) if family is not None else 0


def check(floor: Floor, seen: Floor) -> None:
    """Raises TrustError (TRUST_ROLLBACK) for a role whose version was higher before."""
    if floor.provisioned == seen.provisioned and seen.root < floor.root:
        raise TrustError(f"root: want version {floor.root} or later, got {seen.root}", Reason.TRUST_ROLLBACK)
    if (size := sum(_bytes(family.versions) for family in seen.families.values())) > MAX_SEEN_BYTES:
        raise TrustError(f"want names of roles that take at most {MAX_SEEN_BYTES} bytes in all, got {size}")
    for name, family in seen.families.items():
        binding = _binding(floor, seen, name)
        for role, version in family.versions.items():
            if version < binding.get(role, 0):
                text = f"{role}: want version {binding[role]} or later, got {version}"
                raise TrustError(text, Reason.TRUST_ROLLBACK)
            if version > MAX_VERSION:
                raise TrustError(f"{role}: want a version up to {MAX_VERSION}, got {version}")


def raised(floor: Floor, seen: Floor) -> Floor:
    """The floor after a good refresh; `seen.time` is the clock that the metadata was valid by."""
    families = {name: family for name, family in floor.families.items() if _binding(floor, seen, name)}
    for name, family in seen.families.items():
        versions = {**_binding(floor, seen, name), **family.versions}
        kept = len(versions) <= MAX_ROLES and _bytes(versions) <= MAX_FAMILY_BYTES
        families[name] = msgspec.structs.replace(family, versions=versions if kept else family.versions)
    time = min(max(floor.time, seen.time), MAX_TIME_S)
    return msgspec.structs.replace(seen, time=time, families=families)


def _binding(floor: Floor, seen: Floor, name: str) -> Mapping[str, int]:
    """Versions of a family that still count."""
    before = floor.families.get(name)
    if before is None or _rekeyed(floor, seen, name) or (name != TIMESTAMP and _rekeyed(floor, seen, SNAPSHOT)):
        return {}
    return before.versions


def _bytes(versions: Mapping[str, int]) -> int:
    return len(msgspec.json.encode(versions))


def _rekeyed(floor: Floor, seen: Floor, name: str) -> bool:
    before, now = floor.families.get(name), seen.families.get(name)
    if before is None or now is None:
        return False
    return len(set(before.keys) - set(now.keys)) >= before.threshold


class FloorFile:
    """`problem`: what was wrong with the file when it was read, for a person; "" for nothing. Methods block."""

    def __init__(self, files: Files, path: Path) -> None:
        self._files, self._path = files, path
        self._floor: Floor | None = None
        self.problem = ""

    def load(self) -> Floor:
        """What was written last. Never raises."""
        if self._floor is None:
            self._floor = self._read()
        return self._floor

    def write(self, floor: Floor) -> None:
        """Durably. Raises DiskError."""
        replace_durably(self._files, self._path, seal(msgspec.json.encode(floor, order="deterministic")))
        self._floor = floor

    def _read(self) -> Floor:
        try:
            size = self._files.size(self._path)
            if size is None:
                return Floor()
            if size > MAX_FLOOR_BYTES:
                raise ValueError(f"want at most {MAX_FLOOR_BYTES} bytes, got {size}")
            floor = msgspec.json.decode(unsealed(self._files.read(self._path)), type=Floor)
            if floor.format != FORMAT:
                raise ValueError(f"format: want {FORMAT!r}, got {floor.format[:40]!r}")
            if not 0 <= floor.time <= MAX_TIME_S:
                raise ValueError(f"time: want 0 to {MAX_TIME_S:.0f} s, got {floor.time}")
        except (OSError, ValueError, RecursionError) as error:
            self.problem = f"{self._path}: {error}; older metadata than was seen before would have been taken"
            log.error("%s", self.problem)
            return Floor()
        return floor
