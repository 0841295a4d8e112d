"""What a store says, verified from a root on as a device would.

Rule 1: nothing is believed for its place: type, version and signatures are those that were asked for. Rule 2: what has
expired is read all the same: whoever signs must be able to sign it anew. Rule 3: bins are read when they are needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from securesystemslib.exceptions import Error as SignatureLibraryError
from tuf.api import exceptions
from tuf.api.metadata import (
    Metadata,
    MetaFile,
    Role,
    Root,
    Signed,
    Snapshot,
    SuccinctRoles,
    TargetFile,
    Targets,
    Timestamp,
)

from sync.domain.digests import Digest
from sync.domain.errors import Missing, TrustError
from sync.domain.layout import metadata_path
from sync.domain.ports import ReadStore

MAX_METADATA_BYTES = 5_000_000
TOP = "targets"

Signable = Metadata[Root] | Metadata[Timestamp] | Metadata[Snapshot] | Metadata[Targets]
S = TypeVar("S", Root, Timestamp, Snapshot, Targets)


@dataclass(slots=True)
class State:
    """`targets`: by role, with those bins that were read."""

    store: ReadStore
    root: Metadata[Root]
    timestamp: Metadata[Timestamp]
    snapshot: Metadata[Snapshot]
    targets: dict[str, Metadata[Targets]]

    def role_of(self, role: str) -> Role:
        """Which keys sign a role or a bin, and how many of them. Raises KeyError."""
        found = self.root.signed.roles.get(role) or self.delegations.get(role) or self.bins(family_of(role))
        if found is None:
            raise KeyError(role)
        return found

    @property
    def delegations(self) -> Mapping[str, Role]:
        found = self.targets[TOP].signed.delegations
        return (found.roles or {}) if found is not None else {}

    def bins(self, role: str) -> SuccinctRoles | None:
        """How a role is divided; None where it is not."""
        found = self.targets[role].signed.delegations
        return found.succinct_roles if found is not None else None

    def holder(self, role: str, name: str) -> str:
        """Which role, or bin of it, names a target."""
        bins = self.bins(role)
        return role if bins is None else bins.get_role_for_target(name)

    async def load(self, role: str) -> Targets:
        """A role or a bin, read once. Raises StoreError, TrustError."""
        if role not in self.targets:
            above = (
                self.root.signed
                if role == TOP
                else self.targets[TOP if role in self.delegations else family_of(role)].signed
            )
            with distrust(self.store):
                version = self.snapshot.signed.meta[f"{role}.json"].version
                metadata = parsed(Targets, await _get(self.store, role, version), version)
                above.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
            self.targets[role] = metadata
        return self.targets[role].signed

    async def whole(self, role: str) -> Sequence[str]:
        """The role with all its bins, read; their names. Raises StoreError, TrustError."""
        bins = self.bins(role)
        names = [role, *(bins.get_roles() if bins is not None else ())]
        for name in names:
            await self.load(name)
        return names

    def metadata(self, role: str) -> Signable:
        top: Mapping[str, Signable] = {"root": self.root, "timestamp": self.timestamp, "snapshot": self.snapshot}
        return top.get(role) or self.targets[role]

    def versions(self) -> dict[str, int]:
        """By role, of all that the snapshot names."""
        listed = {name.removesuffix(".json"): meta.version for name, meta in self.snapshot.signed.meta.items()}
        return listed | {
            "root": self.root.signed.version,
            "snapshot": self.snapshot.signed.version,
            "timestamp": self.timestamp.signed.version,
        }

    def say(self, role: str) -> None:
        """The snapshot names the role's version."""
        self.snapshot.signed.meta[f"{role}.json"] = MetaFile(self.targets[role].signed.version)


async def load_state(store: ReadStore, timestamp: bytes, first_root: bytes | None) -> State:
    """first_root: None for the one that the store has. Raises StoreError, TrustError."""
    with distrust(store):
        root = await _load_root(store, first_root)
        at = parsed(Timestamp, timestamp, None)
        root.signed.verify_delegate("timestamp", at.signed_bytes, at.signatures)
        version = at.signed.snapshot_meta.version
        snapshot = parsed(Snapshot, await _get(store, "snapshot", version), version)
        root.signed.verify_delegate("snapshot", snapshot.signed_bytes, snapshot.signatures)
        state = State(store, root, at, snapshot, {})
        await state.load(TOP)
        for role in state.delegations:
            await state.load(role)
    return state


async def _load_root(store: ReadStore, first: bytes | None) -> Metadata[Root]:
    root = parsed(Root, first if first is not None else await _get(store, "root", 1), None)
    root.signed.verify_delegate("root", root.signed_bytes, root.signatures)
    while True:
        version = root.signed.version + 1
        try:
            after = parsed(Root, await _get(store, "root", version), version)
        except Missing:
            return root
        for by in (root.signed, after.signed):
            by.verify_delegate("root", after.signed_bytes, after.signatures)
        root = after


async def _get(store: ReadStore, role: str, version: int) -> bytes:
    return await store.get(metadata_path(role, version), max_bytes=MAX_METADATA_BYTES)


def parsed(kind: type[S], data: bytes, version: int | None) -> Metadata[S]:
    """Raises RepositoryError."""
    metadata: Metadata[S] = Metadata.from_bytes(data)
    signed: Signed = metadata.signed
    if not isinstance(signed, kind):
        raise exceptions.RepositoryError(f"want a {kind.type}, got a {signed.type}")
    if version is not None and signed.version != version:
        raise exceptions.BadVersionNumberError(f"{kind.type}: want version {version}, got {signed.version}")
    return metadata


@contextmanager
def distrust(store: ReadStore) -> Iterator[None]:
    """Raises TrustError for what tuf raises in the block."""
    try:
        yield
    except exceptions.UnsignedMetadataError as error:
        raise TrustError(f"{store.name}: {error} that count; are --root and --keys those of this store?") from None
    except (
        exceptions.RepositoryError,
        SignatureLibraryError,
        LookupError,
        ValueError,
        TypeError,
        AttributeError,
    ) as error:
        raise TrustError(f"{store.name}: {error or type(error).__name__}") from None


def family_of(role: str) -> str:
    """`releases.bin-0a` → `releases`."""
    return role.partition(".")[0]


def digest_of_target(target: TargetFile) -> Digest:
    """Raises KeyError where it is named by other digests only."""
    return Digest(f"sha256:{target.hashes['sha256']}")
