"""Stores by their URL; each kind is imported when it is used."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from sync.domain.errors import OperatorError
from sync.domain.ports import ReadStore, WriteStore
from sync.stores.condensed import CondensedReads, CondensedWrites

EXTRA = "pip install 'edge-serving[s3]'"


def open_store(
    url: str, *, token_file: str = "", ca_file: str = "", environment: Mapping[str, str] = os.environ
) -> ReadStore:
    """A directory, `file://`, `http://`, `https://` or `s3://`. Raises OperatorError."""
    scheme = _scheme(url)
    trusted = Path(ca_file) if ca_file else None
    if scheme in ("http", "https"):
        from sync.stores.http import HttpStore

        return HttpStore(url, token=_token(token_file), ca_file=trusted)
    if scheme == "s3" and token_file:
        raise OperatorError("store: a bucket takes no token; its keys are in the environment, as for the AWS tools")
    if scheme not in ("", "file", "s3"):
        raise OperatorError(f"store: want a directory, https://, http:// or s3://bucket/prefix, got {scheme}://…")
    return open_for_writing(url, ca_file=trusted, environment=environment)


def open_for_device(
    url: str, *, token_file: str = "", ca_file: str = "", environment: Mapping[str, str] = os.environ
) -> ReadStore:
    """As `open_store`; what comes over a network comes condensed where it can. Raises OperatorError."""
    store = open_store(url, token_file=token_file, ca_file=ca_file, environment=environment)
    return CondensedReads(store) if _scheme(url) in ("http", "https", "s3") else store


def open_for_writing(
    url: str, *, ca_file: Path | None = None, environment: Mapping[str, str] = os.environ
) -> WriteStore:
    """Raises OperatorError for a kind of store that nothing can be written to."""
    scheme = _scheme(url)
    if not url:
        raise OperatorError("store: want a directory or a URL, got nothing")
    if scheme == "s3":
        return CondensedWrites(_bucket(url, ca_file, environment))
    if scheme not in ("", "file"):
        raise OperatorError(f"store: want a directory or s3://bucket/prefix to write to, got {scheme}://…")
    from sync.stores.directory import DirectoryStore

    return CondensedWrites(DirectoryStore(Path(unquote(urlsplit(url).path) if scheme else url)))


@asynccontextmanager
async def writing_to(url: str) -> AsyncIterator[WriteStore]:
    """A store that is closed with the block. Raises as `open_for_writing`."""
    store = open_for_writing(url)
    try:
        yield store
    finally:
        await store.close()


def _bucket(url: str, ca_file: Path | None, environment: Mapping[str, str]) -> WriteStore:
    from sync.stores.aws import bucket_of

    try:
        from sync.stores.s3 import S3Store
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "obstore":
            raise
        raise OperatorError(f"store: s3:// wants the package obstore, which is not installed: {EXTRA}") from None
    return S3Store(bucket_of(url, environment, ca_file=ca_file))


def _scheme(url: str) -> str:
    try:
        return urlsplit(url).scheme
    except ValueError:
        raise OperatorError("store: want a directory or a URL, got neither") from None


def _token(token_file: str) -> str:
    if not token_file:
        return ""
    try:
        return Path(token_file).read_text().strip()
    except OSError as error:
        raise OperatorError(f"{token_file}: cannot be read: {error.strerror}") from None
