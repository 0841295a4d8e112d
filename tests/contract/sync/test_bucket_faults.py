"""Buckets that fail, lose answers, do not compare, or hang; publishers who cannot know whether they have written."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Callable
from dataclasses import replace

import pytest

from sync.domain.errors import Conflict, Missing, Refused, StoreError, Unreachable
from sync.stores.aws import bucket_of
from sync.stores.s3 import PROBE, S3Store
from sync.stores.web import HttpLimits
from tests.contract.sync.subjects import QUICK, s3
from tests.fakes.sync.bucket import KEY, SECRET, Buckets
from tests.waiting import until

PATH = "metadata/timestamp.json"


def on(wanted: str, *whats: str) -> Callable[[str, str], str]:
    """What is done to the first, the second … request of a method for PATH; nothing to the others."""
    left = list(whats)

    def behave(method: str, path: str) -> str:
        return left.pop(0) if left and method == wanted and path.endswith(PATH) else ""

    return behave


@pytest.mark.parametrize("what", ["503:SlowDown", "500:InternalError", "409:ConditionalRequestConflict", "cut", "lost"])
@pytest.mark.parametrize("times", [1, 3])
async def test_a_write_that_fails_in_passing_is_done_once(buckets: Buckets, what: str, times: int) -> None:
    store = s3(buckets)
    await store.create("other", b"")
    buckets.behave = on("PUT", *[what] * times)
    assert await store.create(PATH, b"first")
    found = await store.tagged(PATH)
    assert found is not None
    buckets.behave = on("PUT", *[what] * times)
    tag = await store.swap(PATH, b"second", was=found[1])
    assert await store.tagged(PATH) == (b"second", tag)
    await store.close()


@pytest.mark.parametrize("first", ["cut", "lost"])
async def test_what_another_wrote_while_an_answer_was_lost_is_not_taken_for_ours(buckets: Buckets, first: str) -> None:
    store = s3(buckets)
    tag = await store.swap(PATH, b"first", was=None)
    bucket = store.name.split("/")[2]
    attempts = []

    def behave(method: str, path: str) -> str:
        if method != "PUT":
            return ""
        attempts.append(path)
        if len(attempts) == 1:
            return first
        buckets.overwrite(bucket, path.removeprefix(f"/{bucket}/"), b"theirs")
        return ""

    buckets.behave = behave
    with pytest.raises(Conflict, match="ours may have been there before"):
        await store.swap(PATH, b"second", was=tag)
    found = await store.tagged(PATH)
    assert found is not None
    assert found[0] == b"theirs"
    attempts.clear()
    assert not await store.create("blobs/new", b"ours")
    assert await store.get("blobs/new", max_bytes=100) == b"theirs"
    await store.close()


async def test_a_swap_whose_every_answer_was_lost_was_done_if_it_is_there(buckets: Buckets) -> None:
    store = s3(buckets)
    tag = await store.swap(PATH, b"first", was=None)
    buckets.behave = on("PUT", "lost", "cut", "cut", "cut")
    tag = await store.swap(PATH, b"second", was=tag)
    assert await store.tagged(PATH) == (b"second", tag)
    await store.close()


async def test_what_nobody_knows_to_be_written_is_said_to_be_so(buckets: Buckets) -> None:
    store = s3(buckets)
    tag = await store.swap(PATH, b"first", was=None)
    buckets.behave = on("PUT", *["cut"] * 4)
    with pytest.raises(Unreachable, match="nobody knows whether it was written"):
        await store.swap(PATH, b"second", was=tag)
    buckets.behave = on("PUT", *["409:ConditionalRequestConflict"] * 4)
    with pytest.raises(Refused, match=r"409 ConditionalRequestConflict\Z"):
        await store.swap(PATH, b"second", was=tag)
    assert await store.tagged(PATH) == (b"first", tag)
    await store.close()


@pytest.mark.parametrize(
    ("what", "error", "told"),
    [
        ("403:AccessDenied", Refused, "403 AccessDenied"),
        ("403:SignatureDoesNotMatch", Refused, "403 SignatureDoesNotMatch"),
        ("404:NoSuchBucket", Missing, "404 NoSuchBucket"),
        ("400:ExpiredToken", Refused, "400 ExpiredToken"),
        ("301:PermanentRedirect", Refused, "another region"),
    ],
)
async def test_a_write_that_is_refused_is_not_tried_again(
    buckets: Buckets, what: str, error: type[StoreError], told: str
) -> None:
    store = s3(buckets)
    await store.create("other", b"")
    asked = buckets.count("PUT")
    buckets.behave = on("PUT", what, what, what)
    with pytest.raises(error, match=told):
        await store.create(PATH, b"first")
    with pytest.raises(error, match=told):
        await store.swap(PATH, b"first", was='"1"')
    assert buckets.count("PUT") == asked + 2
    await store.close()


@pytest.mark.parametrize("method", ["create", "swap"])
async def test_a_bucket_that_does_not_compare_is_not_written_to(buckets: Buckets, method: str) -> None:
    store = s3(buckets)
    buckets.behave = lambda verb, path: "blind"
    for _ in range(2):
        with pytest.raises(Refused, match="writes over what is there in spite of If-None-Match; want a bucket with"):
            await (store.create(PATH, b"x") if method == "create" else store.swap(PATH, b"x", was=None))
    assert await store.tagged(PATH) is None
    await store.close()


async def test_a_bucket_that_compares_one_way_only_is_not_written_to(buckets: Buckets) -> None:
    store = s3(buckets)

    def behave(method: str, path: str) -> str:
        return "blind" if "If-Match" in buckets.asked[-1][2] else ""

    buckets.behave = behave
    with pytest.raises(Refused, match="in spite of If-Match"):
        await store.create(PATH, b"x")
    await store.close()


async def test_a_bucket_is_tried_out_once_and_what_that_leaves_is_no_object(buckets: Buckets) -> None:
    store = s3(buckets)
    await asyncio.gather(*(store.create(f"blobs/{each}", b"") for each in range(4)))
    assert [path for method, path, _ in buckets.asked if path.endswith(PROBE)] == [
        f"/{store.name.split('/')[2]}/fleet/one/{PROBE}"
    ] * 3
    assert [path async for path, _, _ in store.walk("metadata")] == []
    again = s3(buckets, store.name.split("/")[2])
    asked = len(buckets.asked)
    await again.create(PATH, b"")
    assert len(buckets.asked) - asked <= 4
    for each in (store, again):
        await each.close()


async def test_a_bucket_that_hangs_is_given_up(buckets: Buckets) -> None:
    limits = replace(QUICK, http=HttpLimits(connect_s=0.5, read_s=0.3, total_s=0.4), attempts=2)
    store = s3(buckets, limits=limits)
    await store.create("other", b"")
    buckets.behave = lambda method, path: "hang"
    async with asyncio.timeout(10):
        with pytest.raises(Unreachable, match="no answer in time"):
            await store.get(PATH, max_bytes=1)
        with pytest.raises(Unreachable, match="no answer in time"):
            await store.create(PATH, b"x")
        with pytest.raises(Unreachable, match="no answer in time"):
            await store.delete(PATH)
        with pytest.raises(Unreachable, match="no answer in time"):
            await anext(store.walk(""))
    buckets.release.set()
    await store.close()


async def test_who_is_called_off_in_a_write_leaves_no_other_hanging(buckets: Buckets) -> None:
    store = s3(buckets)
    await store.create("other", b"")
    buckets.behave = lambda method, path: "hang" if method == "PUT" else ""
    writing = asyncio.ensure_future(store.create(PATH, bytes(100_000)))
    await until(lambda: buckets.asked and buckets.asked[-1][1].endswith(PATH))
    writing.cancel()
    await asyncio.wait((writing,))
    assert writing.cancelled()
    buckets.behave = lambda method, path: ""
    buckets.release.set()
    assert await store.create("third", b"")
    await store.close()


async def test_nobody_there_is_unreachable(buckets: Buckets) -> None:
    environment = buckets.environment | {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}
    store = S3Store(bucket_of("s3://models/x", environment), limits=replace(QUICK, attempts=2))
    for work in (store.get(PATH, max_bytes=1), store.tagged(PATH), store.create(PATH, b""), store.delete(PATH)):
        with pytest.raises(Unreachable):
            await work
    with pytest.raises(Unreachable):
        await anext(store.walk(""))
    await store.close()


async def test_a_bucket_that_may_not_be_listed_hides_what_is_missing(buckets: Buckets) -> None:
    store = s3(buckets)
    buckets.behave = on("GET", "403:AccessDenied", "403:AccessDenied", "403:InvalidAccessKeyId")
    with pytest.raises(Missing):
        await store.get(PATH, max_bytes=100)
    assert await store.tagged(PATH) is None
    with pytest.raises(Refused, match="InvalidAccessKeyId"):
        await store.get(PATH, max_bytes=100)
    await store.close()


async def test_no_key_and_no_signature_is_in_any_message_or_log(
    buckets: Buckets, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    store = s3(buckets)
    messages = [repr(store), repr(vars(store)["_bucket"]), store.name]
    for what in ("403:SignatureDoesNotMatch", "503:SlowDown", "404:NoSuchBucket", "cut", "400:Bad", "301:Moved"):
        buckets.behave = lambda method, path, what=what: what  # type: ignore[misc]
        for work in (
            store.get(PATH, max_bytes=1),
            store.get_part(PATH, start=1, etag='"a"'),
            store.create(PATH, b"x"),
            store.swap(PATH, b"x", was='"b"'),
            anext(store.walk("")),
        ):
            with pytest.raises(StoreError) as caught:
                await work
            messages += [caught.value.message, repr(caught.value), "".join(traceback.format_exception(caught.value))]
    for message in (*messages, caplog.text):
        for secret in (SECRET, KEY, "X-Amz-", "Signature="):
            assert secret not in message
    await store.close()


async def test_an_idle_poll_brings_no_body(buckets: Buckets) -> None:
    store = s3(buckets)
    await store.create(PATH, b"x" * 1000)
    for _ in range(3):
        assert await store.get(PATH, max_bytes=1000) == b"x" * 1000
    tags = [headers.get("If-None-Match") for method, path, headers in buckets.asked if method == "GET"]
    found = await store.tagged(PATH)
    assert found is not None
    assert tags == [None, found[1], found[1]]
    await store.close()


async def test_a_listing_goes_on_over_pages_and_has_an_end(buckets: Buckets) -> None:
    store = s3(buckets)
    await store.create("blobs/first", b"")
    bucket = store.name.split("/")[2]
    for number in range(2100):
        buckets.overwrite(bucket, f"fleet/one/blobs/{number:05}", b"")
    found = [path async for path, _, _ in store.walk("blobs")]
    assert len(found) == len(set(found)) == 2101
    assert sum(method == "GET" and path.rstrip("/") == f"/{bucket}" for method, path, _ in buckets.asked) == 3
    few = s3(buckets, bucket, limits=replace(QUICK, listed=1500))
    with pytest.raises(Refused, match="want at most 1500 objects, got more"):
        _ = [path async for path, _, _ in few.walk("blobs")]
    for each in (store, few):
        await each.close()


async def test_what_is_too_large_for_one_request_is_refused_before_it_is_read(buckets: Buckets) -> None:
    store = s3(buckets, limits=replace(QUICK, object_bytes=10, tagged_bytes=5))
    with pytest.raises(Refused, match="want at most 10 bytes, got 11"):
        await store.create(PATH, b"x" * 11)
    assert await store.create(PATH, b"x" * 10)
    with pytest.raises(Refused, match="want at most 5 bytes"):
        await store.tagged(PATH)
    await store.close()


async def test_a_bucket_that_all_may_read_is_read_without_a_signature(buckets: Buckets) -> None:
    store = s3(buckets)
    await store.create(PATH, b"public")
    buckets.publish(store.name.split("/")[2])
    environment = {name: text for name, text in buckets.environment.items() if "KEY" not in name}
    anonymous = S3Store(bucket_of(store.name, environment | {"AWS_SKIP_SIGNATURE": "true"}), limits=QUICK)
    buckets.check_signatures = False
    try:
        assert await anonymous.get(PATH, max_bytes=100) == b"public"
        assert [path async for path, _, _ in anonymous.walk("metadata")] == [PATH]
    finally:
        buckets.check_signatures = True
    assert not any("Authorization" in headers for _, _, headers in buckets.asked)
    for each in (store, anonymous):
        await each.close()
