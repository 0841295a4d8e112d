"""Making patches, where versions are published: BSDIFF40 that stock bsdiff reads too."""

from __future__ import annotations

import bsdiff4


def make_patch(old: bytes, new: bytes) -> bytes:
    """A patch from `old` to `new`."""
    patch: bytes = bsdiff4.diff(old, new)
    return patch
