"""What a web server may write into the head of an answer: nothing there ends whoever reads from it, or is told back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import pytest

from sync.domain.errors import Refused, StoreError
from sync.stores.http import HttpLimits, HttpStore

PATH = "metadata/timestamp.json"
DATE = b"Date: Mon, 01 Jan 2024 00:00:00 GMT"
NEVER = b"Mon, 01 Jan 99999999999999999999 00:00:00 GMT"
"""A year that fits no calendar, nor a machine's integer."""


@asynccontextmanager
async def answering(
    status: bytes, *fields: bytes, host: str = "127.0.0.1"
) -> AsyncIterator[tuple[HttpStore, list[bytes]]]:
    """A store whose every answer has this head, byte for byte, and what it is asked with."""
    heads: list[bytes] = []
    answer = b"\r\n".join((b"HTTP/1.1 " + status, *fields, b"Content-Length: 2", b"", b"{}"))

    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())  # type: ignore[arg-type]
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                heads.append(await reader.readuntil(b"\r\n\r\n"))
                writer.write(answer)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    store = HttpStore(f"http://{host}:{server.sockets[0].getsockname()[1]}", limits=HttpLimits(read_s=2.0))
    try:
        yield store, heads
    finally:
        await store.close()
        server.close()
        await asyncio.gather(*serving)


@pytest.mark.parametrize("location", [b"file:///etc/passwd", b"mailto:x", b"javascript:1", b"http://\xff/", b"http://h:99999/"])  # fmt: skip
async def test_a_redirect_to_what_has_no_host_is_refused(location: bytes) -> None:
    async with answering(b"302 Found", b"Location: " + location) as (store, _):
        with pytest.raises(Refused, match="redirected"):
            await store.get(PATH, max_bytes=100)


@pytest.mark.parametrize(
    ("status", "fields"),
    [
        (b"503 Busy", [b"Retry-After: " + NEVER, DATE]),
        (b"503 Busy", [b"Retry-After: Mon, 01 Jan 2024 00:00:00 +99999999999999999999", DATE]),
        (b"500 \xff\x9b31m", []),
        (b"200 OK", [b"Content-Encoding: \xff"]),
        (b"206 Partial", [b"Content-Range: bytes \xff"]),
    ],
)
async def test_a_head_that_makes_no_sense_is_an_error_that_can_be_written_down(
    status: bytes, fields: Sequence[bytes]
) -> None:
    async with answering(status, *fields) as (store, _):
        with pytest.raises(StoreError) as got:
            await (await store.get_part(PATH, start=0, etag="")).chunks.__anext__()
        got.value.message.encode()
        with pytest.raises(StoreError) as got:
            await store.get(PATH, max_bytes=100)
        got.value.message.encode()


async def test_a_time_that_cannot_be_makes_no_tag_worth_remembering() -> None:
    async with answering(b"200 OK", b'ETag: "1"', b"Last-Modified: " + NEVER, DATE) as (store, heads):
        for _ in range(2):
            assert await store.get(PATH, max_bytes=100) == b"{}"
    assert b"If-None-Match" not in heads[1]


@pytest.mark.parametrize("tag", [b'"\xff"', b'"\x01"', b'"' + b"x" * 4000 + b'"'])
async def test_a_tag_that_cannot_be_told_back_is_none(tag: bytes) -> None:
    async with answering(b"200 OK", b"ETag: " + tag) as (store, heads):
        for _ in range(2):
            assert await store.get(PATH, max_bytes=100) == b"{}"
        part = await store.get_part(PATH, start=0, etag="")
        assert part.etag == ""
    assert b"If-None-Match" not in heads[1]


async def test_a_cookie_is_neither_kept_nor_shown() -> None:
    async with answering(b"200 OK", b"Set-Cookie: who=camera-7; Max-Age=99999999", host="localhost") as (store, heads):
        for _ in range(2):
            await store.get(PATH, max_bytes=100)
    assert b"cookie" not in heads[1].lower()
