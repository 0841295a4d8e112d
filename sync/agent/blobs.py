"""From bytes on the disk to a blob that may be believed: the digest of the whole file, then the syncs, then the name.

Rule: the digest is that of the bytes as they lie on the disk, whatever was hashed on the way there.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from sync.domain.digests import Digest
from sync.domain.durable import disk_fault
from sync.domain.errors import HashMismatch
from sync.domain.ports import Files

STEP_BYTES = 1 << 20


def install_blob(files: Files, part: Path, blob: Path, digest: Digest, size: int) -> None:
    """Verify `part`, make it durable, and give it its name. Blocks. Raises HashMismatch, DiskFull, DiskError."""
    try:
        found = files.size(part)
        if found != size:
            raise HashMismatch(f"{blob.name[:12]}: want {size} bytes, got {found}")
        got = digest_of_file(files, part)
        if got != digest:
            raise HashMismatch(f"want {digest}, got {got}")
        files.sync(part)
        files.rename(part, blob)
        files.sync_directory(blob.parent)
    except OSError as error:
        raise disk_fault(blob, error, size) from None


def digest_of_file(files: Files, path: Path) -> Digest:
    """Raises OSError."""
    hasher, offset = hashlib.sha256(), 0
    while data := files.read_at(path, offset, STEP_BYTES):
        hasher.update(data)
        offset += len(data)
    return Digest("sha256:" + hasher.hexdigest())
