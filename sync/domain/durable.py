"""Replacing a small file so that a crash leaves the old one or the new one; and what a disk's error means."""

from __future__ import annotations

import errno
from pathlib import Path

from sync.domain.errors import DiskError, DiskFull
from sync.domain.ports import Files


def replace_durably(files: Files, path: Path, data: bytes) -> None:
    """The old bytes or the new ones, whatever happens. Blocks. Raises DiskError."""
    fresh = path.with_name(path.name + ".tmp")
    try:
        files.remove(fresh)
        files.write_at(fresh, 0, data)
        files.sync(fresh)
        files.rename(fresh, path)
        files.sync_directory(path.parent)
    except OSError as error:
        raise DiskError(f"{path}: cannot be written: {error.strerror}") from None


def disk_fault(what: object, error: OSError, need: int = 0) -> DiskFull | DiskError:
    """A full disk is waited for, an error is not. `need`: bytes that were to be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(need, 0)
    return DiskError(f"{what}: {error.strerror}")
