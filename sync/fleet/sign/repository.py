"""One repository in a store, changed by whole transactions.

Rule 1: immutable objects first, the timestamp last and by compare-and-swap: a publisher that dies anywhere leaves the old
state or the new one, and of two at once one is told. Rule 2: what is read from the store is verified as a device would before
it is built upon, and a store that went back in time is not built upon. Rule 3: a role is signed anew only when it changed, when
that is asked for, or when half of its time is over. Rule 4: new keys are in force beside the old ones until what they
sign is there: no device ever meets what it cannot verify.

Source: https://theupdateframework.github.io/specification/latest/
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from securesystemslib.signer import Signer
from tuf.api.exceptions import LengthOrHashMismatchError
from tuf.api.metadata import MetaFile, Root, TargetFile

from sync.domain.errors import Conflict, Missing, OperatorError, Reason, TrustError
from sync.domain.layout import TIMESTAMP, metadata_path, target_path
from sync.domain.ports import WriteStore
from sync.fleet.keys import ONLINE, ROLES, KeyRing
from sync.fleet.sign.empty import PATTERNS, delegate_anew, empty_state
from sync.fleet.sign.signing import in_force, made, signed
from sync.fleet.sign.state import (
    MAX_METADATA_BYTES,
    TOP,
    State,
    digest_of_target,
    distrust,
    family_of,
    load_state,
    parsed,
)

BINS: Mapping[str, int] = {"rollouts": 5, "releases": 5}
"""Bits. Whoever polls takes the whole of a role that changed, but of a divided one its own part: about 45 bytes for each
document, condensed, and up to 5 for each bin in the snapshot. 32 bins keep to the aims of `docs/scale.md` from 5 documents to 500, as
`benchmarks/polls.py` measures them; from 500 on take 6 bits, from 3,000 on 8."""
ALSO_SIGN: Mapping[str, Sequence[str]] = {
    "root": ("root",),
    TOP: ("root", "snapshot", "timestamp"),
    "snapshot": ("root", "timestamp"),
    "timestamp": ("root",),
}
"""Whose keys are needed for new ones of a role; for those that the targets delegate to, the targets' and theirs who list them."""
MAX_LEFTOVERS = 1000
"""Versions of a role that publishers who died may have left, one after the other."""


@dataclass(slots=True)
class Transaction:
    """What is to be written: documents by role and target path, None to take one out. Roles in `renew` are signed anew."""

    documents: dict[str, dict[str, bytes | None]] = field(default_factory=dict)
    renew: set[str] = field(default_factory=set)

    def put(self, role: str, name: str, data: bytes | None) -> None:
        self.documents.setdefault(role, {})[name] = data


class Repository:
    """As it was when it was opened; to be opened again after an error. now: the time by which signatures are made."""

    def __init__(
        self, store: WriteStore, keys: KeyRing, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._store, self._keys, self._now = store, keys, now
        self._tag: str | None = None
        self._opened: State | None = None

    @property
    def state(self) -> State:
        """Raises OperatorError unless it is open."""
        if self._opened is None:
            raise OperatorError(f"{self._store.name}: want it opened again after what went wrong")
        return self._opened

    async def create(self, *, bins: Mapping[str, int] | None = None) -> bytes:
        """An empty repository with the keys of the ring; the root that devices are provisioned with.

        bins: bits that divide a role, e.g. {"rollouts": 8} for 256 bins; `BINS` where nothing is said.
        What an earlier attempt with the same keys left is gone on with. Raises Conflict where there is one already,
        OperatorError without all keys, StoreError.
        """
        if await self._store.tagged(TIMESTAMP) is not None:
            raise Conflict(f"{self._store.name}: there is a repository already")
        state = await asyncio.to_thread(empty_state, self._store, self._keys, BINS if bins is None else bins)
        data = self._signed(state, "root")
        if not await self._store.create(metadata_path("root", 1), data):
            data = await self._left_root(state)
        await asyncio.to_thread(self._keys.keep_root, data)
        await self._commit(state, Transaction(renew={TOP, *PATTERNS}))
        self._opened = state
        return data

    async def _left_root(self, state: State) -> bytes:
        """The first root that an attempt with these keys has written."""
        data = await self._store.get(metadata_path("root", 1), max_bytes=MAX_METADATA_BYTES)
        with distrust(self._store):
            left = parsed(Root, data, 1)
            left.signed.verify_delegate("root", left.signed_bytes, left.signatures)
        if (left.signed.keys, left.signed.roles) != (state.root.signed.keys, state.root.signed.roles):
            raise Conflict(f"{self._store.name}: has a root of other keys")
        state.root = left
        return data

    async def open(self, root: bytes | None = None) -> None:
        """Read what the store has, and verify it. root: what devices have, else what the ring remembers, else the store's.

        Raises Missing, StoreError, TrustError (TRUST_ROLLBACK where the store was newer when it was last seen).
        """
        self._opened = None
        found = await self._store.tagged(TIMESTAMP)
        if found is None:
            raise Missing(f"{self._store.name}: there is no repository; `edge-sync keys init` makes one")
        data, self._tag = found
        state = await load_state(self._store, data, root or await asyncio.to_thread(self._keys.first_root))
        seen = await asyncio.to_thread(self._keys.seen)
        for role, version in state.versions().items():
            if version < seen.get(role, 0):
                raise TrustError(
                    f"{self._store.name}: {role}: want version {seen[role]} or later, got {version}: somebody put an "
                    "older state in its place",
                    Reason.TRUST_ROLLBACK,
                )
        await asyncio.to_thread(self._keys.remember, state.versions())
        self._opened = state

    async def names(self, role: str) -> Sequence[str]:
        """Target paths of the role's documents, in order. Raises StoreError, TrustError."""
        return sorted(
            [name for holder in await self.state.whole(role) for name in (await self.state.load(holder)).targets]
        )

    async def document(self, role: str, name: str) -> TargetFile | None:
        """What is signed of a document. Raises StoreError, TrustError."""
        return (await self.state.load(self.state.holder(role, name))).targets.get(name)

    async def read(self, role: str, name: str) -> bytes | None:
        """A signed document, verified; None where there is none. Raises StoreError, TrustError."""
        found = await self.document(role, name)
        if found is None:
            return None
        try:
            data = await self._store.get(target_path(name, digest_of_target(found)), max_bytes=found.length)
            found.verify_length_and_hashes(data)
        except (LengthOrHashMismatchError, KeyError) as error:
            raise TrustError(f"{name}: {error}") from None
        return data

    async def commit(self, change: Transaction) -> None:
        """Write it, in the order that leaves the old state or the new one.

        Raises OperatorError without a key that is needed, Conflict where somebody else was faster, StoreError, TrustError.
        """
        with self._changing() as state:
            await self._commit(state, change)

    async def refresh(self) -> Sequence[str]:
        """Sign anew what the online keys sign and half of whose time is over; the timestamp always. Raises as `commit`."""
        half = {
            name for name in ROLES if self.state.metadata(name).signed.expires - self._now() < ROLES[name].expiry / 2
        }
        renew = {name for name in half if ROLES[name].place == ONLINE}
        await self.commit(Transaction(renew=renew))
        return sorted(renew | {"timestamp"})

    def due(self, within: timedelta) -> dict[str, datetime]:
        """Roles whose signatures end before `within` is over, with when."""
        ends = {role: self.state.metadata(role).signed.expires for role in ROLES}
        limit = self._now() + within
        return {role: end for role, end in sorted(ends.items()) if end < limit}

    async def rotate(self, role: str) -> None:
        """New keys for a role, in place of the old ones. Raises OperatorError, Conflict, StoreError, TrustError.

        Keys of root, targets, snapshot and timestamp need the root's; those of the others the targets' key.
        """
        with self._changing() as state:
            for each in ALSO_SIGN.get(role, (TOP, "snapshot", "timestamp")):
                self._signers(state, each)  # before there are new keys, and a root that names them
            if role in PATTERNS:
                await state.whole(role)  # by the keys that signed them
                delegate_anew(state, role, await asyncio.to_thread(made, self._keys, role))
                await self._commit(state, Transaction(renew={TOP, role}))
                return
            root = state.root.signed
            holders = self._signers(state, "root")
            old = list(root.roles[role].keyids)
            for signer in await asyncio.to_thread(made, self._keys, role):
                root.add_key(signer.public_key, role)
            if role != "root":
                await self._write_root(state)
                await self._commit(state, Transaction(renew={role}))
            for keyid in old:
                root.revoke_key(keyid, role)
            await self._write_root(state, besides=holders if role == "root" else ())

    @contextmanager
    def _changing(self) -> Iterator[State]:
        """The state, which is to be read again unless the block ends well."""
        state, self._opened = self.state, None
        yield state
        self._opened = state

    async def _commit(self, state: State, change: Transaction) -> None:
        dirty = {name for role in change.renew & {TOP, *PATTERNS} for name in await state.whole(role)}
        fresh = await self._changed(state, change, dirty)
        if dirty or "snapshot" in change.renew:
            dirty.add("snapshot")
        for role in dirty | {"timestamp"}:
            self._signers(state, role)  # before anything is written
        for path, data in fresh.items():
            await self._store.create(path, data)
        for role in sorted(dirty - {"snapshot"}):
            await self._create(state, role)
            state.say(role)
        if "snapshot" in dirty:
            await self._create(state, "snapshot")
            state.timestamp.signed.snapshot_meta = MetaFile(state.snapshot.signed.version)
        self._tag = await self._store.swap(TIMESTAMP, self._signed(state, "timestamp"), was=self._tag)
        await asyncio.to_thread(self._keys.remember, state.versions())

    async def _changed(self, state: State, change: Transaction, dirty: set[str]) -> dict[str, bytes]:
        """Documents to be written, by path. Adds to `dirty` what names them."""
        fresh: dict[str, bytes] = {}
        for role, documents in change.documents.items():
            for name, data in documents.items():
                holder = state.holder(role, name)
                targets = (await state.load(holder)).targets
                after = None if data is None else TargetFile.from_data(name, data, ["sha256"])
                if after == targets.get(name):
                    continue
                dirty.add(holder)
                if after is None or data is None:
                    del targets[name]
                else:
                    targets[name] = after
                    fresh[target_path(name, digest_of_target(after))] = data
        return fresh

    async def _create(self, state: State, role: str) -> None:
        """The next version of a role that nobody has written: one who died before the timestamp may have left some."""
        for _ in range(MAX_LEFTOVERS):
            data = self._signed(state, role)
            if await self._store.create(metadata_path(role, state.metadata(role).signed.version), data):
                return
        raise OperatorError(f"{self._store.name}: the next {MAX_LEFTOVERS} versions of {role} are taken")

    async def _write_root(self, state: State, besides: Iterable[Signer] = ()) -> None:
        """Devices follow it as soon as it is there. Raises Conflict where somebody else wrote one."""
        data = self._signed(state, "root", besides)
        if not await self._store.create(metadata_path("root", state.root.signed.version), data):
            raise Conflict(f"{self._store.name}: version {state.root.signed.version} of the root is there already")

    def _signers(self, state: State, role: str) -> Sequence[Signer]:
        return in_force(self._keys, family_of(role), state.role_of(role))

    def _signed(self, state: State, role: str, besides: Iterable[Signer] = ()) -> bytes:
        """The role's next version."""
        metadata = state.metadata(role)
        by = (*self._signers(state, role), *besides)
        expires = self._now() + ROLES[family_of(role)].expiry
        return signed(metadata, by, version=metadata.signed.version + 1, expires=expires)
