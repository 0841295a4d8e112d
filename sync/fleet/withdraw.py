"""Versions of a model out of a store's releases: nobody can roll them out any more, and what only they have is garbage.

Rule 1: nothing goes that a rollout or a pin names. Rule 2: one transaction: the versions, the patches to them and from them,
and the list of what was withdrawn, by which `publish` never uses their numbers again. Rule 3: devices are told nothing: who
runs such a version serves it on. The bytes go by `edge-sync gc`, when no slow device can be at them.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sync.domain.deltas import Deltas, encode_deltas, parse_deltas
from sync.domain.digests import Digest
from sync.domain.errors import DocumentError, Missing, OperatorError
from sync.domain.layout import deltas_name, manifest_name, withdrawn_name
from sync.domain.release import Manifest
from sync.domain.withdrawn import Span, Withdrawn, encode_withdrawn, with_more
from sync.fleet.parallel import each
from sync.fleet.progress import Progress, Quiet
from sync.fleet.sign import Repository, Transaction
from sync.fleet.versions import Use, read_manifest, read_uses, read_withdrawn, versions_of

log = logging.getLogger(__name__)

MAX_NAMED = 5
"""Of those who name a version, so many are told."""


@dataclass(slots=True)
class Withdrawal:
    """`versions` are, or would be, withdrawn, `before` had been, and `left` are there still, the newest first each.

    `named`: who names those of `left`. `patches`: so many go too. `size`: bytes that only they need, as far as this model goes.
    """

    versions: Sequence[int]
    before: Sequence[int]
    left: Sequence[int]
    named: Mapping[int, Sequence[Use]]
    written: bool = False
    patches: int = 0
    size: int = 0


async def withdraw(
    repository: Repository,
    model: str,
    versions: Sequence[int] = (),
    *,
    keep: int | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Withdrawal:
    """These versions; with `keep`, of those that nobody names all but so many of the newest.

    Raises OperatorError for what is named, Missing for what was never published, Conflict where somebody else was
    faster, StoreError, TrustError, DocumentError. An open repository is wanted.
    """
    show = progress or Quiet()
    released, gone = await versions_of(repository, model), await read_withdrawn(repository, model)
    if not released and not gone.spans:
        raise Missing(f"{model}: no version of it was ever published")
    done = chosen(model, released, gone, await read_uses(repository, show), versions, keep)
    if not done.versions:
        return done
    change = await _change(repository, model, done, gone, show)
    if not dry_run:
        await repository.commit(change)
        done.written = True
    return done


def chosen(
    model: str, released: Sequence[int], gone: Withdrawn, uses: Sequence[Use], versions: Sequence[int], keep: int | None
) -> Withdrawal:
    """released: the newest first. Pure. Raises OperatorError, Missing."""
    named: dict[int, list[Use]] = {}
    for use in uses:
        if use.model == model:
            named.setdefault(use.version, []).append(use)
    if keep is not None:
        going = [version for version in released if version not in named][keep:]
        before: list[int] = []
    else:
        for version in versions:
            if version not in released and version not in gone:
                raise Missing(f"{model}@{version}: was never published")
        if texts := [_refusal(model, version, named[version]) for version in sorted({*versions} & named.keys())]:
            raise OperatorError("; ".join(texts))
        going = [version for version in released if version in versions]
        before = sorted((version for version in {*versions} if version not in released), reverse=True)
    left = [version for version in released if version not in going]
    return Withdrawal(going, before, left, {version: named[version] for version in left if version in named})


def _refusal(model: str, version: int, uses: Sequence[Use]) -> str:
    more = f", and {len(uses) - MAX_NAMED} more" if len(uses) > MAX_NAMED else ""
    return f"{model}@{version} is {', '.join(map(str, uses[:MAX_NAMED]))}{more}"


@dataclass(slots=True)
class _Sizes:
    """Bytes by digest, of what goes and of what somebody still needs."""

    going: dict[Digest, int] = field(default_factory=dict)
    needed: set[Digest] = field(default_factory=set)

    @property
    def freed(self) -> int:
        return sum(size for digest, size in self.going.items() if digest not in self.needed)


async def _change(
    repository: Repository, model: str, done: Withdrawal, gone: Withdrawn, progress: Progress
) -> Transaction:
    """Tells `done` what goes with the versions."""
    manifests = await _manifests(repository, model, (*done.versions, *done.left), progress)
    sizes = _Sizes()
    for version, manifest in manifests.items():
        for file in (file for one in manifest.variants for file in one.files):
            if version in done.versions:
                sizes.going[file.digest] = file.size
            else:
                sizes.needed.add(file.digest)
    change, spans = Transaction(), []
    for version in done.versions:
        manifest = manifests[version]
        change.put("releases", manifest_name(model, version), None)
        spans.append(Span(version, version, manifest.release_counter, manifest.min_counter))
    change.put("releases", withdrawn_name(model), encode_withdrawn(with_more(gone, spans)))
    await _take_patches(repository, model, done, sizes, change, progress)
    done.size = sizes.freed
    return change


async def _manifests(
    repository: Repository, model: str, versions: Sequence[int], progress: Progress
) -> dict[int, Manifest]:
    found: dict[int, Manifest] = {}
    progress.begin("versions", len(versions))

    async def read(version: int) -> None:
        found[version] = await read_manifest(repository, model, version)
        progress.step()

    await each(versions, read)
    progress.end()
    return found


async def _take_patches(
    repository: Repository, model: str, done: Withdrawal, sizes: _Sizes, change: Transaction, progress: Progress
) -> None:
    """Of the versions that go all, and of the others those that begin with a file which no version has any more."""
    sources = sizes.going.keys() - sizes.needed
    names = {deltas_name(model, version): version for version in (*done.versions, *done.left)}
    names = {name: names[name] for name in await repository.names("deltas") if name in names}
    progress.begin("patches", len(names))

    async def read(name: str) -> None:
        try:
            there = parse_deltas(await repository.read("deltas", name) or b"").patches
        except DocumentError as error:
            log.warning("%s: a list of patches that nobody can read: %s", name, error.message)
            there = ()
        kept = [patch for patch in there if names[name] in done.left and patch.source not in sources]
        sizes.going.update((patch.digest, patch.size) for patch in there if patch not in kept)
        sizes.needed.update(patch.digest for patch in kept)
        if names[name] in done.versions or len(kept) < len(there):
            done.patches += len(there) - len(kept)
            change.put("deltas", name, encode_deltas(Deltas(tuple(kept))) if kept else None)
        progress.step()

    await each(names, read)
    progress.end()
