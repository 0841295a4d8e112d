"""What the clients of a mirror see now, and in which order they may be shown what is newer.

Rule 1: a mirror holds one repository: other roots, or another file under a version that is in force, are somebody else's, and
are left alone. Rule 2: nothing older comes over something newer, whichever role it is. Rule 3: clients follow a root as
soon as it is there: before the timestamp is swapped the last root must verify the old one, after that the new one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tuf.api.metadata import Root, Snapshot, Targets, Timestamp

from sync.domain.errors import Conflict, Missing, Reason, Refused, TrustError
from sync.domain.layout import TIMESTAMP, metadata_path
from sync.domain.ports import ReadStore, WriteStore
from sync.fleet.sign.state import MAX_METADATA_BYTES, TOP, S, Signable, distrust, parsed
from sync.fleet.sign.survey import SignedFile, Survey


@dataclass(slots=True)
class Held:
    """`tag`: of the timestamp, None where there is none. `signed`: of it, the snapshot and the targets what can be verified.

    `roots`: so many of the chain are there, without a gap. `current`: the timestamp is the source's.
    """

    tag: str | None = None
    current: bool = False
    roots: int = 0
    signed: dict[str, Signable] = field(default_factory=dict)
    versions: Mapping[str, int] = field(default_factory=dict)


async def held_by(store: WriteStore, there: Survey) -> Held:
    """there: the source, without faults, from its first root on.

    Raises Conflict where the store holds another repository, TrustError (TRUST_ROLLBACK) where it is newer, StoreError.
    """
    held = Held()
    await _count_roots(store, there.roots, held)
    found = await store.tagged(TIMESTAMP)
    if found is None:
        return held
    data, held.tag = found
    assert there.timestamp is not None
    held.current = data == there.timestamp.data
    await _read(store, there.roots, data, held)
    _compare(store, there, held)
    return held


async def _count_roots(store: ReadStore, roots: Sequence[SignedFile], held: Held) -> None:
    for root in roots:
        data = await _get(store, root.path)
        if data is None:
            break
        if data != root.data and (root.version == roots[0].version or root.verifies(data)):
            raise Conflict(f"{store.name}: has another {root.path}: it is no mirror of this store")
        held.roots += 1
    if await _get(store, metadata_path("root", roots[-1].version + 1)) is not None:
        text = f"{store.name}: root: want version {roots[-1].version} at most, got a later one"
        raise TrustError(text, Reason.TRUST_ROLLBACK)


async def _read(store: ReadStore, roots: Sequence[SignedFile], data: bytes, held: Held) -> None:
    """As far as it can be verified: what cannot be is of no use to any client, and may be replaced."""
    timestamp = _verified(store, roots, Timestamp, "timestamp", data, None)
    if timestamp is None:
        return
    held.signed["timestamp"] = timestamp
    held.versions = {"timestamp": timestamp.signed.version}
    assert isinstance(timestamp.signed, Timestamp)
    version = timestamp.signed.snapshot_meta.version
    snapshot = await _get_verified(store, roots, Snapshot, "snapshot", version)
    if snapshot is None:
        return
    held.signed["snapshot"] = snapshot
    assert isinstance(snapshot.signed, Snapshot)
    named = {name.removesuffix(".json"): meta.version for name, meta in snapshot.signed.meta.items()}
    held.versions = {**held.versions, "snapshot": version, **named}
    targets = await _get_verified(store, roots, Targets, TOP, named.get(TOP, 0))
    if targets is not None:
        held.signed[TOP] = targets


def _compare(store: ReadStore, there: Survey, held: Held) -> None:
    versions = there.versions()
    for role, version in held.versions.items():
        if versions.get(role, version) < version:
            text = f"{store.name}: {role}: has version {version}, and the source {versions[role]}: it would go back"
            raise TrustError(text, Reason.TRUST_ROLLBACK)
    if held.versions.get("timestamp") == versions["timestamp"] and not held.current:
        raise Conflict(
            f"{store.name}: has another timestamp of version {versions['timestamp']}: somebody else signs there"
        )


def in_force(file: SignedFile, held: Held) -> bool:
    """Whether the mirror's clients go by this version of the role now."""
    return held.versions.get(file.role) == file.version


def bridge(there: Survey, held: Held) -> tuple[int, bool]:
    """So many of the roots may be there before the timestamp is swapped, and whether no client ever sees what it cannot verify.

    Where keys were taken away more than once since the last time there is no such number: then all of them, and
    clients that poll before the swap are told no once.
    """
    assert there.timestamp is not None
    assert there.snapshot is not None
    after = {"timestamp": there.timestamp.metadata, "snapshot": there.snapshot.metadata, TOP: there.roles[0].metadata}
    roots = [root.metadata.signed for root in there.roots]
    if not held.signed or held.current:
        return len(roots), True
    old = [all(_verifies(root, name, each) for name, each in held.signed.items()) for root in roots]
    new = [all(_verifies(root, name, each) for name, each in after.items()) for root in roots]
    for count in range(len(roots), max(held.roots, 1) - 1, -1):
        if all(old[held.roots : count]) and all(new[count - 1 :]):
            return count, True
    return len(roots), False


def _verifies(root: object, role: str, metadata: Signable) -> bool:
    assert isinstance(root, Root)
    try:
        root.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
    except Exception:  # whatever tuf finds wrong with it
        return False
    return True


def _verified(
    store: ReadStore, roots: Sequence[SignedFile], kind: type[S], role: str, data: bytes, version: int | None
) -> Signable | None:
    """By any root of the chain: the mirror may be some roots behind, or ahead of its own timestamp."""
    try:
        with distrust(store):
            metadata = parsed(kind, data, version)
    except TrustError:
        return None
    if any(_verifies(root.metadata.signed, role, metadata) for root in reversed(roots)):
        return metadata
    return None


async def _get_verified(
    store: ReadStore, roots: Sequence[SignedFile], kind: type[S], role: str, version: int
) -> Signable | None:
    data = await _get(store, metadata_path(role, version))
    return _verified(store, roots, kind, role, data, version) if data is not None else None


async def _get(store: ReadStore, path: str) -> bytes | None:
    try:
        return await store.get(path, max_bytes=MAX_METADATA_BYTES)
    except Missing:
        return None
    except Refused:
        return b""
