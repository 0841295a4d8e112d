"""Which patches there are for a version: signed by the `deltas` key; what they make is held to the release's own digests."""

from __future__ import annotations

import msgspec

from sync.domain.digests import Digest, as_digest
from sync.domain.forms import decoded

FORMAT = "edge-deltas/1"
BSDIFF40 = "bsdiff40"
MAX_DOCUMENT_BYTES = 1 << 20


class Patch(msgspec.Struct, frozen=True, rename={"source": "from", "target": "to"}):
    """A blob of `size` bytes that makes the file `target` of the file `source`."""

    variant: str
    path: str
    source: Digest
    target: Digest
    digest: Digest
    size: int
    format: str = BSDIFF40


class Deltas(msgspec.Struct, frozen=True):
    patches: tuple[Patch, ...]
    format: str = FORMAT


def parse_deltas(data: bytes) -> Deltas:
    """Patches of a format that is not known are left out. Raises DocumentError."""
    document = decoded("deltas", data, Deltas, FORMAT, max_bytes=MAX_DOCUMENT_BYTES, check=_check)
    return Deltas(tuple(each for each in document.patches if each.format == BSDIFF40))


def encode_deltas(document: Deltas) -> bytes:
    return msgspec.json.encode(document, order="deterministic") + b"\n"


def _check(document: Deltas) -> None:
    for patch in document.patches:
        for digest in (patch.source, patch.target, patch.digest):
            as_digest(digest)
        if patch.size < 0:
            raise ValueError(f"{patch.path}: want a size of 0 bytes or more, got {patch.size}")
