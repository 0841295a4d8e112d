"""Stores by their URL; each kind is imported when it is used."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from sync.domain.errors import OperatorError
from sync.domain.ports import ReadStore, WriteStore


def open_store(url: str, *, token_file: str = "", ca_file: str = "") -> ReadStore:
    """A directory, `file://`, `http://` or `https://`. Raises OperatorError."""
    if urlsplit(url).scheme in ("http", "https"):
        from sync.stores.http import HttpStore

        return HttpStore(url, token=_token(token_file), ca_file=Path(ca_file) if ca_file else None)
    return open_for_writing(url)


def open_for_writing(url: str) -> WriteStore:
    """Raises OperatorError for a kind of store that nothing can be written to."""
    parts = urlsplit(url)
    if not url:
        raise OperatorError("store: want a directory or a URL, got nothing")
    if parts.scheme not in ("", "file"):
        raise OperatorError(f"store: want a directory to write to, got {url!r}")
    from sync.stores.directory import DirectoryStore

    return DirectoryStore(Path(unquote(parts.path) if parts.scheme else url))


def _token(token_file: str) -> str:
    if not token_file:
        return ""
    try:
        return Path(token_file).read_text().strip()
    except OSError as error:
        raise OperatorError(f"{token_file}: cannot be read: {error.strerror}") from None
