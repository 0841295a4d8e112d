"""What a write to a bucket does to what is there already, and where it does not go."""

from __future__ import annotations

import time

import pytest

from sync.domain.errors import Missing, Refused
from sync.stores.s3 import PROBE, S3Store
from tests.contract.sync.subjects import s3
from tests.fakes.sync.bucket import Buckets

PATH = "blobs/a"
KEY = f"fleet/one/{PATH}"
HOUR_S = 3600.0


def bucket_of(store: S3Store) -> str:
    return store.name.split("/")[2]


async def is_new(store: S3Store) -> bool:
    (changed,) = [at async for path, _, at in store.walk("blobs") if path == PATH]
    return time.time() - changed < 100


async def test_in_a_bucket_whose_tags_are_no_digests_it_is_the_same(buckets: Buckets) -> None:
    store = s3(buckets)
    await store.create(PATH, b"ours")
    for data, new in ((b"theirs", False), (b"OURS", False), (b"ours", True)):
        buckets.age(bucket_of(store), KEY, HOUR_S, tag="0123456789abcdef0123456789abcdef-1")
        assert not await store.create(PATH, data)
        assert await is_new(store) == new
        assert await store.get(PATH, max_bytes=100) == b"ours"
    await store.close()


@pytest.mark.parametrize("what", ["lost", "cut", "503:SlowDown"])
async def test_what_fails_in_passing_while_it_is_put_again_is_tried_again(buckets: Buckets, what: str) -> None:
    store = s3(buckets)
    await store.create(PATH, b"ours")
    buckets.age(bucket_of(store), KEY, HOUR_S)
    puts = []

    def behave(method: str, path: str) -> str:
        puts.extend([path] if method == "PUT" and path.endswith(PATH) else [])
        return what if method == "PUT" and len(puts) == 2 else ""

    buckets.behave = behave
    assert not await store.create(PATH, b"ours")
    assert len(puts) > 2
    assert await is_new(store)
    await store.close()


@pytest.mark.parametrize("before", ["GET", "PUT"])
async def test_what_goes_while_it_is_put_again_is_written_after_all(buckets: Buckets, before: str) -> None:
    """`before`: it goes before it is looked at, or before it is put again."""
    store = s3(buckets)
    await store.create(PATH, b"ours")
    asked: list[str] = []

    def behave(method: str, path: str) -> str:
        if path.endswith(PATH):
            asked.append(method)
            if method == before and asked.count(method) == (1 if before == "GET" else 2):
                buckets.remove(bucket_of(store), KEY)
        return ""

    buckets.behave = behave
    assert await store.create(PATH, b"ours")
    assert await store.get(PATH, max_bytes=100) == b"ours"
    await store.close()


@pytest.mark.parametrize("other", ["empty", "full"])
@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
async def test_a_write_that_is_sent_elsewhere_is_refused_and_nothing_is_written_there(
    buckets: Buckets, code: int, other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`full`: there is a bucket with the same objects there, which anybody may read."""
    elsewhere, store = s3(buckets), s3(buckets)
    if other == "full":
        await elsewhere.create(PATH, b"theirs")
    mine, theirs = bucket_of(store), bucket_of(elsewhere)
    monkeypatch.setattr(buckets, "check_signatures", False)
    buckets.asked.clear()

    def behave(method: str, path: str) -> str:
        return f"{code}:{buckets.url}{path.replace(mine, theirs)}" if method == "PUT" and mine in path else ""

    buckets.behave = behave
    for _ in range(2):
        with pytest.raises((Refused, Missing)):
            await store.create(PATH, b"ours")
        with pytest.raises((Refused, Missing)):
            await store.swap(PATH, b"ours", was=None)
    assert not [path for method, path, _ in buckets.asked if method == "PUT" and theirs in path]
    assert any(path.endswith(PROBE) for _, path, _ in buckets.asked)
    buckets.behave = lambda method, path: ""
    await store.close()
    await elsewhere.close()
