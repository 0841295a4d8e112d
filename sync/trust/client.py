"""The device's side of TUF: `tuf.ngclient`, behind a floor that outlives its cache, reading from any store.

Rule 1: metadata and small signed documents only; blobs are named by the documents and fetched elsewhere. Rule 2: whatever
goes wrong comes out as TrustError, StoreError or DiskError. Rule 3: ed25519 only, unless `any_scheme`. Rule 4: nothing here
stops a model from being served: who asks is told why there is nothing new. Rule 5: what was verified by the last good refresh
holds until the next one. Rule 6: one thread at a time, and none outlives the call that started it. Rule 7: a timestamp that
is byte for byte the last good one, of roles none of which has expired, is the whole of a poll. The specification asks for a
newer root first (5.3); but whatever a newer root revokes, nothing signed with it is taken before another timestamp names it,
and that is read after the root. Who could hold that timestamp back could hold the root back, too.

Without the package `cryptography` signatures are verified in Python: some milliseconds each, about a dozen to a poll.
Source: https://theupdateframework.github.io/specification/latest/, section 5
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tuf.api.exceptions import LengthOrHashMismatchError
from tuf.api.metadata import TargetFile
from tuf.ngclient import Updater, UpdaterConfig

from sync.domain.digests import Digest, as_digest, digest_of
from sync.domain.errors import Missing, Reason, Refused, TooSlow, TrustError
from sync.domain.layout import TIMESTAMP
from sync.domain.ports import ReadStore
from sync.trust.failures import translated
from sync.trust.fetcher import BASE, StoreFetcher
from sync.trust.floor import FloorFile, check, raised
from sync.trust.internals import keys_of, names_by_content, seen_by, set_reference_time, verified
from sync.trust.kept import KeptDocuments
from sync.trust.timekeeping import Timekeeper, uptime

ED25519 = "ed25519"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TrustLimits:
    """`request_s`: seconds for one answer; `total_s`: for a refresh, or a document. Lengths in bytes, of one file."""

    request_s: float = 60.0
    total_s: float = 600.0
    root_bytes: int = 512_000
    timestamp_bytes: int = 16_384
    snapshot_bytes: int = 2_000_000
    targets_bytes: int = 5_000_000
    root_rotations: int = 256
    delegations: int = 32


class Unsigned(Missing):
    """No key's holder says that there is such a document."""


class TrustClient:
    """root: the metadata that the device was provisioned with. cache: a directory that only this uses.

    now: seconds since the epoch, by the device's clock; uptime_s: seconds that no change of the clock touches.
    `clock_ok`: whether the last refresh believed the clock. `versions`: by role, as of the last good refresh.
    """

    def __init__(
        self,
        store: ReadStore,
        *,
        root: bytes,
        cache: Path,
        floor: FloorFile,
        now: Callable[[], float] = time.time,
        uptime_s: Callable[[], float] = uptime,
        limits: TrustLimits | None = None,
        any_scheme: bool = False,
    ) -> None:
        self._store, self._root, self._cache, self._floor = store, root, cache, floor
        self._limits, self._any_scheme = limits or TrustLimits(), any_scheme
        self._time = Timekeeper(now, uptime_s)
        self._fetcher = StoreFetcher(store, request_s=self._limits.request_s)
        self._kept = KeptDocuments(cache / "targets")
        self._lock = asyncio.Lock()
        self._updater: Updater | None = None
        self._timestamp = b""  # of the last refresh, while it was good
        self._swept = False
        self.versions: Mapping[str, int] = {}

    @property
    def clock_ok(self) -> bool:
        return self._time.ok

    @property
    def problem(self) -> str:
        """What a person should know of the floor; "" for nothing."""
        return self._floor.problem

    @property
    def signed_until(self) -> float:
        """When the first of what was verified ends, in seconds since the epoch; 0 before the first good refresh."""
        return min(self.ends.values(), default=0.0)

    @property
    def ends(self) -> Mapping[str, float]:
        """When what was verified ends, in seconds since the epoch, by type: the first of those that are delegated to."""
        ends: dict[str, float] = {}
        for signed in tuple(verified(self._updater)) if self._updater is not None else ():
            end = signed.expires.timestamp()
            ends[signed.type] = min(end, ends.get(signed.type, end))
        return ends

    async def refresh(self) -> None:
        """Take in the newest metadata. Raises TrustError, StoreError, DiskError; what was known before is kept then."""
        await self._alone(self._refresh)

    async def target(self, name: str) -> TargetFile | None:
        """What the keys' holders say of a document; None where they say nothing. Raises as `refresh`."""
        return await self._alone(lambda: self._target(name))

    async def fetch(self, name: str, *, max_bytes: int) -> tuple[bytes, Digest]:
        """A signed document, verified. Raises Unsigned where none is signed, and as `refresh`."""
        found = await self.target(name)
        if found is None:
            raise Unsigned(f"{name}: nobody has signed one")
        if found.length > max_bytes:
            raise Refused(f"{name}: want at most {max_bytes} bytes, got {found.length}")
        digest = _digest(found)
        data = await asyncio.to_thread(self._kept.read, digest, found) if digest is not None else None
        if data is None:
            data = await self._download(found)
            if digest is not None:
                await asyncio.to_thread(self._kept.keep, digest, data)
        return data, digest or digest_of(data)

    async def _download(self, target: TargetFile) -> bytes:
        assert self._updater is not None
        path = target.get_prefixed_paths()[0] if names_by_content(self._updater) else target.path
        try:
            async with asyncio.timeout(self._limits.total_s):
                data = await self._store.get(f"targets/{path}", max_bytes=target.length)
            target.verify_length_and_hashes(data)
        except TimeoutError:
            raise TooSlow(f"{target.path}: want it within {self._limits.total_s:g} s") from None
        except LengthOrHashMismatchError as error:
            raise TrustError(f"{target.path}: {error}") from None
        return data

    async def _alone(self, work: Callable[[], T]) -> T:
        """In a thread, one at a time; a caller that is cancelled waits until the thread has ended."""
        async with self._lock:
            self._fetcher.begin(asyncio.get_running_loop())
            running = asyncio.ensure_future(asyncio.to_thread(work))
            try:
                async with asyncio.timeout(self._limits.total_s):
                    return await asyncio.shield(running)
            except TimeoutError:
                raise TooSlow(f"{self._store.name}: want it within {self._limits.total_s:g} s") from None
            finally:
                self._fetcher.give_up()
                await _ended(running)

    def _refresh(self) -> None:
        floor = self._floor.load()
        reference = self._time.reference(floor.time)
        updater = self._unchanged(reference) or self._renewed(reference)
        with translated(self._fetcher):
            seen = seen_by(updater, provisioned=digest_of(self._root), now=reference)
        check(floor, seen)
        fresh = raised(floor, seen)
        if fresh != floor:
            self._floor.write(fresh)
        self._time.right()
        self._updater = updater
        self._timestamp = self._cached_timestamp()
        families = seen.families.items()
        self.versions = {"root": seen.root} | {name: family.versions.get(name, 0) for name, family in families}

    def _unchanged(self, reference: float) -> Updater | None:
        """The last good refresh's, if the store has nothing else, and all of it still holds."""
        updater, known, self._timestamp = self._updater, self._timestamp, b""
        if updater is None or not known:
            return None
        if any(signed.expires.timestamp() <= reference for signed in verified(updater)):
            return None
        with translated(self._fetcher):
            data = self._fetcher.download_bytes(BASE + TIMESTAMP, self._limits.timestamp_bytes)
        if data != known:
            self._fetcher.hold(TIMESTAMP, data)
            return None
        set_reference_time(updater, reference)
        return updater

    def _renewed(self, reference: float) -> Updater:
        held = self._fetcher.holds
        try:
            return self._refreshed(reference)
        except TrustError:
            if not held:
                raise
            return self._refreshed(reference)  # a root that revokes its keys may be newer than the one that was held

    def _refreshed(self, reference: float) -> Updater:
        with translated(self._fetcher):
            updater = self._begin(reference)
        try:
            with translated(self._fetcher):
                updater.refresh()
                self._check_schemes(updater)
        except TrustError as error:
            raise self._time.judged(error, [signed.expires.timestamp() for signed in verified(updater)]) from None
        return updater

    def _cached_timestamp(self) -> bytes:
        try:
            return (self._cache / "timestamp.json").read_bytes()
        except OSError:
            return b""

    def _begin(self, reference: float) -> Updater:
        self._cache.mkdir(parents=True, exist_ok=True)
        if not self._swept:  # what tuf was writing when the power went, and pipes, which it would wait for
            for left in (*self._cache.glob("*"), *self._cache.glob("*/*")):
                if left.match("tmp????????") or not (left.is_file() or left.is_dir()):
                    left.unlink(missing_ok=True)
            self._swept = True
        limits = self._limits
        updater = Updater(
            metadata_dir=str(self._cache),
            metadata_base_url=BASE + "metadata/",
            fetcher=self._fetcher,
            config=UpdaterConfig(
                max_root_rotations=limits.root_rotations,
                max_delegations=limits.delegations,
                root_max_length=limits.root_bytes,
                timestamp_max_length=limits.timestamp_bytes,
                snapshot_max_length=limits.snapshot_bytes,
                targets_max_length=limits.targets_bytes,
            ),
            bootstrap=self._root,
        )
        set_reference_time(updater, reference)
        return updater

    def _target(self, name: str) -> TargetFile | None:
        if self._updater is None:
            raise TrustError(f"{name}: nothing was refreshed yet", Reason.STALE_METADATA)
        with translated(self._fetcher):
            found = self._updater.get_targetinfo(name)
            self._check_schemes(self._updater)
        return found

    def _check_schemes(self, updater: Updater) -> None:
        if self._any_scheme:
            return
        for signed in verified(updater):
            for key in keys_of(signed).values():
                if (key.keytype, key.scheme) != (ED25519, ED25519):
                    raise TrustError(f"{signed.type}: want keys of ed25519, got one of {key.keytype}, {key.scheme}")


async def _ended(running: asyncio.Future[Any]) -> None:
    """Waits for it, whoever calls it off, and is then called off."""
    cancelled: asyncio.CancelledError | None = None
    while not running.done():
        try:
            await asyncio.wait((running,))
        except asyncio.CancelledError as error:
            cancelled = error
    if not running.cancelled():
        running.exception()  # whoever waited has it, or went away
    if cancelled is not None:
        raise cancelled


def _digest(target: TargetFile) -> Digest | None:
    """None where it is named by other digests only."""
    with suppress(KeyError, ValueError):
        return as_digest(f"sha256:{target.hashes['sha256']}")
    return None
