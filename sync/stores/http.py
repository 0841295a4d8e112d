"""A store behind any static web server. Read only.

Rule 1: blobs come as they lie there (`Accept-Encoding: identity`), signed documents packed where the server can, and never
more than were asked for. Rule 2: a redirect to another host is refused: who may answer is the operator's to say. Rule 3: small
objects that change are asked for with the tag of what came last, so that a poll with nothing new costs no body; and then as
they lie there, for servers that pack an object may not know its tag again.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import quote, urlsplit

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from sync.domain.errors import Missing, OperatorError, Refused, Unreachable
from sync.domain.ports import Part
from sync.stores.bodies import GZIP, OVERHEAD_BYTES, settled, whole

STEP_BYTES = 1 << 18
MAX_REMEMBERED = 64
MAX_REMEMBERED_BYTES = 1 << 20
USER_AGENT = "edge-sync"
MAX_RETRY_AFTER_S = 6 * 3600.0
_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Seconds: to connect, to wait for the next bytes, for all of a small object."""

    connect_s: float = 10.0
    read_s: float = 30.0
    total_s: float = 120.0
    max_redirects: int = 3


_Asked = AbstractAsyncContextManager[aiohttp.ClientResponse]


class HttpStore:
    """url: of the directory that holds `metadata/`. token: shown as a bearer token. ca_file: trusted beside the system's."""

    def __init__(
        self, url: str, *, token: str = "", ca_file: Path | None = None, limits: HttpLimits | None = None
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise OperatorError(f"store: want http://… or https://…, got {url!r}")
        self._url = url.rstrip("/")
        self._origin = (parts.scheme, parts.hostname, parts.port)
        self._token, self._ca_file = token, ca_file
        self._limits = limits or HttpLimits()
        self._session: aiohttp.ClientSession | None = None
        self._remembered: OrderedDict[str, tuple[str, bytes]] = OrderedDict()

    @property
    def name(self) -> str:
        parts = urlsplit(self._url)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def get(self, path: str, *, max_bytes: int) -> bytes:
        """Raises Missing, Unreachable, Refused."""
        tag, known = self._remembered.get(path, ("", b""))
        headers = {"If-None-Match": tag} if tag else {"Accept-Encoding": GZIP}
        async with self._asked(path, headers, total_s=self._limits.total_s) as answer:
            if answer.status == 304 and tag:
                return known
            if answer.status != 200:
                raise _refusal(self.name, path, answer)
            length = answer.content_length
            if length is not None and length > max_bytes + OVERHEAD_BYTES:
                raise Refused(f"{self.name}/{path}: want at most {max_bytes} bytes, got {length}")
            encoding = answer.headers.get("Content-Encoding", "")
            chunks = answer.content.iter_chunked(STEP_BYTES)
            data = await whole(f"{self.name}/{path}", encoding, chunks, max_bytes=max_bytes)
            if settled(answer.headers):
                self._remember(path, answer.headers.get("ETag", ""), data)
            return data

    async def get_part(self, path: str, *, start: int, etag: str) -> Part:
        """Raises Missing, Unreachable, Refused."""
        headers = {"Range": f"bytes={start}-"} if start else {}
        if start and etag:
            headers["If-Range"] = etag
        asked = self._asked(path, headers, total_s=None)
        answer = await asked.__aenter__()
        try:
            begin, total = _what_came(self.name, path, answer, start if headers else 0)
        except BaseException as error:
            await asked.__aexit__(type(error), error, error.__traceback__)
            raise
        return Part(begin, total, answer.headers.get("ETag", ""), self._chunks(path, asked, answer))

    async def _chunks(self, path: str, asked: _Asked, answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        try:
            while chunk := await answer.content.read(STEP_BYTES):
                yield chunk
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unreachable(f"{self.name}/{path}: {_why(error)}") from None
        finally:
            await asked.__aexit__(None, None, None)

    @asynccontextmanager
    async def _asked(
        self, path: str, headers: dict[str, str], *, total_s: float | None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        url = f"{self._url}/{quote(path)}"
        timeout = aiohttp.ClientTimeout(
            total=total_s, sock_connect=self._limits.connect_s, sock_read=self._limits.read_s
        )
        try:
            for _ in range(self._limits.max_redirects + 1):
                async with self._opened().get(
                    url, headers=self._headers(headers), timeout=timeout, allow_redirects=False
                ) as answer:
                    if answer.status in (301, 302, 303, 307, 308):
                        url = self._redirected(path, answer)
                        continue
                    yield answer
                    return
            raise Refused(f"{self.name}/{path}: more than {self._limits.max_redirects} redirects")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unreachable(f"{self.name}/{path}: {_why(error)}") from None

    def _redirected(self, path: str, answer: aiohttp.ClientResponse) -> str:
        target = answer.url.join(URL(answer.headers.get("Location", "")))
        if (target.scheme, target.host, target.explicit_port) != self._origin:
            raise Refused(f"{self.name}/{path}: redirected to another host, {target.host}")
        return str(target)

    def _headers(self, headers: dict[str, str]) -> CIMultiDict[str]:
        every = CIMultiDict({"Accept-Encoding": "identity", **headers})
        if self._token:
            every["Authorization"] = f"Bearer {self._token}"
        return every

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            context = ssl.create_default_context(cafile=None)
            if self._ca_file is not None:
                context.load_verify_locations(self._ca_file)
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=context, limit=8),
                auto_decompress=False,
                trust_env=True,
                headers={"User-Agent": USER_AGENT},
                skip_auto_headers=("Accept",),
            )
        return self._session

    def _remember(self, path: str, tag: str, data: bytes) -> None:
        if tag and len(data) <= MAX_REMEMBERED_BYTES // MAX_REMEMBERED:
            self._remembered[path] = (tag, data)
            self._remembered.move_to_end(path)
            while len(self._remembered) > MAX_REMEMBERED:
                self._remembered.popitem(last=False)


def _what_came(name: str, path: str, answer: aiohttp.ClientResponse, start: int) -> tuple[int, int | None]:
    """Where the body begins, and the whole object's size. Raises Missing, Refused."""
    if answer.headers.get("Content-Encoding", "identity") != "identity":
        raise Refused(f"{name}/{path}: want the bytes as they are, got {answer.headers['Content-Encoding']}")
    if answer.status == 206:
        found = _RANGE.match(answer.headers.get("Content-Range", ""))
        if found is None or int(found[1]) != start:
            raise Refused(
                f"{name}/{path}: want bytes from {start}, got {answer.headers.get('Content-Range', 'no range')}"
            )
        return start, None if found[3] == "*" else int(found[3])
    if answer.status == 416:
        return 0, 0
    if answer.status != 200:
        raise _refusal(name, path, answer)
    return 0, answer.content_length


def _refusal(name: str, path: str, answer: aiohttp.ClientResponse) -> Missing | Refused:
    text = f"{name}/{path}: {answer.status} {answer.reason or ''}".rstrip()
    if answer.status in (403, 404, 410):  # a bucket that may not be listed says 403 for what is not there
        return Missing(text)
    return Refused(
        text, retry_after_s=_retry_after(answer.headers.get("Retry-After", ""), answer.headers.get("Date", ""))
    )


def _retry_after(text: str, date: str) -> float:
    """Seconds, at most MAX_RETRY_AFTER_S; 0 where it makes no sense."""
    if text.isascii() and text.isdigit() and len(text) < 10:
        return min(float(text), MAX_RETRY_AFTER_S)
    try:
        wait_s = (parsedate_to_datetime(text) - parsedate_to_datetime(date)).total_seconds()
    except (ValueError, TypeError):
        return 0.0
    return min(max(wait_s, 0.0), MAX_RETRY_AFTER_S)


def _why(error: Exception) -> str:
    if isinstance(error, asyncio.TimeoutError | TimeoutError):
        return "no answer in time"
    return str(error) or type(error).__name__
