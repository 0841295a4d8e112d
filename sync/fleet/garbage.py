"""What in a store nothing needs any more, and taking it away.

Rule 1: only what was proved to be needed by nobody: the state in force must be whole, and every digest that stands anywhere in
metadata or a document that is kept is taken for a name, whether this program knows the document's form or not.
Rule 2: what a snapshot names is kept for `keep` after its successor came, since a slow client may still be reading it, and
roots for ever, since a device may have slept for years. Rule 3: nothing goes that is younger than `grace`: a publisher may be
about to name it. Rule 4: ages are measured up to the last signature by the store's own clock, so that a wrong one here costs
nothing; who publishes meanwhile ends the sweep. Rule 5: what does not look like ours is left alone. What names goes before
what it names.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

import msgspec

from sync.domain.errors import Conflict, Missing, TrustError
from sync.domain.layout import TIMESTAMP, target_path
from sync.domain.ports import WriteStore
from sync.fleet.contents import fetch, max_bytes
from sync.fleet.keys import ROLES
from sync.fleet.parallel import each
from sync.fleet.progress import Progress, Quiet
from sync.fleet.sign.survey import Named, Survey, survey

SNAPSHOT = "snapshot"
KEEP = timedelta(days=30)
"""For which superseded metadata stays; no device should take longer over one update."""
SNAPSHOT_HOLDS = ROLES[SNAPSHOT].expiry
GRACE = timedelta(days=7)
"""For which what nothing names stays; no publisher should take longer between a file and its signature."""
MAX_METADATA_BYTES = 5_000_000
CHECK_EVERY = 100
"""Deletions between two looks at whether somebody has published."""

Kind = Literal["metadata", "document", "file"]
ORDER: tuple[Kind, ...] = ("metadata", "document", "file")
PREFIXES = ("metadata/", "targets/", "blobs/")
_METADATA = re.compile(r"metadata/([1-9]\d{0,18})\.([A-Za-z0-9_.-]+)\.json\Z", re.ASCII)
_DOCUMENT = re.compile(r"targets/(?:.*/)?([0-9a-f]{64})\.[^/]+\Z", re.ASCII)
_FILE = re.compile(r"blobs/sha256/([0-9a-f]{64})\Z", re.ASCII)
_DIGEST = re.compile(rb"[0-9a-f]{64}")


class Unneeded(NamedTuple):
    """size: bytes. changed: seconds since the epoch, by the store."""

    kind: Kind
    path: str
    size: int
    changed: float


@dataclass(slots=True)
class Garbage:
    """`kept`, `young`, `unknown`: objects that are needed, not yet old enough, or none of ours; sizes in bytes.

    `tag`: of the timestamp by which it was found. `deleted`: so many are gone.
    """

    tag: str
    unneeded: list[Unneeded] = field(default_factory=list)
    kept: int = 0
    kept_size: int = 0
    young: int = 0
    young_size: int = 0
    unknown: int = 0
    deleted: int = 0

    @property
    def size(self) -> int:
        return sum(each_one.size for each_one in self.unneeded)


async def find(
    store: WriteStore,
    *,
    now: datetime,
    first_root: bytes | None = None,
    keep: timedelta = KEEP,
    grace: timedelta = GRACE,
    progress: Progress | None = None,
) -> Garbage:
    """Raises TrustError, HashMismatch, Missing where the state in force is not whole, and StoreError; deletes nothing."""
    found = await store.tagged(TIMESTAMP)
    if found is None:
        raise Missing(f"{store.name}: there is no repository")
    there = {path: (size, time) for prefix in PREFIXES async for path, size, time in store.walk(prefix)}
    state = await survey(store, first_root=first_root, now=now)
    _want_whole(store, state)
    if state.timestamp is None or state.timestamp.data != found[0]:
        raise Conflict(f"{store.name}: somebody has published meanwhile; try again")
    clock = min(now.timestamp(), there.get(TIMESTAMP, (0, 0.0))[1])
    times = {path: time for path, (_, time) in there.items()}
    kept = await _kept(store, times, state, clock - keep.total_seconds())
    named = await _named(store, kept, times, state, progress or Quiet())
    garbage = Garbage(found[1])
    for path, (size, time) in sorted(there.items()):
        kind = _kind(path)
        if kind is None:
            garbage.unknown += path != TIMESTAMP
        elif not _is_unneeded(path, kind, kept, named):
            garbage.kept, garbage.kept_size = garbage.kept + 1, garbage.kept_size + size
        elif time > clock - grace.total_seconds():
            garbage.young, garbage.young_size = garbage.young + 1, garbage.young_size + size
        else:
            garbage.unneeded.append(Unneeded(kind, path, size, time))
    garbage.unneeded.sort(key=lambda one: (ORDER.index(one.kind), one.path))
    return garbage


async def sweep(store: WriteStore, garbage: Garbage, progress: Progress | None = None) -> None:
    """Delete what was found. Raises Conflict where somebody has published since, StoreError."""
    show = progress or Quiet()
    times = {path: time for prefix in PREFIXES async for path, _, time in store.walk(prefix)}
    show.begin("deleting", len(garbage.unneeded))
    for number, one in enumerate(garbage.unneeded):
        if number % CHECK_EVERY == 0:
            await _want_unchanged(store, garbage)
        if times.get(one.path) == one.changed:  # else a publisher has just wanted it again
            await store.delete(one.path)
            garbage.deleted += 1
        show.step()
    show.end()


def _want_whole(store: WriteStore, state: Survey) -> None:
    if faults := state.faults.but_expiry:
        raise TrustError(
            f"{store.name}: nothing is deleted: {faults[0]}; `edge-sync verify` names all {len(faults)} faults"
        )


async def _want_unchanged(store: WriteStore, garbage: Garbage) -> None:
    found = await store.tagged(TIMESTAMP)
    if found is None or found[1] != garbage.tag:
        raise Conflict(f"{store.name}: somebody has published meanwhile; {garbage.deleted} objects are gone, try again")


async def _kept(store: WriteStore, times: Mapping[str, float], state: Survey, before: float) -> set[str]:
    """Paths of metadata that a client may still need: roots, snapshots that were in force after `before`, those that are
    newer (somebody is at work, or has put an older state in force), and what these name."""
    files = [(match[2], int(match[1]), path) for path in times if (match := _METADATA.match(path))]
    current = state.versions()
    snapshots = sorted((version, path) for role, version, path in files if role == SNAPSHOT)
    kept = {path for role, _, path in files if role == "root"}
    named: set[tuple[str, int]] = set()
    for (version, path), following in zip(snapshots, [*snapshots[1:], None], strict=True):
        # One that its publisher did not live to put in force leaves the one before in force until that expires.
        over = times[following[1]] + SNAPSHOT_HOLDS.total_seconds() if following is not None else math.inf
        if version >= current[SNAPSHOT] or over >= before:
            kept.add(path)
            named |= _names_of(await store.get(path, max_bytes=MAX_METADATA_BYTES))
    return kept | {path for role, version, path in files if (role, version) in named}


def _names_of(snapshot: bytes) -> set[tuple[str, int]]:
    """Roles and versions; none where no client could read it either."""
    try:
        meta = msgspec.json.decode(snapshot, type=_SnapshotFile).signed.meta
    except (ValueError, RecursionError):
        return set()
    return {(name.removesuffix(".json"), each_one.version) for name, each_one in meta.items()}


class _Meta(msgspec.Struct):
    version: int


class _Signed(msgspec.Struct):
    meta: dict[str, _Meta]


class _SnapshotFile(msgspec.Struct):
    signed: _Signed


async def _named(
    store: WriteStore, metadata: set[str], times: Iterable[str], state: Survey, progress: Progress
) -> set[str]:
    """Digests in all metadata that is kept, and in the documents that those name."""
    named: set[str] = set()
    found: set[str] = set()
    in_force = {target_path(document.name, document.digest) for document in state.documents}
    progress.begin("metadata", len(metadata))

    async def scan(path: str) -> None:
        _scan(await store.get(path, max_bytes=MAX_METADATA_BYTES), named)
        progress.step()

    async def scan_in_force(document: Named) -> None:
        _scan(await fetch(store, document), found)
        progress.step()

    async def scan_document(path: str) -> None:
        _scan(await store.get(path, max_bytes=max_bytes(path.removeprefix("targets/"))), found)
        progress.step()

    await each(metadata, scan)
    older = [path for path in times if path not in in_force and (match := _DOCUMENT.match(path)) and match[1] in named]
    progress.begin("documents", len(older) + len(state.documents))
    await each(state.documents, scan_in_force)
    await each(older, scan_document)
    progress.end()
    return named | found


def _scan(data: bytes, into: set[str]) -> None:
    into.update(match.decode() for match in _DIGEST.findall(data))


def _kind(path: str) -> Kind | None:
    if _METADATA.match(path):
        return "metadata"
    if _DOCUMENT.match(path):
        return "document"
    return "file" if _FILE.match(path) else None


def _is_unneeded(path: str, kind: Kind, kept: set[str], named: set[str]) -> bool:
    if kind == "metadata":
        return path not in kept
    match = _DOCUMENT.match(path) or _FILE.match(path)
    return match is not None and match[1] not in named
