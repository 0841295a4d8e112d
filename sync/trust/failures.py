"""What tuf raises, as ours: nothing foreign gets out of this package.

tuf                                  ours
ExpiredMetadataError                 TrustError: STALE_METADATA for the timestamp, the snapshot, rollouts and deltas, which are
                                     signed anew every few days by nobody's hand; TRUST_EXPIRED for what a person signs
BadVersionNumberError                TrustError: TRUST_ROLLBACK
other RepositoryErrors               TrustError: TRUST_SIGNATURE
StoreFailure, NotThere               what the store said, word for word
OSError                              DiskError: the cache cannot be kept
ValueError, KeyError and their like  TrustError: TRUST_SIGNATURE. tuf raises them for metadata that nobody sane signs

Rule: whatever else is raised is a bug, here or in a store, and stays one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from securesystemslib.exceptions import Error as SignatureLibraryError
from tuf.api import exceptions

from sync.domain.errors import DiskError, Reason, Refused, SyncError, TrustError
from sync.trust.fetcher import NotThere, StoreFailure, StoreFetcher

BY_NOBODYS_HAND = ("timestamp", "snapshot", "rollouts", "deltas")
_HOSTILE = (
    SignatureLibraryError,
    exceptions.RepositoryError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    RuntimeError,
    OverflowError,
)


@contextmanager
def translated(fetcher: StoreFetcher) -> Iterator[None]:
    """Raises TrustError, StoreError, DiskError in place of what tuf raises in the block."""
    try:
        yield
    except (SyncError, NotImplementedError):
        raise
    except (exceptions.DownloadError, OSError, *_HOSTILE) as error:
        if fetcher.broken is error:
            raise
        raise ours(error) from None


def ours(error: Exception) -> SyncError:
    """The row of the table."""
    text = str(error) or type(error).__name__
    match error:
        case StoreFailure() | NotThere():
            return error.error
        case exceptions.DownloadError():
            return Refused(text)
        case exceptions.ExpiredMetadataError():
            online = text.removeprefix("New ").startswith(BY_NOBODYS_HAND)
            return TrustError(text, Reason.STALE_METADATA if online else Reason.TRUST_EXPIRED)
        case exceptions.BadVersionNumberError():
            return TrustError(text, Reason.TRUST_ROLLBACK)
        case exceptions.RepositoryError():
            return TrustError(_with_cause(text, error))
        case OSError():
            return DiskError(f"{error.filename or 'the metadata cache'}: {error.strerror or text}")
        case _:
            return TrustError(f"metadata that cannot be read: {type(error).__name__}: {text}")


def _with_cause(text: str, error: Exception) -> str:
    return f"{text}: {error.__cause__}" if error.__cause__ is not None and str(error.__cause__) else text
