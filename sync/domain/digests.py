"""Names of bytes: `sha256:<64 hex digits>`, as OCI descriptors have them."""

from __future__ import annotations

import hashlib
import re
from typing import NewType

Digest = NewType("Digest", str)
"""`sha256:` and 64 lower-case hex digits."""

_FORM = re.compile(r"sha256:[0-9a-f]{64}\Z", re.ASCII)


def digest_of(data: bytes) -> Digest:
    return Digest("sha256:" + hashlib.sha256(data).hexdigest())


def as_digest(text: str) -> Digest:
    """Raises ValueError."""
    if not _FORM.match(text):
        raise ValueError(f"want sha256: and 64 lower-case hex digits, got {text[:80]!r}")
    return Digest(text)


def hex_of(digest: Digest) -> str:
    return digest.removeprefix("sha256:")
