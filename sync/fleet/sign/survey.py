"""All the metadata of a store, verified as a client would, without stopping at what is wrong.

Rule 1: what a client could not get past is a fault, and what lies behind it is looked at all the same where that is possible.
Rule 2: lengths are bounded as a client's are. Rule 3: nothing is believed for its place: type, version and signatures are
those that were asked for. Rule 4: every role that is delegated to is walked, bins too, each once.

Source: https://theupdateframework.github.io/specification/latest/, section 5
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, SuccinctRoles, Targets, Timestamp

from sync.domain.digests import Digest, as_digest
from sync.domain.errors import Missing, Reason, Refused, SyncError, TrustError
from sync.domain.layout import TIMESTAMP, metadata_path
from sync.domain.ports import ReadStore
from sync.fleet.faults import Faults
from sync.fleet.keys import ONLINE, ROLES
from sync.fleet.parallel import each
from sync.fleet.sign.state import TOP, S, Signable, digest_of_target, distrust, family_of, parsed
from sync.trust.client import ED25519, TrustLimits
from sync.trust.internals import keys_of

MAX_ROLES = 1 << 16
"""That one store may delegate to, bins counted."""
Verifies = Callable[[bytes], bool]


@dataclass(frozen=True, slots=True)
class SignedFile:
    """One file of metadata. `verifies`: whether other bytes would be as good in its place."""

    role: str
    version: int
    path: str
    data: bytes
    expires: datetime
    metadata: Signable
    verifies: Verifies


class Named(NamedTuple):
    """A document that `role` speaks for."""

    role: str
    name: str
    digest: Digest
    size: int


@dataclass(slots=True)
class Survey:
    """`roots`: all, in order. `roles`: of the targets and below, who delegates first. `documents`: by name, of every role."""

    roots: list[SignedFile] = field(default_factory=list)
    timestamp: SignedFile | None = None
    snapshot: SignedFile | None = None
    roles: list[SignedFile] = field(default_factory=list)
    documents: list[Named] = field(default_factory=list)
    faults: Faults = field(default_factory=Faults)

    @property
    def files(self) -> list[SignedFile]:
        """All that is in force, of the roots the last."""
        top = (*self.roots[-1:], self.timestamp, self.snapshot)
        return [file for file in (*top, *self.roles) if file is not None]

    def versions(self) -> dict[str, int]:
        return {file.role: file.version for file in self.files}


async def survey(
    store: ReadStore, *, first_root: bytes | None, now: datetime, limits: TrustLimits | None = None
) -> Survey:
    """first_root: what devices are provisioned with; None to believe the store's. now: by which expiry is judged.

    Raises Missing where there is no repository, StoreError where the store does not answer.
    """
    return await _Walk(store, now, limits or TrustLimits()).run(first_root)


class _Walk:
    def __init__(self, store: ReadStore, now: datetime, limits: TrustLimits) -> None:
        self._store, self._now, self._limits = store, now, limits
        self._known: set[str] = set()
        self.found = Survey()

    async def run(self, first_root: bytes | None) -> Survey:
        found = self.found
        try:
            timestamp = await self._store.get(TIMESTAMP, max_bytes=self._limits.timestamp_bytes)
        except Refused as error:
            found.faults.add("timestamp", error)
            return found
        with found.faults.noting("root"):
            await self._roots(first_root)
        if not found.roots:
            return found
        root = found.roots[-1]
        self._fresh(root)
        by = _whole(root.metadata, Root)
        with found.faults.noting("timestamp"):
            found.timestamp = self._file(Timestamp, TIMESTAMP, timestamp, "timestamp", by, None)
            self._fresh(found.timestamp)
        if found.timestamp is None:
            return found
        with found.faults.noting("snapshot"):
            meta = _whole(found.timestamp.metadata, Timestamp).snapshot_meta
            found.snapshot = await self._get(Snapshot, "snapshot", by, meta, self._limits.snapshot_bytes)
            self._fresh(found.snapshot)
        if found.snapshot is not None:
            self._known.add(TOP)
            await self._role(TOP, by, lambda name: True)
        found.documents.sort()
        return found

    async def _roots(self, first: bytes | None) -> None:
        limit = self._limits.root_bytes
        data = first if first is not None else await self._store.get(metadata_path("root", 1), max_bytes=limit)
        with distrust(self._store):
            own = parsed(Root, data, None)
        self._keep_root(data, own.signed)
        for version in range(own.signed.version + 1, own.signed.version + self._limits.root_rotations + 1):
            try:
                data = await self._store.get(metadata_path("root", version), max_bytes=limit)
            except Missing:
                return
            self._keep_root(data, _whole(self.found.roots[-1].metadata, Root))
        raise TrustError(f"root: more than {self._limits.root_rotations} versions: no client follows them")

    def _keep_root(self, data: bytes, before: Root) -> None:
        """One that the root before and itself have signed."""
        roots = self.found.roots
        version = before.version + (1 if roots else 0)
        path = metadata_path("root", version)
        file = self._file(Root, path, data, "root", before, version)
        with distrust(self._store):
            own = _whole(file.metadata, Root)
            own.verify_delegate("root", file.metadata.signed_bytes, file.metadata.signatures)
        roots.append(file)

    async def _role(self, name: str, above: Root | Targets, speaks_of: Callable[[str], bool]) -> None:
        faults, snapshot = self.found.faults, self.found.snapshot
        assert snapshot is not None
        below: list[tuple[str, Targets, Callable[[str], bool]]] = []
        with faults.noting(name):
            meta = _whole(snapshot.metadata, Snapshot).meta.get(f"{name}.json")
            if meta is None:
                raise TrustError(f"{name}: is delegated to, and the snapshot does not name it")
            file = await self._get(Targets, name, above, meta, self._limits.targets_bytes)
            self.found.roles.append(file)
            self._fresh(file)
            targets = _whole(file.metadata, Targets)
            self._documents(name, targets, speaks_of)
            below.extend(self._below(name, targets))
        await each(below, lambda args: self._role(*args))

    def _below(self, name: str, targets: Targets) -> Iterator[tuple[str, Targets, Callable[[str], bool]]]:
        delegations = targets.delegations
        if delegations is None:
            return
        below: list[tuple[str, Callable[[str], bool]]] = []
        if (bins := delegations.succinct_roles) is not None:
            if 1 << bins.bit_length > MAX_ROLES:
                raise TrustError(f"{name}: want at most {MAX_ROLES} bins, got 2^{bins.bit_length}")
            below += [(role, partial(_in_bin, bins, role)) for role in bins.get_roles()]
        below += [(role, one.is_delegated_path) for role, one in (delegations.roles or {}).items()]
        for role, speaks_of in below:
            if role in self._known:
                continue
            if len(self._known) >= MAX_ROLES:
                raise TrustError(f"{name}: want at most {MAX_ROLES} roles in all")
            self._known.add(role)
            yield role, targets, speaks_of

    def _documents(self, role: str, targets: Targets, speaks_of: Callable[[str], bool]) -> None:
        for name, target in sorted(targets.targets.items()):
            with self.found.faults.noting(name), distrust(self._store):
                if not speaks_of(name):
                    raise TrustError(f"{name}: {role} has signed it, and may not speak of it: no client finds it")
                digest = as_digest(digest_of_target(target))
                self.found.documents.append(Named(role, name, digest, target.length))

    async def _get(self, kind: type[S], role: str, above: Root | Targets, meta: MetaFile, max_bytes: int) -> SignedFile:
        path = metadata_path(role, meta.version)
        data = await self._store.get(path, max_bytes=min(meta.length or max_bytes, max_bytes))
        with distrust(self._store):
            meta.verify_length_and_hashes(data)
        return self._file(kind, path, data, role, above, meta.version)

    def _file(
        self, kind: type[S], path: str, data: bytes, role: str, above: Root | Targets, version: int | None
    ) -> SignedFile:
        def checked(data: bytes) -> Metadata[S]:
            metadata = parsed(kind, data, version)
            above.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
            return metadata

        def verifies(data: bytes) -> bool:
            try:
                with distrust(self._store):
                    checked(data)
            except TrustError:
                return False
            return True

        with distrust(self._store):
            metadata = checked(data)
        signed = metadata.signed
        self._check_schemes(role, metadata)
        return SignedFile(role, signed.version, path, data, signed.expires.astimezone(UTC), metadata, verifies)

    def _check_schemes(self, role: str, metadata: Signable) -> None:
        for key in keys_of(metadata.signed).values():
            if (key.keytype, key.scheme) != (ED25519, ED25519):
                raise TrustError(f"{role}: want keys of ed25519, got one of {key.keytype}, {key.scheme}")

    def _fresh(self, file: SignedFile) -> None:
        if file.expires <= self._now:
            self.found.faults.add(file.role, expired(file))


def expired(file: SignedFile) -> SyncError:
    """As `sync.trust.failures` tells a device: what the online keys sign is stale, of the rest a person has to know."""
    role = ROLES.get(family_of(file.role))
    online = role is not None and role.place == ONLINE
    text = f"{file.role}: expired at {file.expires:%Y-%m-%d %H:%M} UTC"
    return TrustError(text, Reason.STALE_METADATA if online else Reason.TRUST_EXPIRED)


def _in_bin(bins: SuccinctRoles, role: str, target: str) -> bool:
    return bins.get_role_for_target(target) == role


def _whole(metadata: Signable, kind: type[S]) -> S:
    signed = metadata.signed
    if not isinstance(signed, kind):
        raise RepositoryError(f"want a {kind.type}, got a {signed.type}")
    return signed
