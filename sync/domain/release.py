"""What exists: one manifest for each version of a model, signed by the holder of the `releases` key.

Rule 1: pure. Rule 2: a manifest that breaks a bound is refused whole. Rule 3: members that are not known are ignored, since
a later publisher may say more; what changes a meaning changes `format`. Rule 4: of `match`, what is not known does not match.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from edge.domain.layout import is_model_name
from edge.domain.models import MAX_VERSION
from sync.domain.digests import Digest, as_digest
from sync.domain.errors import Reason, Unsuitable
from sync.domain.forms import decoded

FORMAT = "edge-model/1"
MAX_MANIFEST_BYTES = 1 << 20
MAX_FILES = 4096
MAX_VARIANTS = 32
MAX_PATH_CHARS = 255
MAX_FILE_BYTES = 1 << 40


class TensorDoc(msgspec.Struct, frozen=True):
    """`shape`: -1 for a size that is free; None where the rank is."""

    name: str
    dtype: str
    shape: tuple[int, ...] | None = None


class SignatureDoc(msgspec.Struct, frozen=True):
    inputs: tuple[TensorDoc, ...] = ()
    outputs: tuple[TensorDoc, ...] = ()


class File(msgspec.Struct, frozen=True, rename="camel"):
    """`path` within the version's directory; `size` in bytes."""

    path: str
    digest: Digest
    size: int
    media_type: str = "application/octet-stream"


class Variant(msgspec.Struct, frozen=True):
    """One build of a version. `match`: what a device must have, e.g. {"accel": ["edgetpu"]}; `ram_mb` in MiB."""

    id: str
    files: tuple[File, ...]
    match: Mapping[str, tuple[str, ...]] = {}
    priority: int = 0
    ram_mb: int = 0


class Manifest(msgspec.Struct, frozen=True):
    """`release_counter` grows with every release of the model, `min_counter` is the least that a device may run from now on."""

    format: str
    name: str
    version: int
    release_counter: int
    variants: tuple[Variant, ...]
    min_counter: int = 0
    created: str = ""
    signature: SignatureDoc = SignatureDoc()
    compat: Literal["same-signature", "breaking"] = "same-signature"
    share: bool = True
    provenance: Mapping[str, str] = {}


def parse_manifest(data: bytes) -> Manifest:
    """Raises DocumentError."""
    return decoded("manifest", data, Manifest, FORMAT, max_bytes=MAX_MANIFEST_BYTES, check=_check)


def encode_manifest(manifest: Manifest) -> bytes:
    """Raises DocumentError where `parse_manifest` would."""
    data = msgspec.json.encode(manifest, order="deterministic") + b"\n"
    parse_manifest(data)
    return data


def choose_variant(manifest: Manifest, accelerators: Sequence[str], memory_mb: int | None = None) -> Variant:
    """The one of highest priority that the device has everything for. Raises Unsuitable.

    accelerators: e.g. ("cpu", "edgetpu"). memory_mb: MiB that may be used, None for no bound.
    """
    have = set(accelerators)
    fitting = [
        each
        for each in manifest.variants
        if each.match.keys() <= {"accel"} and set(each.match.get("accel", ())) <= have
    ]
    what = f"{manifest.name}@{manifest.version}"
    if not fitting:
        wanted = ", ".join(each.id for each in manifest.variants)
        raise Unsuitable(f"{what}: no variant ({wanted}) runs on {', '.join(accelerators)}", Reason.NO_VARIANT)
    roomy = [each for each in fitting if memory_mb is None or each.ram_mb <= memory_mb]
    if not roomy:
        least = min(each.ram_mb for each in fitting)
        raise Unsuitable(f"{what}: want {least} MiB of memory, {memory_mb} are available", Reason.LOW_MEMORY)
    return max(roomy, key=lambda each: (each.priority, each.id))


def _check(manifest: Manifest) -> None:
    if not is_model_name(manifest.name):
        raise ValueError(f"name: want a model's name, got {manifest.name[:80]!r}")
    for key in ("version", "release_counter", "min_counter"):
        value = getattr(manifest, key)
        if not 0 <= value <= MAX_VERSION:
            raise ValueError(f"{key}: want an integer from 0 to {MAX_VERSION}, got {value}")
    if not 1 <= len(manifest.variants) <= MAX_VARIANTS:
        raise ValueError(f"variants: want 1 to {MAX_VARIANTS}, got {len(manifest.variants)}")
    ids = [each.id for each in manifest.variants]
    if len(set(ids)) != len(ids):
        raise ValueError("variants: want each id once")
    for variant in manifest.variants:
        _check_files(variant)


def _check_files(variant: Variant) -> None:
    if not 1 <= len(variant.files) <= MAX_FILES:
        raise ValueError(f"{variant.id}: want 1 to {MAX_FILES} files, got {len(variant.files)}")
    paths = set()
    for file in variant.files:
        check_path(file.path)
        as_digest(file.digest)
        if not 0 <= file.size <= MAX_FILE_BYTES:
            raise ValueError(f"{file.path}: want a size from 0 to {MAX_FILE_BYTES} bytes, got {file.size}")
        paths.add(file.path)
    if len(paths) != len(variant.files):
        raise ValueError(f"{variant.id}: want each path once")
    for path in paths:
        above = path.split("/")[:-1]
        if any("/".join(above[: depth + 1]) in paths for depth in range(len(above))):
            raise ValueError(f"{path}: lies below what is a file")


def check_path(path: str) -> None:
    """Raises ValueError unless it is a relative path that stays where it is put, on every file system."""
    if not 0 < len(path) <= MAX_PATH_CHARS:
        raise ValueError(f"path: want 1 to {MAX_PATH_CHARS} characters, got {len(path)}")
    if unicodedata.normalize("NFC", path) != path:
        raise ValueError(f"path {path!r}: want Unicode normal form C")
    if any(ord(char) < 32 or char in "\\:\x7f" or "\ud800" <= char <= "\udfff" for char in path):
        raise ValueError(f"path {path!r}: want no control characters, backslashes or colons")
    if any(part in ("", ".", "..") or len(part.encode()) > MAX_PATH_CHARS for part in path.split("/")):
        raise ValueError(f"path {path!r}: want a relative path without empty parts, '.' and '..'")
