"""The device's side of TUF: `tuf.ngclient`, behind a floor that outlives its cache, reading from any store.

Rule 1: metadata and small signed documents only; blobs are named by the documents and fetched elsewhere. Rule 2: whatever
goes wrong comes out as TrustError, StoreError or DiskError. Rule 3: ed25519 only, unless `any_scheme`. Rule 4: nothing here
stops a model from being served: who asks is told why there is nothing new.

Source: https://theupdateframework.github.io/specification/latest/, section 5
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote

from tuf.api import exceptions
from tuf.api.metadata import Key, Root, Snapshot, TargetFile, Targets, Timestamp
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig

from sync.domain.digests import Digest
from sync.domain.errors import DiskError, Missing, Reason, Refused, StoreError, SyncError, TrustError, Unreachable
from sync.domain.layout import target_path
from sync.domain.ports import ReadStore
from sync.trust.floor import Floor, FloorFile, Mark, check, raised

log = logging.getLogger(__name__)

BASE = "store:/"
MAX_METADATA_BYTES = 5_000_000
MAX_DELEGATIONS = 32
CLOCK_SLACK_S = 3600.0
TOP_ROLES = (Timestamp.type, Snapshot.type, Targets.type)


class _StoreFetcher(FetcherInterface):
    """Reads a store from the client's thread. `error`: the last thing that the store said no with."""

    def __init__(self, store: ReadStore, loop: asyncio.AbstractEventLoop) -> None:
        self._store, self._loop = store, loop
        self.error: StoreError | None = None

    def _fetch(self, url: str) -> Iterator[bytes]:
        path = unquote(url.removeprefix(BASE))
        asked = asyncio.run_coroutine_threadsafe(self._store.get(path, max_bytes=MAX_METADATA_BYTES), self._loop)
        try:
            yield asked.result()
        except Missing as error:
            self.error = error
            raise exceptions.DownloadHTTPError(error.message, 404) from None
        except StoreError as error:
            self.error = error
            raise exceptions.DownloadError(error.message) from None


class TrustClient:
    """root: the metadata that the device was provisioned with. now: seconds since the epoch, by the device's clock."""

    def __init__(
        self,
        store: ReadStore,
        *,
        root: bytes,
        cache: Path,
        floor: FloorFile,
        now: Callable[[], float],
        any_scheme: bool = False,
    ) -> None:
        self._store, self._root, self._cache = store, root, cache
        self._floor, self._now, self._any_scheme = floor, now, any_scheme
        self._updater: Updater | None = None
        self.versions: Mapping[str, int] = {}
        self.clock_ok = True

    async def refresh(self) -> None:
        """Take in the newest metadata. Raises TrustError, StoreError, DiskError; what was known before is kept then."""
        loop = asyncio.get_running_loop()
        await asyncio.to_thread(self._refresh, _StoreFetcher(self._store, loop))

    async def target(self, name: str) -> TargetFile | None:
        """What the keys' holders say of a document; None where they say nothing. Raises as `refresh`."""
        loop = asyncio.get_running_loop()
        return await asyncio.to_thread(self._target, name, _StoreFetcher(self._store, loop))

    async def fetch(self, name: str, *, max_bytes: int) -> tuple[bytes, Digest]:
        """A signed document, verified. Raises Missing where none is signed, and as `refresh`."""
        found = await self.target(name)
        if found is None:
            raise Missing(f"{name}: nobody has signed one")
        if found.length > max_bytes:
            raise Refused(f"{name}: want at most {max_bytes} bytes, got {found.length}")
        digest = Digest(f"sha256:{found.hashes.get('sha256', '')}")
        kept = self._cache / "targets" / digest.removeprefix("sha256:")
        data = await asyncio.to_thread(_read_kept, kept, found)
        if data is None:
            data = await self._store.get(target_path(name, digest), max_bytes=found.length)
            try:
                found.verify_length_and_hashes(data)
            except exceptions.LengthOrHashMismatchError as error:
                raise TrustError(f"{name}: {error}") from None
            await asyncio.to_thread(_keep, kept, data)
        return data, digest

    def _refresh(self, fetcher: _StoreFetcher) -> None:
        floor = self._floor.load()
        now = self._now()
        self.clock_ok = now > floor.time - CLOCK_SLACK_S
        updater = self._begin(fetcher, max(now, floor.time))
        with _Errors(fetcher):
            updater.refresh()
            self._check_schemes(updater)
        seen = _seen(updater)
        check(floor, seen)
        fresh = raised(floor, seen, now if self.clock_ok else floor.time)
        if fresh != floor:
            self._floor.write(fresh)
        self._updater = updater
        self.versions = {role: mark.version for role, mark in seen.items()}

    def _begin(self, fetcher: _StoreFetcher, reference_s: float) -> Updater:
        with _Errors(fetcher):
            self._cache.mkdir(parents=True, exist_ok=True)
            updater = Updater(
                metadata_dir=str(self._cache),
                metadata_base_url=BASE + "metadata/",
                fetcher=fetcher,
                config=UpdaterConfig(max_delegations=MAX_DELEGATIONS, targets_max_length=MAX_METADATA_BYTES),
                bootstrap=self._root,
            )
        set_reference_time(updater, datetime.fromtimestamp(reference_s, UTC))
        return updater

    def _target(self, name: str, fetcher: _StoreFetcher) -> TargetFile | None:
        updater = self._updater
        if updater is None:
            raise TrustError(f"{name}: nothing was refreshed yet", Reason.STALE_METADATA)
        updater._fetcher = fetcher  # of the loop that runs now
        with _Errors(fetcher):
            found = updater.get_targetinfo(name)
            self._check_schemes(updater)
        seen = _seen(updater)
        floor: Floor = self._floor.load()
        check(floor, seen)
        fresh = raised(floor, seen, floor.time)
        if fresh != floor:
            self._floor.write(fresh)
        return found

    def _check_schemes(self, updater: Updater) -> None:
        if self._any_scheme:
            return
        for signed in updater._trusted_set:
            keys: Mapping[str, Key] = {}
            if isinstance(signed, Root):
                keys = signed.keys
            elif isinstance(signed, Targets) and signed.delegations is not None:
                keys = signed.delegations.keys
            for key in keys.values():
                if key.scheme != "ed25519":
                    raise TrustError(f"{signed.type}: want keys of ed25519, got one of {key.scheme}")


def set_reference_time(updater: Updater, time: datetime) -> None:
    """By which time expiry is judged. The attribute is private in tuf 7.0.1, and a test holds it to be what it is."""
    updater._trusted_set.reference_time = time


def _seen(updater: Updater) -> dict[str, Mark]:
    """Versions and key ids of every role that was verified."""
    trusted = updater._trusted_set
    marks = {}
    for role in TOP_ROLES:
        if role in trusted:
            keys = tuple(sorted(trusted.root.roles[role].keyids))
            marks[role] = Mark(trusted[role].version, keys)
    targets = trusted.targets if Targets.type in trusted else None
    delegations = targets.delegations if targets is not None else None
    for name, delegated in (delegations.roles or {}).items() if delegations is not None else ():
        if name in trusted:
            marks[name] = Mark(trusted[name].version, tuple(sorted(delegated.keyids)))
    return marks


class _Errors:
    """What tuf raises, as ours."""

    def __init__(self, fetcher: _StoreFetcher) -> None:
        self._fetcher = fetcher

    def __enter__(self) -> None: ...
    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, SyncError) or not isinstance(error, Exception):
            return
        raise _ours(error, self._fetcher.error) from None


def _ours(error: Exception, of_store: StoreError | None) -> SyncError:
    text = str(error) or type(error).__name__
    if isinstance(error, exceptions.ExpiredMetadataError):
        online = text.startswith(("timestamp", "snapshot", "Final timestamp", "Final snapshot"))
        return TrustError(text, Reason.STALE_METADATA if online else Reason.TRUST_EXPIRED)
    if isinstance(error, exceptions.BadVersionNumberError):
        return TrustError(text, Reason.TRUST_ROLLBACK)
    if isinstance(error, exceptions.DownloadLengthMismatchError):
        return Refused(text)
    if isinstance(error, exceptions.DownloadError):
        return of_store or Unreachable(text)
    if isinstance(error, exceptions.RepositoryError):
        return TrustError(text, Reason.TRUST_SIGNATURE)
    if isinstance(error, OSError):
        return DiskError(f"the metadata cannot be kept: {error.strerror or text}")
    return TrustError(f"the metadata cannot be read: {text}")


def _read_kept(path: Path, target: TargetFile) -> bytes | None:
    """A document that was verified before, if it still is what it was."""
    try:
        data = path.read_bytes()
        target.verify_length_and_hashes(data)
    except (OSError, exceptions.LengthOrHashMismatchError):
        return None
    return data


def _keep(path: Path, data: bytes) -> None:
    """Costs nothing but a download where it fails: it is verified when it is read."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(path.name + ".tmp")
        fresh.write_bytes(data)
        fresh.replace(path)
    except OSError as error:
        log.warning("%s: cannot be kept: %s", path, error)
