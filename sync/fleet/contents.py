"""What the signed documents of a store say, read and held against each other; and which blobs they name.

Rule 1: what no device could act on is a fault: a document of another thing than its name says, a rollout to what was never
released, a patch for a file that its release does not have. Rule 2: a document that is not of our kinds is only hashed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from sync.domain.deltas import MAX_DOCUMENT_BYTES as MAX_DELTAS_BYTES
from sync.domain.deltas import Deltas, parse_deltas
from sync.domain.digests import Digest, digest_of
from sync.domain.errors import DocumentError, HashMismatch, Refused
from sync.domain.layout import PINS_PREFIX, manifest_name, rollout_name, target_path, withdrawn_name
from sync.domain.ports import ReadStore
from sync.domain.release import MAX_MANIFEST_BYTES, Manifest, parse_manifest
from sync.domain.rollout import MAX_DOCUMENT_BYTES, Pins, Rollout, parse_pins, parse_rollout
from sync.domain.withdrawn import Withdrawn, parse_withdrawn
from sync.fleet.faults import Faults
from sync.fleet.parallel import each
from sync.fleet.progress import Progress
from sync.fleet.sign.survey import Named

MAX_OTHER_BYTES = 4 << 20


class Blob(NamedTuple):
    """`what`: a document and a file in it that names the bytes."""

    digest: Digest
    size: int
    what: str


@dataclass(slots=True)
class Contents:
    """Documents by their names; `blobs` by digest."""

    manifests: dict[str, Manifest] = field(default_factory=dict)
    deltas: dict[str, Deltas] = field(default_factory=dict)
    rollouts: dict[str, Rollout] = field(default_factory=dict)
    pins: dict[str, Pins] = field(default_factory=dict)
    withdrawn: dict[str, Withdrawn] = field(default_factory=dict)
    blobs: dict[Digest, Blob] = field(default_factory=dict)

    def take(self, name: str, data: bytes) -> None:
        """Raises DocumentError."""
        parts = name.split("/")
        if name.startswith(PINS_PREFIX):
            self.pins[name] = parse_pins(data)
        elif parts[0] == "rollouts" and len(parts) == 2:
            self.rollouts[name] = document = parse_rollout(data)
            _of(name, rollout_name(document.group))
        elif parts[0] == "models" and parts[2:] == ["withdrawn", "manifest.json"]:
            self.withdrawn[name] = withdrawn = parse_withdrawn(data)
            _of(name, withdrawn_name(withdrawn.name))
        elif parts[0] == "models" and parts[-1] == "manifest.json":
            self.manifests[name] = manifest = parse_manifest(data)
            _of(name, manifest_name(manifest.name, manifest.version))
            for variant in manifest.variants:
                for file in variant.files:
                    self._blob(Blob(file.digest, file.size, f"{name}: {file.path}"))
        elif parts[0] == "models" and parts[-1] == "deltas.json":
            self.deltas[name] = deltas = parse_deltas(data)
            for patch in deltas.patches:
                self._blob(Blob(patch.digest, patch.size, f"{name}: {patch.path}"))

    def _blob(self, blob: Blob) -> None:
        known = self.blobs.setdefault(blob.digest, blob)
        if known.size != blob.size:
            raise DocumentError(f"{blob.what}: has {blob.size} bytes, and {known.size} in {known.what}")

    def released(self, model: str, version: int) -> bool:
        return manifest_name(model, version) in self.manifests


async def read_contents(
    store: ReadStore,
    documents: Sequence[Named],
    faults: Faults,
    progress: Progress,
    *,
    keep: Callable[[str, bytes], Awaitable[None]] | None = None,
) -> Contents:
    """Read, hash and parse every document. keep: called with the path and the bytes of each that is what was signed.

    Raises StoreError where the store falls silent, and what `keep` raises.
    """
    contents = Contents()
    progress.begin("documents", len(documents))

    async def read(named: Named) -> None:
        data = None
        with faults.noting(named.name):
            data = await fetch(store, named)
        if data is not None:
            if keep is not None:
                await keep(target_path(named.name, named.digest), data)
            with faults.noting(named.name):
                contents.take(named.name, data)
        progress.step()

    await each(documents, read)
    progress.end()
    return contents


async def fetch(store: ReadStore, named: Named) -> bytes:
    """A document, as it was signed. Raises StoreError, HashMismatch."""
    most = max_bytes(named.name)
    if named.size > most:
        raise Refused(f"{named.name}: want at most {most} bytes, got {named.size}")
    data = await store.get(target_path(named.name, named.digest), max_bytes=named.size)
    if len(data) != named.size or digest_of(data) != named.digest:
        raise HashMismatch(f"{named.name}: want {named.digest} of {named.size} bytes, got {len(data)} other bytes")
    return data


def max_bytes(name: str) -> int:
    """Of a document, for a device."""
    last = name.rpartition("/")[2]
    bounds = {"manifest.json": MAX_MANIFEST_BYTES, "deltas.json": MAX_DELTAS_BYTES}
    return bounds.get(last, MAX_DOCUMENT_BYTES if name.startswith("rollouts/") else MAX_OTHER_BYTES)


def check_references(contents: Contents, faults: Faults) -> None:
    """What documents say of each other."""
    for name, rollout in contents.rollouts.items():
        for model, wanted in rollout.models.items():
            versions = {wanted.stable, wanted.candidate.version if wanted.candidate is not None else None}
            _released(contents, faults, name, model, versions - {None})
    for name, pins in contents.pins.items():
        for device, wanted_by_model in pins.devices.items():
            for model, pin in wanted_by_model.items():
                _released(contents, faults, f"{name}: {device}", model, {pin.version})
    for name, manifest in contents.manifests.items():
        gone = contents.withdrawn.get(withdrawn_name(manifest.name))
        if gone is not None and manifest.version in gone:
            faults.add(name, DocumentError(f"{name}: was withdrawn, and is released again"))
    _check_deltas(contents, faults)


def _check_deltas(contents: Contents, faults: Faults) -> None:
    for name, deltas in contents.deltas.items():
        model, version = name.split("/")[1:3]
        manifest = contents.manifests.get(f"models/{model}/{version}/manifest.json")
        if manifest is None:
            faults.add(name, DocumentError(f"{name}: patches for what nobody has released"))
            continue
        files = {(one.id, file.path, file.digest) for one in manifest.variants for file in one.files}
        for patch in deltas.patches:
            if (patch.variant, patch.path, patch.target) not in files:
                text = f"{name}: a patch makes {patch.variant}/{patch.path} other than the release has it"
                faults.add(name, DocumentError(text))


def _released(contents: Contents, faults: Faults, where: str, model: str, versions: Iterable[int | None]) -> None:
    for version in versions:
        if version is not None and not contents.released(model, version):
            faults.add(where, DocumentError(f"{where}: wants {model}@{version}, which nobody has released"))


def _of(name: str, says: str) -> None:
    if name != says:
        raise DocumentError(f"{name}: is the document {says}")
