"""Is all of a store what its keys' holders signed? Walked as a client would walk it, to the end, whatever is wrong.

Rule 1: metadata, then documents, then every blob and patch, streamed and hashed. Rule 2: a fault ends nothing but what lies
behind it; only a store that falls silent is left. Rule 3: what the walk finds nothing wrong with is shown to the device's own
client as well: whatever that refuses is a fault. Rule 4: a signature that ends soon is a warning, in time for its holder.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from sync.domain.errors import StoreError, SyncError, TooSlow, Unreachable
from sync.domain.layout import blob_path
from sync.domain.ports import ReadStore
from sync.fleet.contents import Blob, Contents, check_references, read_contents
from sync.fleet.faults import Faults
from sync.fleet.keys import ROLES, SOON
from sync.fleet.parallel import each
from sync.fleet.progress import Progress, Quiet
from sync.fleet.sign.survey import Survey, survey
from sync.fleet.transfer import transfer

SOON_OTHERS = timedelta(days=7)
"""For roles that this program does not know."""


class Ending(NamedTuple):
    """`role`: of its family (bins and all) the one that ends first; `more`: others of it that end soon too."""

    role: str
    at: datetime
    left: timedelta
    more: int = 0


@dataclass(slots=True)
class Verified:
    """`blobs`, `size`: that were right, and their bytes. `gave_up`: why the end was not reached, None if it was."""

    faults: Faults = field(default_factory=Faults)
    endings: list[Ending] = field(default_factory=list)
    versions: Mapping[str, int] = field(default_factory=dict)
    documents: int = 0
    blobs: int = 0
    size: int = 0
    gave_up: SyncError | None = None

    @property
    def ok(self) -> bool:
        return not self.faults and self.gave_up is None

    @property
    def unreachable(self) -> bool:
        """Nothing is known to be wrong but that the store did not answer."""
        errors = [fault.error for fault in self.faults.found]
        return not self.ok and all(isinstance(error, Unreachable | TooSlow) for error in errors)


async def verify(
    store: ReadStore,
    *,
    now: datetime,
    first_root: bytes | None = None,
    as_client: Callable[[], Awaitable[None]] | None = None,
    soon: timedelta | None = None,
    blobs: bool = True,
    progress: Progress | None = None,
) -> Verified:
    """first_root: None to believe the store's. as_client: a refresh by the device's client. blobs: whether to read them.

    soon: with so little time left a signature is warned of; None for a quarter of its role's time.
    Raises Missing where there is no repository, StoreError where nobody answers at all.
    """
    done, show = Verified(), progress or Quiet()
    found = await survey(store, first_root=first_root, now=now)
    done.faults, done.versions = found.faults, found.versions()
    done.endings = endings(found, now, soon)
    try:
        contents = await read_contents(store, found.documents, done.faults, show)
        done.documents = len(found.documents)
        if not done.faults.but_expiry:  # else what is missing may only be hidden
            check_references(contents, done.faults)
        if as_client is not None and not done.faults:
            with done.faults.noting("a device's client"):
                await as_client()
        if blobs:
            await _read_blobs(store, contents, done, show)
    except StoreError as error:
        done.gave_up = error
    finally:
        show.end()
    return done


async def _read_blobs(store: ReadStore, contents: Contents, done: Verified, show: Progress) -> None:
    show.begin("blobs", sum(blob.size for blob in contents.blobs.values()), in_bytes=True)

    async def read(blob: Blob) -> None:
        with done.faults.noting(f"{blob.what} ({blob_path(blob.digest)})"):
            await transfer(store, blob, show)
            done.blobs += 1
            done.size += blob.size

    await each(contents.blobs.values(), read)


def endings(found: Survey, now: datetime, soon: timedelta | None) -> list[Ending]:
    """Of what has not ended yet: one of each family of roles, the soonest first."""
    by_family: dict[str, list[Ending]] = {}
    for file in found.files:
        family = file.role.partition(".")[0]
        limit = soon if soon is not None else (ROLES[family].expiry * SOON if family in ROLES else SOON_OTHERS)
        left = file.expires - now
        if timedelta(0) < left < limit:
            by_family.setdefault(family, []).append(Ending(file.role, file.expires, left))
    soonest = [min(ends, key=_when) for ends in by_family.values()]
    counted = (one._replace(more=len(by_family[one.role.partition(".")[0]]) - 1) for one in soonest)
    return sorted(counted, key=_when)


def _when(one: Ending) -> tuple[datetime, str]:
    return one.at, one.role
