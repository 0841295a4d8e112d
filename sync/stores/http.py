"""A store behind any static web server. Read only."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote, urlsplit

from yarl import URL

from sync.domain.errors import OperatorError, Refused
from sync.domain.ports import Part
from sync.domain.release import check_path
from sync.stores.web import HttpLimits as HttpLimits
from sync.stores.web import WebReader


class HttpStore:
    """url: of the directory that holds `metadata/`. token: shown as a bearer token. ca_file: trusted beside the system's."""

    def __init__(
        self, url: str, *, token: str = "", ca_file: Path | None = None, limits: HttpLimits | None = None
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise OperatorError("store: want http://… or https://… with a host's name")
        self._url = url.rstrip("/")
        self._name = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl().rstrip("/")
        self._reader = WebReader(self._name, self._address, token=token, ca_file=ca_file, packed=True, limits=limits)

    @property
    def name(self) -> str:
        return self._name

    async def close(self) -> None:
        await self._reader.close()

    async def get(self, path: str, *, max_bytes: int) -> bytes:
        """Raises Missing, Unreachable, Refused."""
        return (await self._reader.whole(path, max_bytes=max_bytes))[0]

    async def get_part(self, path: str, *, start: int, etag: str) -> Part:
        """Raises Missing, Unreachable, Refused."""
        return await self._reader.part(path, start=start, etag=etag)

    async def _address(self, path: str) -> URL:
        try:
            check_path(path)
        except ValueError as error:
            raise Refused(str(error)) from None
        return URL(f"{self._url}/{quote(path)}")
