"""What a web server, or a bucket, may do to those who read from it: never more than an error, in time, that says what came."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from sync.domain.errors import Missing, Refused, StoreError, Unreachable
from sync.domain.ports import ReadStore
from sync.stores.aws import bucket_of
from sync.stores.http import HttpStore
from sync.stores.s3 import S3Store
from tests.contract.sync.subjects import QUICK
from tests.fakes.sync.bucket import SECRET, Buckets
from tests.fakes.sync.origin import Origin, serving

DATA = random.Random(1).randbytes(600_000)
PATH = "blobs/sha256/0a"
IN_KERNEL = 16 << 20
"""Bytes that a server may send before it notices that nobody reads."""
KINDS = pytest.mark.parametrize("kind", ["http", "s3"])


@asynccontextmanager
async def reading(kind: str, buckets: Buckets, behave: Callable[[int], str]) -> AsyncIterator[tuple[ReadStore, Origin]]:
    origin = Origin({f"/models/fleet/{PATH}": DATA}, behave)
    async with serving(origin):
        store: ReadStore
        if kind == "http":
            store = HttpStore(f"http://user:{SECRET.replace('/', '')}@{origin.url[7:]}/models/fleet", limits=QUICK.http)
        else:
            environment = buckets.environment | {"AWS_ENDPOINT_URL": origin.url}
            store = S3Store(bucket_of("s3://models/fleet", environment), limits=QUICK)
        try:
            yield store, origin
        finally:
            await store.close()


async def taken(store: ReadStore, start: int = 0, etag: str = "") -> bytes:
    """The rest of the object, as somebody takes it who knows how long it is."""
    part = await store.get_part(PATH, start=start, etag=etag)
    data = b""
    try:
        async for chunk in part.chunks:
            data += chunk
            if part.start + len(data) > len(DATA):
                return data
    finally:
        await part.chunks.aclose()  # type: ignore[attr-defined]
    return data


@KINDS
@pytest.mark.parametrize(
    ("what", "error"),
    [
        ("500", Refused),
        ("503:5", Refused),
        ("404", Missing),
        ("403", Missing),
        ("304", Refused),
        ("412", Refused),
        ("416", Refused),
        ("204", Refused),
        ("301", Refused),
        ("elsewhere", Refused),
        ("nowhere", Refused),
        ("around", Refused),
        ("gzip", Refused),
        ("complaint", Missing),
        ("noise", Unreachable),
        ("long", Unreachable),
        ("endless", Refused),
        ("break:100000", Unreachable),
        ("break:0", Unreachable),
        ("dribble", Unreachable),
    ],
)
async def test_an_answer_that_is_none_is_an_error_that_says_so(
    kind: str, buckets: Buckets, what: str, error: type[StoreError]
) -> None:
    async with reading(kind, buckets, lambda number: what) as (store, origin):
        async with asyncio.timeout(15):
            with pytest.raises(error) as caught:
                await store.get(PATH, max_bytes=len(DATA) + 100)
        assert caught.value.message.startswith(f"{store.name}/{PATH}: ")
        for secret in (SECRET.replace("/", ""), "X-Amz-", "user"):
            assert secret not in caught.value.message
        assert origin.sent < IN_KERNEL


@KINDS
@pytest.mark.parametrize(
    "what",
    ["500", "404", "304", "301", "elsewhere", "nowhere", "around", "gzip", "complaint", "noise", "long", "wrongrange"],
)
async def test_the_rest_of_an_object_is_not_taken_from_such_an_answer(kind: str, buckets: Buckets, what: str) -> None:
    async with reading(kind, buckets, lambda number: what) as (store, origin):
        async with asyncio.timeout(15):
            with pytest.raises(StoreError):
                await taken(store, 1000, '"1"')
        assert origin.sent < IN_KERNEL


@KINDS
@pytest.mark.parametrize("what", ["etag", "othertag", "norange", "412", "416"])
async def test_where_the_object_is_another_all_of_it_is_taken(kind: str, buckets: Buckets, what: str) -> None:
    def behave(number: int) -> str:
        return what if number == 0 or not what.isdigit() else ""

    async with reading(kind, buckets, behave) as (store, _):
        assert await taken(store, 1000, '"of another day"') == DATA


@KINDS
async def test_a_body_without_end_is_left_by_who_has_enough(kind: str, buckets: Buckets) -> None:
    async with reading(kind, buckets, lambda number: "endless") as (store, origin):
        async with asyncio.timeout(15):
            assert len(await taken(store)) > len(DATA)
            with pytest.raises(Refused, match="want at most 600000 bytes"):
                await store.get(PATH, max_bytes=len(DATA))
        assert origin.sent < 2 * IN_KERNEL


@KINDS
async def test_a_wait_that_is_asked_for_is_handed_on(kind: str, buckets: Buckets) -> None:
    async with reading(kind, buckets, lambda number: "503:41") as (store, _):
        with pytest.raises(Refused) as caught:
            await store.get(PATH, max_bytes=1)
        assert caught.value.retry_after_s == 41


@KINDS
async def test_after_an_error_the_next_read_is_as_good_as_any(kind: str, buckets: Buckets) -> None:
    what = ""
    async with reading(kind, buckets, lambda number: what) as (store, _):
        for each in ("500", "break:1000", "complaint", "noise", "endless", "long", "elsewhere"):
            what = each
            with pytest.raises(StoreError):
                await store.get(PATH, max_bytes=len(DATA) + 100)
            what = ""
            assert await taken(store) == DATA
