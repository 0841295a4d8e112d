from __future__ import annotations

import gzip
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.utils import formatdate

import pytest
from aiohttp import web

from sync.domain.errors import Refused
from sync.domain.layout import TIMESTAMP
from sync.stores.bodies import OVERHEAD_BYTES, settled, whole
from sync.stores.http import HttpStore

TEXT = b'{"signed": true}' * 100
DAY_S = 86_400.0
NOW = 1_795_000_000.0


async def pieces(data: bytes, step: int = 7) -> AsyncIterator[bytes]:
    for at in range(0, len(data), step):
        yield data[at : at + step]


async def read(data: bytes, encoding: str = "gzip", *, max_bytes: int = 10_000, step: int = 7) -> bytes:
    return await whole("x.json", encoding, pieces(data, step), max_bytes=max_bytes)


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", " gzip"])
async def test_what_is_packed_is_unpacked(encoding: str) -> None:
    assert await read(gzip.compress(TEXT), encoding) == TEXT


@pytest.mark.parametrize("encoding", ["", "identity", "aws-chunked"])
async def test_what_is_not_packed_is_taken_as_it_is(encoding: str) -> None:
    assert await read(TEXT, encoding) == TEXT
    assert await read(b"", encoding) == b""


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip", "zstd"])
async def test_other_codings_are_refused(encoding: str) -> None:
    with pytest.raises(Refused, match="as they are, or gzip"):
        await read(TEXT, encoding)


@pytest.mark.parametrize("encoding", ["", "gzip"])
@pytest.mark.parametrize("step", [1, 1 << 18])
async def test_exactly_as_many_bytes_as_were_asked_for_are_taken_and_not_one_more(encoding: str, step: int) -> None:
    data = gzip.compress(TEXT) if encoding else TEXT
    assert await read(data, encoding, max_bytes=len(TEXT), step=step) == TEXT
    with pytest.raises(Refused, match=f"want at most {len(TEXT) - 1} bytes"):
        await read(data, encoding, max_bytes=len(TEXT) - 1, step=step)


async def test_a_bomb_is_not_unpacked_beyond_what_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    real = zlib.decompressobj

    class Watched:
        def __init__(self, window: int) -> None:
            self._real = real(window)

        def decompress(self, data: bytes, most: int) -> bytes:
            out = self._real.decompress(data, most)
            taken.append(len(out))
            return out

    bomb = gzip.compress(bytes(50_000_000))
    monkeypatch.setattr("sync.stores.bodies.zlib.decompressobj", Watched)
    with pytest.raises(Refused, match="want at most 1000 bytes"):
        await read(bomb, max_bytes=1000, step=1 << 18)
    assert sum(taken) <= 1001


async def test_packing_that_makes_much_of_nothing_is_refused() -> None:
    empty = gzip.compress(b"")
    with pytest.raises(Refused):
        await read(empty[:10] + bytes(5) + b"\0\0\0\xff\xff" * OVERHEAD_BYTES, max_bytes=100)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(TEXT, id="not packed"),
        pytest.param(gzip.compress(TEXT)[:-1], id="short"),
        pytest.param(gzip.compress(TEXT) + b"x", id="long"),
        pytest.param(gzip.compress(TEXT) * 2, id="twice"),
        pytest.param(gzip.compress(TEXT)[:-8] + bytes(8), id="another sum"),
    ],
)
async def test_what_cannot_be_unpacked_is_refused(data: bytes) -> None:
    with pytest.raises(Refused, match="gzip"):
        await read(data)


@pytest.mark.parametrize(
    ("written", "answered", "trusted"),
    [
        (NOW - DAY_S, NOW, True),
        (NOW - 60, NOW, True),
        (NOW - 59, NOW, False),
        (NOW, NOW, False),
        (NOW + 5, NOW, False),
        (None, NOW, True),
        (NOW, None, False),
        (None, None, True),
    ],
)
def test_a_tag_is_trusted_where_the_object_is_old_enough(
    written: float | None, answered: float | None, trusted: bool
) -> None:
    times = {"Last-Modified": written, "Date": answered}
    headers = {name: formatdate(when, usegmt=True) for name, when in times.items() if when is not None}
    assert settled(headers) is trusted


@pytest.mark.parametrize("text", ["yesterday", "", "Fri, 99 Nov 2026 10:00:00 GMT"])
def test_times_that_make_no_sense_are_no_reason_to_trust_a_tag(text: str) -> None:
    assert not settled({"Last-Modified": text, "Date": formatdate(NOW, usegmt=True)})


class Site:
    """One file, known by the second of its writing and its size, as nginx knows it."""

    def __init__(self) -> None:
        self.body, self.written = b"1", 0.0
        self.asked: list[tuple[str, str]] = []
        self.statuses: list[int] = []
        self.suffix = ""

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append((request.headers.get("Accept-Encoding", ""), request.headers.get("If-None-Match", "")))
        packed = "gzip" in request.headers.get("Accept-Encoding", "")
        tag = f'"{int(self.written):x}-{len(self.body):x}{self.suffix if packed else ""}"'
        same = request.headers.get("If-None-Match") == tag
        times = {"Last-Modified": formatdate(self.written, usegmt=True), "Date": formatdate(NOW, usegmt=True)}
        headers = {"ETag": tag, **times}
        self.statuses.append(304 if same else 200)
        if same:
            return web.Response(status=304, headers=headers)
        response = web.Response(body=self.body, headers=headers)
        if packed:
            response.enable_compression(web.ContentCoding.gzip)
        return response


@asynccontextmanager
async def served() -> AsyncIterator[tuple[Site, HttpStore]]:
    site, app = Site(), web.Application()
    app.router.add_get("/{path:.*}", site.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    store = HttpStore(f"http://127.0.0.1:{runner.addresses[0][1]}")
    try:
        yield site, store
    finally:
        await store.close()
        await runner.cleanup()


async def test_two_timestamps_of_one_second_and_one_size_are_both_read() -> None:
    async with served() as (site, store):
        site.body, site.written = b"first ", NOW
        assert await store.get(TIMESTAMP, max_bytes=100) == b"first "
        site.body = b"second"
        assert await store.get(TIMESTAMP, max_bytes=100) == b"second"
        assert site.statuses == [200, 200]


async def test_a_timestamp_that_has_been_there_for_long_is_sent_once() -> None:
    async with served() as (site, store):
        site.written = NOW - DAY_S
        for _ in range(3):
            assert await store.get(TIMESTAMP, max_bytes=100) == b"1"
        assert site.statuses == [200, 304, 304]


async def test_documents_are_asked_for_packed_until_there_is_a_tag_to_ask_with() -> None:
    async with served() as (site, store):
        site.body = TEXT
        for _ in range(3):
            assert await store.get(TIMESTAMP, max_bytes=len(TEXT)) == TEXT
        tag = f'"0-{len(TEXT):x}"'
        assert site.asked == [("gzip", ""), ("identity", tag), ("identity", tag)]


async def test_a_server_that_packs_under_another_tag_sends_a_timestamp_once_more_and_then_no_more() -> None:
    """As Apache does: what is packed has `-gzip` in its tag, which it does not know again."""
    async with served() as (site, store):
        site.suffix = "-gzip"
        for _ in range(4):
            assert await store.get(TIMESTAMP, max_bytes=100) == b"1"
        assert site.statuses == [200, 200, 304, 304]


async def test_blobs_are_never_packed() -> None:
    async with served() as (site, store):
        part = await store.get_part("blobs/sha256/00", start=0, etag="")
        assert b"".join([chunk async for chunk in part.chunks]) == b"1"
        assert [coding for coding, _ in site.asked] == ["identity"]
