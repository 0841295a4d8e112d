"""JSON with its own digest, for files that nobody signs: a bit that has flipped is found, also where it leaves JSON.

Rule: pure. The form: {"sha256": <64 hex digits>, "document": <JSON>}, the digest that of the document's bytes as they stand.
"""

from __future__ import annotations

import hashlib

import msgspec


class _Sealed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    sha256: str
    document: msgspec.Raw


def seal(document: bytes) -> bytes:
    """`document`: JSON."""
    return msgspec.json.encode(_Sealed(hashlib.sha256(document).hexdigest(), msgspec.Raw(document)))


def unsealed(data: bytes) -> bytes:
    """The document's bytes. Raises ValueError where they are not those that were sealed."""
    try:
        sealed = msgspec.json.decode(data, type=_Sealed)
    except RecursionError:
        raise ValueError("want JSON, got some that is nested without end") from None
    document = bytes(sealed.document)
    got = hashlib.sha256(document).hexdigest()
    if got != sealed.sha256:
        raise ValueError(f"want sha256 {sealed.sha256[:80]}, got {got}")
    return document
