"""Replacing a small file so that a crash leaves the old one or the new one."""

from __future__ import annotations

from pathlib import Path

from sync.domain.errors import DiskError
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
