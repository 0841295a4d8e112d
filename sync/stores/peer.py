"""A neighbour on the local network as a store of blobs. Read only.

Rule 1: blobs only, by their digest: documents and metadata come from the store, whatever a neighbour has. Rule 2: nobody is asked
by way of a proxy or a redirect, and nothing that identifies this device is sent. Rule 3: what comes is believed by nobody:
whoever reads compares the digest.

Source: RFC 9110, section 14 (ranges)
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp

from sync.domain.errors import Missing, Refused, StoreError, Unreachable
from sync.domain.ports import Part

STEP_BYTES = 1 << 16
MAX_RETRY_AFTER_S = 3600.0
_BLOB = re.compile(r"blobs/sha256/[0-9a-f]{64}\Z", re.ASCII)
_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19})\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class PeerLimits:
    """Seconds: to connect, and to wait for the next bytes. A neighbour is near, or it is none."""

    connect_s: float = 2.0
    read_s: float = 5.0


class PeerStore:
    """host: an address. Holds no connection beyond an answer."""

    def __init__(self, host: str, port: int, limits: PeerLimits | None = None) -> None:
        self.host, self.port = host, port
        limits = limits or PeerLimits()
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=limits.connect_s, sock_read=limits.read_s)

    @property
    def name(self) -> str:
        return f"neighbour {self.host}:{self.port}"

    async def close(self) -> None: ...

    async def get(self, path: str, *, max_bytes: int) -> bytes:
        """Raises Refused: there is nothing that a neighbour is asked for whole and believed."""
        raise Refused(f"{self.name}: {path}: neighbours are asked for blobs only")

    async def get_part(self, path: str, *, start: int, etag: str) -> Part:
        """Raises Missing, Unreachable, Refused."""
        if not _BLOB.match(path):
            raise Refused(f"{self.name}: {path}: neighbours are asked for blobs only")
        # No cookies, no compression, no names of programs: as little as makes a request.
        session = aiohttp.ClientSession(
            timeout=self._timeout,
            connector=aiohttp.TCPConnector(limit=1, force_close=True),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("User-Agent", "Accept-Encoding", "Accept"),
            trust_env=False,
        )
        try:
            headers = {"Range": f"bytes={start}-"} if start else {}
            url = f"http://{self.host}:{self.port}/{path}"
            answer = await session.get(url, headers=headers, allow_redirects=False)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            await session.close()
            raise Unreachable(f"{self.name}: {_why(error)}") from None
        except BaseException:
            await session.close()
            raise
        chunks = _Chunks(self.name, session, answer)
        try:
            return Part(start, self._total(answer, start), "", chunks)
        except StoreError:
            await chunks.aclose()
            raise

    def _total(self, answer: aiohttp.ClientResponse, start: int) -> int | None:
        """The blob's size by its own words. Raises Missing, Refused."""
        if answer.status == 404:
            raise Missing(f"{self.name}: does not have it")
        if answer.headers.get("Content-Encoding", "identity") != "identity":
            raise Refused(f"{self.name}: want the bytes as they are, got {answer.headers['Content-Encoding'][:40]}")
        if answer.status == 200 and not start:
            return answer.content_length
        if answer.status != 206:
            raise Refused(f"{self.name}: got {answer.status}", retry_after_s=_retry_after(answer))
        found = _RANGE.match(answer.headers.get("Content-Range", ""))
        if found is None or int(found[1]) != start:
            raise Refused(
                f"{self.name}: want bytes from {start}, got {answer.headers.get('Content-Range', 'none')[:80]}"
            )
        return int(found[3])


class _Chunks:
    """The body. Not a generator: one that was never begun would not let go of its connection."""

    def __init__(self, name: str, session: aiohttp.ClientSession, answer: aiohttp.ClientResponse) -> None:
        self._name, self._session, self._answer = name, session, answer

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            chunk = await self._answer.content.read(STEP_BYTES)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            await self.aclose()
            raise Unreachable(f"{self._name}: {_why(error)}") from None
        if not chunk:
            await self.aclose()
            raise StopAsyncIteration
        return chunk

    async def aclose(self) -> None:
        self._answer.close()
        await self._session.close()


def _retry_after(answer: aiohttp.ClientResponse) -> float:
    text = answer.headers.get("Retry-After", "")
    return min(float(text), MAX_RETRY_AFTER_S) if text.isascii() and text.isdigit() and len(text) < 10 else 0.0


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, aiohttp.ClientResponseError):
        return "an answer that is no HTTP"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
