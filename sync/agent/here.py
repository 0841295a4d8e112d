"""How much of a release is on the disk already."""

from __future__ import annotations

from sync.agent.places import Places
from sync.domain.digests import hex_of
from sync.domain.errors import DiskError
from sync.domain.journal import Installed
from sync.domain.ports import Files


def bytes_here(files: Files, places: Places, release: Installed) -> int:
    """Of a release's files, each counted once. Raises DiskError."""
    here = 0
    try:
        for digest, size in {file.digest: file.size for file in release.files}.items():
            found = files.size(places.blob(digest))
            if found is None:
                found = files.size(places.tmp / f"{hex_of(digest)}.part") or 0
            here += min(found, size)
    except OSError as error:
        raise DiskError(f"{places.state_dir}: cannot be read: {error.strerror}") from None
    return here


def bytes_of(release: Installed) -> int:
    """Of all its files, each counted once."""
    return sum({file.digest: file.size for file in release.files}.values())
