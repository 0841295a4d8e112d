"""HTTP for asyncio, by aiohttp.

Rule: as `edge.client.blocking`: no proxy, no redirection, no compression, no step past the deadline, no answer past its bound.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Sequence
from time import monotonic

import aiohttp
from yarl import URL

from edge.client.address import Address
from edge.client.attempts import timeout_header
from edge.client.blocking import IDLE_S, ONE_SEND_BYTES
from edge.client.body import check_encoding, content_length, room, too_large
from edge.client.calls import Answer, Ask
from edge.client.errors import BadAnswer, ClientError, DeadlineExceeded, Unreachable, error_of
from edge.client.wire import HEADER, Body

MAX_CONNECTIONS = 100
"""At once; further requests wait for one."""
LOOK_AFTER_S = 0.05
"""After so long without an answer, the loop looks whether the server has closed idle connections before one is used."""


class Transport:
    """One server. Connections are opened by the first request, in its event loop."""

    def __init__(self, address: Address, tls: ssl.SSLContext | None, token: str | None, max_answer_bytes: int) -> None:
        self._address, self._tls, self._max_bytes = address, tls, max_answer_bytes
        host = f"[{address.host}]" if ":" in address.host else address.host
        self._base = f"{'https' if address.tls else 'http'}://{host}:{address.port}{address.prefix}"
        self._headers = {"Host": address.authority, "Accept-Encoding": "identity"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"
        self._session: aiohttp.ClientSession | None = None
        self._closed, self._answered = False, 0.0

    async def ask(self, ask: Ask, deadline: float) -> Answer:
        """One request, one answer; `deadline` by time.monotonic. Raises ClientError."""
        headers = self._headers | dict(ask.headers) | {"X-Request-Timeout-Ms": timeout_header(deadline - monotonic())}
        try:
            async with asyncio.timeout(deadline - monotonic()):
                if self._session is not None and monotonic() - self._answered > LOOK_AFTER_S:
                    await asyncio.sleep(0)  # once to look at the sockets,
                    await asyncio.sleep(0)  # and once for what that has told
                return await self._exchange(ask, headers)
        except TimeoutError:
            raise DeadlineExceeded(f"{self._address.url}: no answer within the time for this call") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise self._lost(error) from None

    async def _exchange(self, ask: Ask, headers: dict[str, str]) -> Answer:
        if ask.pieces:
            headers["Content-Length"] = str(sum(map(len, ask.pieces)))
        url = URL(self._base + ask.path, encoded=True)
        async with self._open().request(
            ask.method, url, data=_body(ask.pieces), headers=headers, allow_redirects=False
        ) as response:
            head_length = response.headers.get(HEADER, "").strip()
            check_encoding(response.headers.get("Content-Encoding", ""))
            body = await self._read(response, head_length)
            self._answered = monotonic()
            if response.status not in ask.accepted:
                raise error_of(response.status, response.headers.get("Retry-After", ""), body)
            return Answer(response.status, head_length, body)

    async def _read(self, response: aiohttp.ClientResponse, head_length: str) -> Body:
        size = content_length(response.headers.get("Content-Length", ""), self._max_bytes)
        if size is None:
            gathered = bytearray()
            async for piece in response.content.iter_any():
                gathered += piece
                if len(gathered) > self._max_bytes:
                    raise too_large(self._max_bytes)
            return gathered
        view, at = room(size, head_length), 0
        async for piece in response.content.iter_any():
            view[at : at + len(piece)] = piece
            at += len(piece)
        return view

    def _open(self) -> aiohttp.ClientSession:
        if self._closed:
            raise Unreachable(f"{self._address.url}: this client is closed")
        if self._session is None:
            connector: aiohttp.BaseConnector
            if self._address.uds:
                connector = aiohttp.UnixConnector(self._address.uds, limit=MAX_CONNECTIONS, keepalive_timeout=IDLE_S)
            else:
                connector = aiohttp.TCPConnector(
                    limit=MAX_CONNECTIONS, keepalive_timeout=IDLE_S, ssl=self._tls or True, force_close=False
                )
            self._session = aiohttp.ClientSession(
                connector=connector,
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            )
        return self._session

    def _lost(self, error: Exception) -> ClientError:
        where = self._address.url
        if isinstance(error, aiohttp.ClientConnectorCertificateError):
            return Unreachable(f"{where}: its certificate is not trusted: {error.certificate_error}")
        if isinstance(error, aiohttp.ClientConnectorError):
            number = error.os_error.errno
            return Unreachable(f"{where}: {os.strerror(number) if number else error.os_error}", unsent=True)
        if isinstance(error, aiohttp.ServerDisconnectedError | OSError):
            return Unreachable(f"{where}: {getattr(error, 'strerror', None) or error}")
        if isinstance(error, aiohttp.ClientPayloadError):
            return Unreachable(f"{where}: the answer broke off: {error}")
        return BadAnswer(f"{where}: want HTTP, got {error!r}"[:400])

    async def close(self) -> None:
        self._closed = True
        if self._session is not None:
            await self._session.close()


def _body(pieces: Sequence[bytes | memoryview]) -> bytes | AsyncIterator[bytes | memoryview] | None:
    if not pieces:
        return None
    return b"".join(pieces) if sum(map(len, pieces)) <= ONE_SEND_BYTES else _each(pieces)


async def _each(pieces: Sequence[bytes | memoryview]) -> AsyncIterator[bytes | memoryview]:
    for piece in pieces:
        for at in range(0, len(piece), ONE_SEND_BYTES):
            yield memoryview(piece)[at : at + ONE_SEND_BYTES]
