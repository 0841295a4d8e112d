"""The operator's side of TUF: one repository in a store, changed by whole transactions.

Rule 1: immutable objects first, the timestamp last and by compare-and-swap: a publisher that dies anywhere leaves the old
state or the new one, and of two at once one is told. Rule 2: what is read from the store is verified as a device would before
it is built upon. Rule 3: a role is signed anew only when it changed, or when it will expire soon.

Source: https://theupdateframework.github.io/specification/latest/
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from securesystemslib.signer import Signer
from tuf.api import exceptions
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Key,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization.json import JSONSerializer

from sync.domain.digests import Digest, digest_of
from sync.domain.errors import Conflict, Missing, OperatorError, TrustError
from sync.domain.layout import TIMESTAMP, metadata_path, target_path
from sync.domain.ports import WriteStore
from sync.fleet.keys import ROLES, KeyRing

MAX_METADATA_BYTES = 5_000_000
MAX_LEFTOVERS = 1000
DELEGATIONS: Mapping[str, Sequence[str]] = {
    "releases": ("models/*/*/manifest.json",),
    "rollouts": ("rollouts/*.json", "rollouts/pins/*.json"),
    "deltas": ("models/*/*/deltas.json",),
}
SERIALIZER = JSONSerializer(compact=True)


@dataclass(slots=True)
class Transaction:
    """What is to be written: documents by role and target path, None to take one out. Roles in `renew` are signed anew."""

    documents: dict[str, dict[str, bytes | None]] = field(default_factory=dict)
    renew: set[str] = field(default_factory=set)

    def put(self, role: str, name: str, data: bytes | None) -> None:
        self.documents.setdefault(role, {})[name] = data


class Repository:
    """As it was when it was opened. now: the time by which signatures are made and judged."""

    def __init__(
        self, store: WriteStore, keys: KeyRing, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._store, self._keys, self._now = store, keys, now
        self._tag: str | None = None
        self.root: Metadata[Root]
        self.timestamp: Metadata[Timestamp]
        self.snapshot: Metadata[Snapshot]
        self.targets: dict[str, Metadata[Targets]] = {}

    # -- making one

    async def create(self) -> bytes:
        """An empty repository with the keys of the ring; the root that devices are provisioned with.

        Raises Conflict where there is one, OperatorError without all keys, StoreError.
        """
        root = Root(consistent_snapshot=True)
        for role in ("root", "targets", "snapshot", "timestamp"):
            signers = self._signers(role, at_least=ROLES[role].keys)
            for signer in signers:
                root.add_key(signer.public_key, role)
            root.roles[role].threshold = ROLES[role].threshold
        self.root = Metadata(root)
        keys: dict[str, Key] = {}
        roles: dict[str, DelegatedRole] = {}
        for name, patterns in DELEGATIONS.items():
            signers = self._signers(name, at_least=ROLES[name].keys)
            keys |= {signer.public_key.keyid: signer.public_key for signer in signers}
            ids = [signer.public_key.keyid for signer in signers]
            roles[name] = DelegatedRole(name, ids, ROLES[name].threshold, True, paths=list(patterns))
            self.targets[name] = Metadata(Targets())
        self.targets["targets"] = Metadata(Targets(delegations=Delegations(keys, roles)))
        self.snapshot, self.timestamp = Metadata(Snapshot()), Metadata(Timestamp())
        self.snapshot.signed.meta = {}
        self.snapshot.signed.version = self.timestamp.signed.version = 0  # the first commit makes it 1
        for metadata in self.targets.values():
            metadata.signed.version = 0
        root_bytes = self._signed(self.root, "root", version=1)
        await self._store.create(metadata_path("root", 1), root_bytes)
        await self.commit(Transaction(renew={"targets", *DELEGATIONS}))
        return root_bytes

    async def open(self, root: bytes | None = None) -> None:
        """Read what the store has, and verify it from `root` on (else from the store's first). Raises Missing, TrustError."""
        found = await self._store.tagged(TIMESTAMP)
        if found is None:
            raise Missing(f"{self._store.name}: there is no repository; `edge-sync keys init` makes one")
        data, self._tag = found
        try:
            await self._load_root(root)
            self.timestamp = Metadata[Timestamp].from_bytes(data)
            self.root.signed.verify_delegate("timestamp", self.timestamp.signed_bytes, self.timestamp.signatures)
            self.snapshot = Metadata[Snapshot].from_bytes(
                await self._get("snapshot", self.timestamp.signed.snapshot_meta.version)
            )
            self.root.signed.verify_delegate("snapshot", self.snapshot.signed_bytes, self.snapshot.signatures)
            for role in ("targets", *DELEGATIONS):
                meta = self.snapshot.signed.meta[f"{role}.json"]
                data = await self._get(role, meta.version)
                self.targets[role] = Metadata[Targets].from_bytes(data)
                above = self.root.signed if role == "targets" else self.targets["targets"].signed
                above.verify_delegate(role, self.targets[role].signed_bytes, self.targets[role].signatures)
        except (exceptions.RepositoryError, KeyError, ValueError) as error:
            raise TrustError(f"{self._store.name}: {error}") from None

    async def _load_root(self, root: bytes | None) -> None:
        data = root if root is not None else await self._get("root", 1)
        self.root = Metadata[Root].from_bytes(data)
        self.root.signed.verify_delegate("root", self.root.signed_bytes, self.root.signatures)
        while True:
            try:
                data = await self._get("root", self.root.signed.version + 1)
            except Missing:
                return
            after = Metadata[Root].from_bytes(data)
            for by in (self.root.signed, after.signed):
                by.verify_delegate("root", after.signed_bytes, after.signatures)
            self.root = after

    async def _get(self, role: str, version: int) -> bytes:
        return await self._store.get(metadata_path(role, version), max_bytes=MAX_METADATA_BYTES)

    # -- changing it

    def document(self, role: str, name: str) -> TargetFile | None:
        return self.targets[role].signed.targets.get(name)

    async def read(self, role: str, name: str) -> bytes | None:
        """A signed document, verified. Raises StoreError, TrustError."""
        found = self.document(role, name)
        if found is None:
            return None
        data = await self._store.get(target_path(name, digest_of_target(found)), max_bytes=found.length)
        try:
            found.verify_length_and_hashes(data)
        except exceptions.LengthOrHashMismatchError as error:
            raise TrustError(f"{name}: {error}") from None
        return data

    async def commit(self, change: Transaction) -> None:
        """Write it, in the order that leaves the old state or the new one.

        Raises OperatorError without a key that is needed, Conflict where somebody else was faster, StoreError.
        """
        written = await self._write_documents(change)
        for role in sorted({*change.documents, *change.renew} & {"targets", *DELEGATIONS}):
            metadata = self.targets[role]
            await self._create(metadata, role)
            self.snapshot.signed.meta[f"{role}.json"] = MetaFile(metadata.signed.version)
            written = True
        if written or "snapshot" in change.renew:
            await self._create(self.snapshot, "snapshot")
            self.timestamp.signed.snapshot_meta = MetaFile(self.snapshot.signed.version)
        data = self._signed(self.timestamp, "timestamp", version=self.timestamp.signed.version + 1)
        self._tag = await self._store.swap(TIMESTAMP, data, was=self._tag)

    async def _create(self, metadata: Metadata[Targets] | Metadata[Snapshot], role: str) -> None:
        """The next version of a role that nobody has written: one who died before the timestamp may have left some."""
        for _ in range(MAX_LEFTOVERS):
            data = self._signed(metadata, role, version=metadata.signed.version + 1)
            if await self._store.create(metadata_path(role, metadata.signed.version), data):
                return
        raise OperatorError(f"{self._store.name}: the next {MAX_LEFTOVERS} versions of {role} are taken")

    async def _write_documents(self, change: Transaction) -> bool:
        for role, documents in change.documents.items():
            targets = self.targets[role].signed.targets
            for name, data in documents.items():
                if data is None:
                    targets.pop(name, None)
                    continue
                await self._store.create(target_path(name, digest_of(data)), data)
                targets[name] = TargetFile.from_data(name, data, ["sha256"])
        return bool(change.documents)

    def due(self, within: timedelta) -> dict[str, datetime]:
        """Roles whose signatures end before `within` is over, with when."""
        ends = {role: metadata.signed.expires for role, metadata in self.targets.items()}
        ends |= {each.signed.type: each.signed.expires for each in (self.root, self.snapshot, self.timestamp)}
        limit = self._now() + within
        return {role: end for role, end in sorted(ends.items()) if end < limit}

    async def rotate(self, role: str) -> None:
        """New keys for a role, in place of the old ones. Raises OperatorError, Conflict, StoreError.

        Keys of root, targets, snapshot and timestamp need the root's; those of the others the targets' key.
        """
        if role in DELEGATIONS:
            await self._rotate_delegated(role)
            return
        old = set(self.root.signed.roles[role].keyids)
        signers = list(self._signers("root", at_least=ROLES["root"].threshold))
        for signer in self._keys.make(ROLES[role]):
            self.root.signed.add_key(signer.public_key, role)
        if role == "root":
            self._revoke(role, old)
            await self._write_root(besides=signers)
            return
        # Both hold until the role is signed by the new ones: whoever dies between leaves what devices can verify.
        await self._write_root()
        await self.commit(Transaction(renew={"targets"} if role == "targets" else {"snapshot"}))
        self._revoke(role, old)
        await self._write_root()

    async def _rotate_delegated(self, role: str) -> None:
        targets = self.targets["targets"].signed
        assert targets.delegations is not None
        assert targets.delegations.roles is not None
        for keyid in list(targets.delegations.roles[role].keyids):
            targets.revoke_key(keyid, role)
        for signer in self._keys.make(ROLES[role]):
            targets.add_key(signer.public_key, role)
        await self.commit(Transaction(renew={"targets", role}))

    def _revoke(self, role: str, keyids: Iterable[str]) -> None:
        for keyid in keyids:
            self.root.signed.revoke_key(keyid, role)

    async def _write_root(self, besides: Iterable[Signer] = ()) -> None:
        """Devices follow it as soon as it is there. Raises Conflict where somebody else wrote one."""
        data = self._signed(self.root, "root", version=self.root.signed.version + 1, besides=besides)
        if not await self._store.create(metadata_path("root", self.root.signed.version), data):
            raise Conflict(f"version {self.root.signed.version} of the root is there already")

    def _signers(self, role: str, *, at_least: int = 1) -> Sequence[Signer]:
        found = self._keys.signers(role)
        if len(found) < at_least:
            raise OperatorError(f"want {at_least} private keys of the role {role}, found {len(found)}")
        return found

    def _signed(
        self,
        metadata: Metadata[Root] | Metadata[Targets] | Metadata[Snapshot] | Metadata[Timestamp],
        role: str,
        *,
        version: int,
        besides: Iterable[Signer] = (),
    ) -> bytes:
        """With every key of the role that is here; those in `besides` sign too."""
        metadata.signed.version = version
        metadata.signed.expires = (self._now() + ROLES[role].expiry).replace(microsecond=0)
        wanted = self._key_ids(role)
        mine = [signer for signer in self._keys.signers(role) if signer.public_key.keyid in wanted]
        if len(mine) < ROLES[role].threshold:
            raise OperatorError(
                f"want {ROLES[role].threshold} private keys of the role {role}, found {len(mine)} that are in force"
            )
        metadata.signatures.clear()
        for signer in [*mine, *besides]:
            metadata.sign(signer, append=True)
        return metadata.to_bytes(SERIALIZER)

    def _key_ids(self, role: str) -> set[str]:
        if role not in DELEGATIONS:
            return set(self.root.signed.roles[role].keyids)
        delegations = self.targets["targets"].signed.delegations
        assert delegations is not None
        assert delegations.roles is not None
        return set(delegations.roles[role].keyids)


def digest_of_target(target: TargetFile) -> Digest:
    return Digest(f"sha256:{target.hashes['sha256']}")
