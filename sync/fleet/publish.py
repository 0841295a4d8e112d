"""A version of a model, from a directory into the store: checked, described, signed.

Rule 1: nothing is written before the version has passed `edge check`, which is run as a program: this package knows no
runtime. Rule 2: blobs first, then what names them. Rule 3: a version never changes, and its signature only when that was meant.
"""

from __future__ import annotations

import asyncio
import json
import logging
import mimetypes
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from edge.domain.layout import MODEL_FILES
from sync.domain.deltas import Patch
from sync.domain.digests import digest_of
from sync.domain.errors import CheckFailed, DocumentError, Missing, OperatorError, StoreError, TrustError
from sync.domain.layout import blob_path, deltas_name, manifest_name
from sync.domain.ports import WriteStore
from sync.domain.release import (
    FORMAT,
    File,
    Manifest,
    SignatureDoc,
    TensorDoc,
    Variant,
    encode_manifest,
    parse_manifest,
)
from sync.domain.withdrawn import Span
from sync.fleet.patches import bases, listed, make_patches
from sync.fleet.progress import Quiet
from sync.fleet.sign import Repository, Transaction
from sync.fleet.versions import Use, read_manifest, read_uses, read_withdrawn, versions_of

log = logging.getLogger(__name__)

CHECK_TIMEOUT_S = 600.0
TFLITE = "application/vnd.edge.tflite"
PRIORITIES = {"cpu": 10, "gpu": 20, "cuda": 20, "edgetpu": 30}
"""Of variants that are called as what they run on. Such a one asks for just that."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is published. `accelerators`: what a device must have for this variant; empty, and `priority` None, for what its name
    says (PRIORITIES), else a CPU. `min_counter`: None to keep the last."""

    model: str
    version: int
    directory: Path
    variant: str = "cpu"
    accelerators: Sequence[str] = ()
    priority: int | None = None
    ram_mb: int = 0
    min_counter: int | None = None
    breaking: bool = False
    share: bool = True
    provenance: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Published:
    """What was, or would be, written; sizes in bytes. `fetched`: what a device takes, by the version that it comes from."""

    manifest: Manifest
    written: bool
    full: int
    fetched: dict[str, int] = field(default_factory=dict)


async def publish(repository: Repository, store: WriteStore, wanted: Wanted, *, dry_run: bool = False) -> Published:
    """Raises OperatorError, DocumentError, Conflict, StoreError, TrustError."""
    report = await check(wanted.directory)
    contents = {
        path: await asyncio.to_thread((wanted.directory / path).read_bytes) for path in files_of(wanted.directory)
    }
    manifest, before = await _manifest(repository, wanted, report, contents)
    sources = bases(before, await _uses(repository))
    made = await make_patches(store, wanted.variant, contents, sources)
    full = sum(map(len, contents.values()))
    published = Published(manifest, not dry_run, full, {"nothing": full})
    for base in sources:
        published.fetched[str(base.version)] = _fetched(base, wanted.variant, manifest, made.patches)
    if dry_run:
        return published
    for data in (*contents.values(), *made.blobs):
        await store.create(blob_path(digest_of(data)), data)
    change = Transaction()
    change.put("releases", manifest_name(wanted.model, wanted.version), encode_manifest(manifest))
    if made.patches:
        name = deltas_name(wanted.model, wanted.version)
        change.put("deltas", name, listed(await repository.read("deltas", name), made.patches, manifest))
    await repository.commit(change)
    for data in (*contents.values(), *made.blobs):
        if not await _is_there(store, blob_path(digest_of(data))):  # taken for garbage before it was signed
            await store.create(blob_path(digest_of(data)), data)
    return published


async def _uses(repository: Repository) -> Sequence[Use]:
    """Empty where they cannot be read: patches only save bytes."""
    try:
        return await read_uses(repository, Quiet())
    except (StoreError, TrustError, DocumentError) as error:
        log.warning("patches are made from the newest versions: what rollouts name cannot be read: %s", error.message)
        return ()


async def _is_there(store: WriteStore, path: str) -> bool:
    try:
        part = await store.get_part(path, start=0, etag="")
    except Missing:
        return False
    await part.close()
    return True


async def check(directory: Path) -> dict[str, Any]:
    """What `edge check` says of the version. Raises CheckFailed, and OperatorError where it cannot be asked."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "edge",
        "check",
        os.fspath(directory),
        "--json",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, errors = await asyncio.wait_for(process.communicate(), CHECK_TIMEOUT_S)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise OperatorError(f"{directory}: edge check was not done after {CHECK_TIMEOUT_S:g} s") from None
    try:
        (version,) = json.loads(out)["versions"]
    except (ValueError, KeyError, TypeError):
        last = errors.decode(errors="replace").strip().splitlines()[-1:] or [f"exit code {process.returncode}"]
        raise OperatorError(f"{directory}: edge check: {last[0]}") from None
    if not version["ok"]:
        raise CheckFailed(f"{directory}: {version['reason']}")
    found: dict[str, Any] = version
    return found


def files_of(directory: Path) -> list[str]:
    """Relative paths of what a version consists of, in order. Raises OperatorError."""
    if not any((directory / name).is_file() for name in MODEL_FILES):
        raise OperatorError(f"{directory}: want one of {', '.join(MODEL_FILES)} in it")
    found = []
    for folder, folders, files in os.walk(directory):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(folder, name).relative_to(directory).as_posix() for name in sorted(files) if name[0] != "."]
    return found


async def _manifest(
    repository: Repository, wanted: Wanted, report: Mapping[str, Any], contents: Mapping[str, bytes]
) -> tuple[Manifest, list[Manifest]]:
    """Of the version with this variant, and those of the versions before it, the newest first. Raises OperatorError."""
    withdrawn = await read_withdrawn(repository, wanted.model)
    if wanted.version in withdrawn:
        raise OperatorError(f"{wanted.model}@{wanted.version}: was withdrawn; want a version that was never published")
    mine = await repository.read("releases", manifest_name(wanted.model, wanted.version))
    before = await earlier(repository, wanted.model, wanted.version)
    signature = signature_of(report)
    there = parse_manifest(mine) if mine is not None else None
    # A further build of a version is held against the version itself.
    other = there or next(iter(before), None)
    if other is not None and not wanted.breaking and not fits(signature, other.signature):
        raise OperatorError(
            f"{wanted.model}: its inputs and outputs are not those of version {other.version}: "
            f"want {_in_words(other.signature)}, got {_in_words(signature)}; `--breaking` says that this is meant"
        )
    variant = described_variant(wanted, report, contents)
    if there is not None:
        if any(each.id == variant.id for each in there.variants):
            raise OperatorError(
                f"{wanted.model}@{wanted.version}: has a variant {variant.id} already; a version never changes"
            )
        return msgspec.structs.replace(there, variants=(*there.variants, variant)), before
    return _described(wanted, variant, signature, [*before, *withdrawn.below(wanted.version)]), before


def described_variant(wanted: Wanted, report: Mapping[str, Any], contents: Mapping[str, bytes]) -> Variant:
    """One build, as the manifest has it. report: what `edge check` says; contents: files by path."""
    return Variant(
        wanted.variant,
        tuple(_file(path, data) for path, data in contents.items()),
        {"accel": tuple(wanted.accelerators) or ((wanted.variant if wanted.variant in PRIORITIES else "cpu"),)},
        PRIORITIES.get(wanted.variant, PRIORITIES["cpu"]) if wanted.priority is None else wanted.priority,
        wanted.ram_mb or -(-int(report["peak_bytes"]) >> 20),
    )


def _described(wanted: Wanted, variant: Variant, signature: SignatureDoc, were: Sequence[Manifest | Span]) -> Manifest:
    """A version's first manifest. were: the versions before it, also those that were withdrawn."""
    least = max((each.min_counter for each in were), default=0)
    counter = max((each.release_counter for each in were), default=0) + 1
    return Manifest(
        format=FORMAT,
        name=wanted.model,
        version=wanted.version,
        release_counter=max(counter, wanted.version),
        min_counter=least if wanted.min_counter is None else wanted.min_counter,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        signature=signature,
        compat="breaking" if wanted.breaking else "same-signature",
        variants=(variant,),
        share=wanted.share,
        provenance=wanted.provenance,
    )


async def earlier(repository: Repository, model: str, version: int) -> list[Manifest]:
    """Manifests of the model's other versions below this one, the newest first."""
    return [
        await read_manifest(repository, model, each) for each in await versions_of(repository, model) if each < version
    ]


def signature_of(report: Mapping[str, Any]) -> SignatureDoc:
    """The default signature's tensors, as `edge check --json` has them."""
    signatures = report["signatures"]
    chosen = signatures.get("serving_default") or next(iter(signatures.values()))

    def tensors(side: str) -> tuple[TensorDoc, ...]:
        return tuple(
            TensorDoc(name, each["dtype"], None if each["shape"] is None else tuple(each["shape"]))
            for name, each in sorted(chosen[side].items())
        )

    return SignatureDoc(tensors("inputs"), tensors("outputs"))


def fits(one: SignatureDoc, other: SignatureDoc) -> bool:
    """The same names and types; the same sizes too, where neither build leaves one free: of one version, a TFLite model takes a
    row where a SavedModel takes a batch."""

    def fit(mine: Sequence[TensorDoc], theirs: Sequence[TensorDoc]) -> bool:
        return [(each.name, each.dtype) for each in mine] == [(each.name, each.dtype) for each in theirs] and all(
            _shapes_fit(a.shape, b.shape) for a, b in zip(mine, theirs, strict=True)
        )

    return fit(one.inputs, other.inputs) and fit(one.outputs, other.outputs)


def _shapes_fit(one: tuple[int, ...] | None, other: tuple[int, ...] | None) -> bool:
    if one is None or other is None:
        return True
    return len(one) == len(other) and all(a == b or -1 in (a, b) for a, b in zip(one, other, strict=True))


def _in_words(signature: SignatureDoc) -> str:
    """image uint8 [1,224,224,3] → scores float32 [1,?]"""

    def words(tensors: Sequence[TensorDoc]) -> str:
        shapes = [
            "?" if each.shape is None else ",".join("?" if size < 0 else str(size) for size in each.shape)
            for each in tensors
        ]
        return ", ".join(f"{each.name} {each.dtype} [{shape}]" for each, shape in zip(tensors, shapes, strict=True))

    return f"{words(signature.inputs) or 'nothing'} → {words(signature.outputs) or 'nothing'}"


def _file(path: str, data: bytes) -> File:
    kind = TFLITE if path.endswith(".tflite") else mimetypes.guess_type(path)[0] or "application/octet-stream"
    return File(path, digest_of(data), len(data), kind)


def _fetched(base: Manifest, variant: str, manifest: Manifest, patches: Sequence[Patch]) -> int:
    """Bytes that a device with `base` takes."""
    have = {file.digest for each in base.variants if each.id == variant for file in each.files}
    total = 0
    for file in next(each for each in manifest.variants if each.id == variant).files:
        if file.digest not in have:
            fitting = [patch.size for patch in patches if patch.target == file.digest and patch.source in have]
            total += min([file.size, *fitting])
    return total
