"""That nothing foreign gets out, and each comes out as what it is."""

from __future__ import annotations

import errno
import inspect

import pytest
import securesystemslib.exceptions
from tuf.api import exceptions, serialization

from sync.domain.errors import DiskError, Missing, Reason, Refused, SyncError, TrustError, Unreachable
from sync.trust.failures import ours, translated
from sync.trust.fetcher import NotThere, StoreFailure, StoreFetcher
from tests.fakes.sync.store import MemoryStore


def fetcher() -> StoreFetcher:
    return StoreFetcher(MemoryStore(), request_s=1.0)


@pytest.mark.parametrize(
    ("theirs", "kind", "reason"),
    [
        (exceptions.ExpiredMetadataError("timestamp.json is expired"), TrustError, Reason.STALE_METADATA),
        (exceptions.ExpiredMetadataError("snapshot.json is expired"), TrustError, Reason.STALE_METADATA),
        (exceptions.ExpiredMetadataError("Final root.json is expired"), TrustError, Reason.TRUST_EXPIRED),
        (exceptions.ExpiredMetadataError("New releases is expired"), TrustError, Reason.TRUST_EXPIRED),
        (exceptions.ExpiredMetadataError("New releases.bin-0a is expired"), TrustError, Reason.TRUST_EXPIRED),
        (exceptions.ExpiredMetadataError("New rollouts.bin-0a is expired"), TrustError, Reason.STALE_METADATA),
        (exceptions.ExpiredMetadataError("New deltas is expired"), TrustError, Reason.STALE_METADATA),
        (exceptions.BadVersionNumberError("1 must be >= 2"), TrustError, Reason.TRUST_ROLLBACK),
        (exceptions.EqualVersionNumberError(), TrustError, Reason.TRUST_ROLLBACK),
        (exceptions.UnsignedMetadataError("1/2 keys"), TrustError, Reason.TRUST_SIGNATURE),
        (exceptions.LengthOrHashMismatchError("x"), TrustError, Reason.TRUST_SIGNATURE),
        (serialization.DeserializationError("x"), TrustError, Reason.TRUST_SIGNATURE),
        (exceptions.RepositoryError("x"), TrustError, Reason.TRUST_SIGNATURE),
        (exceptions.DownloadLengthMismatchError("x"), Refused, Reason.NET_REFUSED),
        (exceptions.SlowRetrievalError("x"), Refused, Reason.NET_REFUSED),
        (StoreFailure(Unreachable("away")), Unreachable, Reason.NET_UNREACHABLE),
        (NotThere(Missing("gone")), Missing, Reason.NET_MISSING),
        (OSError(errno.ENOSPC, "No space left on device", "/x"), DiskError, Reason.IO_ERROR),
        (securesystemslib.exceptions.UnverifiedSignatureError("x"), TrustError, Reason.TRUST_SIGNATURE),
        (ValueError("x"), TrustError, Reason.TRUST_SIGNATURE),
        (KeyError("x"), TrustError, Reason.TRUST_SIGNATURE),
        (RecursionError("x"), TrustError, Reason.TRUST_SIGNATURE),
        (UnicodeEncodeError("utf-8", "x", 0, 1, "x"), TrustError, Reason.TRUST_SIGNATURE),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_each_is_told_as_what_it_is(theirs: Exception, kind: type[SyncError], reason: Reason) -> None:
    with pytest.raises(kind) as caught, translated(fetcher()):
        raise theirs
    assert caught.value.reason is reason
    assert caught.value.message
    assert type(caught.value) is kind


@pytest.mark.parametrize("module", [exceptions, serialization, securesystemslib.exceptions])
def test_every_error_that_the_libraries_have_is_in_the_table(module: object) -> None:
    kinds = [kind for _, kind in inspect.getmembers(module, inspect.isclass) if issubclass(kind, Exception)]
    assert kinds
    for kind in kinds:
        error = kind("x", 500) if kind is exceptions.DownloadHTTPError else kind("x")
        with pytest.raises(SyncError), translated(fetcher()):
            raise error


def test_our_own_errors_and_what_ends_a_task_are_let_through() -> None:
    for error in (TrustError("x", Reason.TRUST_ROLLBACK), Unreachable("y")):
        with pytest.raises(type(error)) as caught, translated(fetcher()):
            raise error
        assert caught.value is error
    with pytest.raises(KeyboardInterrupt), translated(fetcher()):
        raise KeyboardInterrupt


def test_what_the_deserializer_hides_is_told() -> None:
    theirs = exceptions.RepositoryError("Failed to deserialize JSON")
    theirs.__cause__ = ValueError("Expecting value: line 1")
    assert ours(theirs).message == "Failed to deserialize JSON: Expecting value: line 1"
