"""Objects read over HTTP, wherever a store says that they are.

Rule 1: blobs come as they lie there (`Accept-Encoding: identity`), small objects packed where the server can, and never more
than was asked for. Rule 2: a redirect to another host is refused: who may answer is the operator's to say. Rule 3: small
objects that change are asked for with the tag of what came last, so that a poll with nothing new costs no body; and then as
they lie there, for servers that pack an object may not know its tag again. Rule 4: the rest of an object is taken only from
the object that the beginning is of. Rule 5: no URL is in a message, for it may hold a password or a signature.

Source: RFC 9110, sections 13 (conditional requests) and 14 (ranges)
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from sync.domain.errors import Missing, OperatorError, Refused, Unreachable
from sync.domain.ports import Part
from sync.stores.bodies import GZIP, OVERHEAD_BYTES, PLAIN, settled, tag_of, whole

USER_AGENT = "edge-sync"
STEP_BYTES = 1 << 18
MAX_REMEMBERED = 64
"""Small objects that are kept with their tags."""
MAX_REMEMBERED_BYTES = 1 << 20
"""Of all of them: none is larger than its share."""
MAX_COMPLAINT_BYTES = 4096
"""Of a bucket's error, to find its code in."""
MAX_RETRY_AFTER_S = 6 * 3600.0
REDIRECTS = (301, 302, 303, 307, 308)
NOT_FOUND = (404, 410)
_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)\Z", re.ASCII)
_CODE = re.compile(rb"<Code>([A-Za-z]{1,64})</Code>")


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Seconds: to connect, to wait for the next bytes, for all of a small object. max_redirects: of one request, within its host."""

    connect_s: float = 10.0
    read_s: float = 30.0
    total_s: float = 120.0
    max_redirects: int = 3


Address = Callable[[str], Awaitable[URL]]
"""An object's path → where it is asked for. Raises StoreError, OperatorError."""
_Asked = AbstractAsyncContextManager[aiohttp.ClientResponse]


class WebReader:
    """name: the store's, without secrets. held_by: the header that holds a resumed read to the object that it began with.

    token: shown as a bearer token. ca_file: trusted beside the system's. packed: from a web server, which may pack small
    objects, and makes tags of their times.
    """

    def __init__(
        self,
        name: str,
        address: Address,
        *,
        held_by: str = "If-Range",
        token: str = "",
        ca_file: Path | None = None,
        packed: bool = False,
        limits: HttpLimits | None = None,
    ) -> None:
        self._name, self._address, self._held_by = name, address, held_by
        self._packed = packed
        self._token, self._ca_file = token, ca_file
        self._limits = limits or HttpLimits()
        self._session: aiohttp.ClientSession | None = None
        self._remembered: OrderedDict[str, tuple[str, bytes]] = OrderedDict()

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def whole(self, path: str, *, max_bytes: int) -> tuple[bytes, str]:
        """The object and its tag, "" for none. Raises Missing, Unreachable, Refused (also where it is longer)."""
        tag, known = self._remembered.get(path, ("", b""))
        headers = {"If-None-Match": tag} if tag else {"Accept-Encoding": GZIP if self._packed else "identity"}
        async with self._asked(path, headers, total_s=self._limits.total_s) as answer:
            if answer.status == 304 and tag:
                self._bound(path, len(known), max_bytes)
                return known, tag
            if answer.status != 200:
                raise await _refusal(self._name, path, answer)
            self._bound(path, (answer.content_length or 0) - OVERHEAD_BYTES, max_bytes)
            encoding = answer.headers.get("Content-Encoding", "")
            chunks = answer.content.iter_chunked(STEP_BYTES)
            data = await whole(f"{self._name}/{path}", encoding, chunks, max_bytes=max_bytes)
            tag = tag_of(answer.headers)
            if not self._packed or settled(answer.headers):  # a bucket's tag is made of the bytes
                self._remember(path, tag, data)
            return data, tag

    async def part(self, path: str, *, start: int, etag: str) -> Part:
        """As `ReadStore.get_part`. Raises Missing, Unreachable, Refused."""
        if start:
            headers = {"Range": f"bytes={start}-", **({self._held_by: etag} if etag else {})}
            asked = self._asked(path, headers, total_s=None)
            answer = await asked.__aenter__()
            if _goes_on(answer, etag):
                return await self._opened_part(path, asked, answer, start)
            await asked.__aexit__(None, None, None)
        asked = self._asked(path, {}, total_s=None)
        return await self._opened_part(path, asked, await asked.__aenter__(), 0)

    async def _opened_part(self, path: str, asked: _Asked, answer: aiohttp.ClientResponse, start: int) -> Part:
        try:
            begin, total = await _what_came(self._name, path, answer, start)
        except BaseException as error:
            await asked.__aexit__(type(error), error, error.__traceback__)
            raise
        return Part(begin, total, tag_of(answer.headers), _Chunks(f"{self._name}/{path}", asked, answer))

    @asynccontextmanager
    async def _asked(
        self, path: str, headers: dict[str, str], *, total_s: float | None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        url = await self._address(path)
        timeout = aiohttp.ClientTimeout(
            total=total_s, sock_connect=self._limits.connect_s, sock_read=self._limits.read_s
        )
        try:
            for _ in range(self._limits.max_redirects + 1):
                async with self._opened().get(
                    url, headers=self._headers(headers), timeout=timeout, allow_redirects=False
                ) as answer:
                    if answer.status in REDIRECTS:
                        url = await self._redirected(path, url, answer)
                        continue
                    yield answer
                    return
            raise Refused(f"{self._name}/{path}: more than {self._limits.max_redirects} redirects")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unreachable(f"{self._name}/{path}: {_why(error)}") from None

    async def _redirected(self, path: str, asked: URL, answer: aiohttp.ClientResponse) -> URL:
        location = answer.headers.get("Location", "")
        if not location:  # a bucket of another region says so
            raise await _refusal(self._name, path, answer)
        try:
            target = asked.join(URL(location))
            origin = target.origin()
        except ValueError:
            raise Refused(f"{self._name}/{path}: redirected to what is no URL of a host") from None
        if origin != asked.origin():
            raise Refused(f"{self._name}/{path}: redirected to another host, {target.host}")
        return target

    def _headers(self, headers: dict[str, str]) -> CIMultiDict[str]:
        every = CIMultiDict({"Accept-Encoding": "identity", **headers})
        if self._token:
            every["Authorization"] = f"Bearer {self._token}"
        return every

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            context = ssl.create_default_context(cafile=None)
            if self._ca_file is not None:
                try:
                    context.load_verify_locations(self._ca_file)
                except OSError as error:
                    raise OperatorError(f"{self._ca_file}: cannot be read: {error.strerror or error}") from None
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=context, limit=8),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=True,
                headers={"User-Agent": USER_AGENT},
                skip_auto_headers=("Accept",),
            )
        return self._session

    def _bound(self, path: str, size: int, max_bytes: int) -> None:
        if size > max_bytes:
            raise Refused(f"{self._name}/{path}: want at most {max_bytes} bytes, got {size} or more")

    def _remember(self, path: str, tag: str, data: bytes) -> None:
        if tag and len(data) <= MAX_REMEMBERED_BYTES // MAX_REMEMBERED:
            self._remembered[path] = (tag, data)
            self._remembered.move_to_end(path)
            while len(self._remembered) > MAX_REMEMBERED:
                self._remembered.popitem(last=False)


class _Chunks:
    """The body. Not a generator: one that was never begun would not let go of its connection when it is closed."""

    def __init__(self, what: str, asked: _Asked, answer: aiohttp.ClientResponse) -> None:
        self._what, self._answer = what, answer
        self._asked: _Asked | None = asked

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._asked is None:
            raise StopAsyncIteration
        try:
            chunk = await self._answer.content.read(STEP_BYTES)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            await self.aclose()
            raise Unreachable(f"{self._what}: {_why(error)}") from None
        if not chunk:
            await self.aclose()
            raise StopAsyncIteration
        return chunk

    async def aclose(self) -> None:
        asked, self._asked = self._asked, None
        if asked is not None:
            await asked.__aexit__(None, None, None)


def _goes_on(answer: aiohttp.ClientResponse, etag: str) -> bool:
    """Whether this answers for the object that was begun: not all servers compare the tag that they are shown."""
    if answer.status in (412, 416):
        return False
    return answer.status != 206 or etag in ("", answer.headers.get("ETag", etag))


async def _what_came(name: str, path: str, answer: aiohttp.ClientResponse, start: int) -> tuple[int, int | None]:
    """Where the body begins, and the whole object's size. Raises Missing, Refused."""
    if answer.status not in (200, 206):
        raise await _refusal(name, path, answer)
    _check_encoding(name, path, answer)
    if answer.status == 200:
        return 0, answer.content_length
    found = _RANGE.match(answer.headers.get("Content-Range", ""))
    if found is None or int(found[1]) != start:
        raise Refused(f"{name}/{path}: want bytes from {start}, got {answer.headers.get('Content-Range', 'no range')}")
    return start, None if found[3] == "*" else int(found[3])


def _check_encoding(name: str, path: str, answer: aiohttp.ClientResponse) -> None:
    encoding = answer.headers.get("Content-Encoding", "identity")
    if encoding not in PLAIN:
        raise Refused(f"{name}/{path}: want the bytes as they are, got {encoding}")


async def _refusal(name: str, path: str, answer: aiohttp.ClientResponse) -> Missing | Refused:
    code = await _complaint(answer)
    text = " ".join(filter(None, (f"{name}/{path}: {answer.status}", answer.reason, code)))
    # A bucket that may not be listed says 403 for what is not there.
    if answer.status in NOT_FOUND or (answer.status == 403 and code in ("", "AccessDenied")):
        return Missing(text)
    return Refused(
        text, retry_after_s=_retry_after(answer.headers.get("Retry-After", ""), answer.headers.get("Date", ""))
    )


async def _complaint(answer: aiohttp.ClientResponse) -> str:
    """How a bucket calls what is wrong, from the beginning of the body; empty where none does."""
    if "xml" not in answer.headers.get("Content-Type", ""):
        return ""
    body = b""
    try:
        while len(body) < MAX_COMPLAINT_BYTES and (more := await answer.content.read(MAX_COMPLAINT_BYTES - len(body))):
            body += more
    except (aiohttp.ClientError, TimeoutError, OSError):
        pass
    found = _CODE.search(body)
    return found[1].decode() if found else ""


def _retry_after(text: str, date: str) -> float:
    """Seconds, at most MAX_RETRY_AFTER_S; 0 where it makes no sense."""
    if text.isascii() and text.isdigit() and len(text) < 10:
        return min(float(text), MAX_RETRY_AFTER_S)
    try:
        wait_s = (parsedate_to_datetime(text) - parsedate_to_datetime(date)).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return 0.0
    return min(max(wait_s, 0.0), MAX_RETRY_AFTER_S)


def _why(error: Exception) -> str:
    if isinstance(error, asyncio.TimeoutError | TimeoutError):
        return "no answer in time"
    if isinstance(error, aiohttp.ClientResponseError):  # whose text has the URL
        return error.message or "an answer that is no HTTP"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "broke off before its end"
    return str(error) or type(error).__name__
