"""What a root document says of itself, for a person who compares it with the operator's.

Rule: whatever is wrong with it comes out as TrustError.
"""

from __future__ import annotations

from dataclasses import dataclass

from securesystemslib.exceptions import Error as SignatureLibraryError
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root

from sync.domain.digests import Digest, digest_of
from sync.domain.errors import TrustError

MAX_ROOT_BYTES = 512_000


@dataclass(frozen=True, slots=True)
class RootFacts:
    """`threshold` of `keys` sign its successor. `ends`: seconds since the epoch; a root that ended leads to a newer one still."""

    digest: Digest
    version: int
    keys: int
    threshold: int
    ends: float


def describe_root(data: bytes) -> RootFacts:
    """Raises TrustError unless it is a root that enough of its own keys have signed."""
    if len(data) > MAX_ROOT_BYTES:
        raise TrustError(f"root: want at most {MAX_ROOT_BYTES} bytes, got {len(data)}")
    try:
        metadata = Metadata[Root].from_bytes(data)
        root = metadata.signed
        if root.type != Root.type:
            raise TrustError(f"root: want the role root, got {root.type}")
        root.verify_delegate(Root.type, metadata.signed_bytes, metadata.signatures)
        role = root.roles[Root.type]
    except (RepositoryError, SignatureLibraryError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise TrustError(f"root: {error or type(error).__name__}") from None
    return RootFacts(digest_of(data), root.version, len(role.keyids), role.threshold, root.expires.timestamp())
