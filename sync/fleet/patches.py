"""Patches of a version's files from those of earlier versions that devices have, where they are worth having.

Rule 1: patches only save bytes: whatever hinders one, a base that is gone or damaged, a search that takes too long, is told
in the log, and the version is published without it. Rule 2: a patch that is larger than WORTH of the file is not offered.
Rule 3: the list fits what a device accepts; what saves most stays.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from sync.domain.deltas import MAX_DOCUMENT_BYTES, Deltas, Patch, encode_deltas, parse_deltas
from sync.domain.digests import Digest, digest_of
from sync.domain.errors import DocumentError, StoreError
from sync.domain.layout import blob_path
from sync.domain.ports import ReadStore
from sync.domain.release import File, Manifest
from sync.fleet.versions import How, Use

BASES = 3
"""From so many versions there is a patch."""
WORTH = 0.7
"""Of the file's size."""
MIN_FILE_BYTES = 4096
"""Smaller files are fetched whole: a patch saves less than its line in the list takes."""
MAX_FILE_BYTES = 1 << 30
PATCHES_S = 900.0
"""For all the patches of a version; what is not begun by then is left out."""

log = logging.getLogger(__name__)

RANKS: Mapping[How, int] = {"stable": 0, "candidate": 1, "pinned": 2, "rolled back": 4}
UNNAMED = 3
"""Who was away for long may have any version; what is being rolled back nobody will have."""

Make = Callable[[bytes, bytes], bytes | None]
"""old and new → a patch that is known to make the new one."""


@dataclass(frozen=True, slots=True)
class Made:
    """`blobs`: the patches' bytes, in the same order."""

    patches: tuple[Patch, ...] = ()
    blobs: tuple[bytes, ...] = ()


def bases(before: Sequence[Manifest], uses: Iterable[Use]) -> Sequence[Manifest]:
    """Of a model's versions `before`, the newest first, those to make patches from: what most devices run first."""
    ranks: dict[tuple[str, int], int] = {}
    for use in uses:
        version = use.model, use.version
        ranks[version] = min(RANKS[use.how], ranks.get(version, RANKS[use.how]))
    return sorted(before, key=lambda each: ranks.get((each.name, each.version), UNNAMED))[:BASES]


async def make_patches(
    store: ReadStore,
    variant: str,
    contents: Mapping[str, bytes],
    sources: Sequence[Manifest],
    *,
    make: Make | None = None,
    seconds: float = PATCHES_S,
) -> Made:
    """Of the variant's files, `contents` by path, from the versions `sources`, in their order. `make`: None for ours."""
    make = make or _ours()
    end = time.monotonic() + seconds
    made: dict[tuple[str, Digest], tuple[Patch, bytes]] = {}
    for base, path in ((base, path) for base in sources for path in contents):
        data = contents[path]
        source = _source(base, variant, path, data)
        if source is None or (path, source.digest) in made:
            continue
        if time.monotonic() > end:
            log.warning("%s: no patch from version %d: %g s are over", path, base.version, seconds)
            continue
        old = await _read(store, source)
        patch = await asyncio.to_thread(make, old, data) if old is not None else None
        if patch is not None and len(patch) < WORTH * len(data):
            said = Patch(variant, path, source.digest, digest_of(data), digest_of(patch), len(patch))
            made[path, source.digest] = said, patch
    return Made(tuple(patch for patch, _ in made.values()), tuple(blob for _, blob in made.values()))


def listed(before: bytes | None, patches: Sequence[Patch], manifest: Manifest) -> bytes:
    """The version's list of patches, these and those of the list `before`, which other variants have."""
    sizes = {file.digest: file.size for each in manifest.variants for file in each.files}
    try:
        there = parse_deltas(before).patches if before is not None else ()
    except DocumentError as error:
        log.warning("the list of patches is written anew: %s", error.message)
        there = ()
    fresh = {(each.variant, each.path, each.source) for each in patches}
    kept = [*(each for each in there if (each.variant, each.path, each.source) not in fresh), *patches]
    kept.sort(key=lambda each: each.size - sizes.get(each.target, each.size))
    while len(document := encode_deltas(Deltas(tuple(kept)))) > MAX_DOCUMENT_BYTES:
        log.warning("of %d patches, the quarter that saves least is left out: the list is too long", len(kept))
        kept = kept[: len(kept) * 3 // 4]
    return document


def _source(base: Manifest, variant: str, path: str, data: bytes) -> File | None:
    """The file that a patch begins with; None where there need not be one."""
    files = [file for each in base.variants if each.id == variant for file in each.files]
    digest = digest_of(data)
    if not MIN_FILE_BYTES <= len(data) <= MAX_FILE_BYTES or any(file.digest == digest for file in files):
        return None
    return next((file for file in files if file.path == path and 0 < file.size <= MAX_FILE_BYTES), None)


def _ours() -> Make:
    from sync.delta.encode import make_patch  # with what makes patches, which only publishers have

    return make_patch


async def _read(store: ReadStore, file: File) -> bytes | None:
    try:
        data = await store.get(blob_path(file.digest), max_bytes=file.size)
    except StoreError as error:
        log.warning("%s: no patch from %s: %s", file.path, file.digest, error.message)
        return None
    if digest_of(data) != file.digest:
        log.warning("%s: the store's %s is damaged; no patch is made from it", file.path, file.digest)
        return None
    return data
