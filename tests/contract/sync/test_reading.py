"""What every store promises to those who read: `sync.domain.ports.ReadStore`."""

from __future__ import annotations

import asyncio
import random

import pytest

from sync.domain.errors import Missing, Refused, StoreError, Unreachable
from sync.domain.ports import Part
from tests.contract.sync.subjects import READING, Subject

DATA = random.Random(1).randbytes(1_500_000)
OTHER = random.Random(2).randbytes(1_400_000)
SMALL = b'{"small": true}'
PATH = "blobs/sha256/0a"

pytestmark = pytest.mark.parametrize("store", READING, indirect=True)


async def rest(part: Part) -> bytes:
    try:
        return b"".join([chunk async for chunk in part.chunks])
    finally:
        await close(part)


async def close(part: Part) -> None:
    await part.chunks.aclose()  # type: ignore[attr-defined]


async def put(store: Subject, path: str, data: bytes) -> None:
    found = await store.writer.tagged(path)
    await store.writer.swap(path, data, was=found[1] if found else None)


async def test_what_was_written_is_read(store: Subject) -> None:
    for path, data in ((PATH, DATA), ("metadata/1.root.json", SMALL), ("empty", b"")):
        await put(store, path, data)
        assert await store.reader.get(path, max_bytes=len(DATA)) == data
        part = await store.reader.get_part(path, start=0, etag="")
        assert (part.start, part.total) == (0, len(data))
        assert await rest(part) == data


@pytest.mark.parametrize(
    "path", ["models/a b/1.json", "models/ä/ß.json", "a+b", "%41", "a%2fb", "a#b?c=d&e", "~a;=@,'()!*$[]{}^|<>"]
)
async def test_names_are_taken_as_they_are(store: Subject, path: str) -> None:
    await put(store, path, SMALL)
    assert await store.reader.get(path, max_bytes=100) == SMALL
    assert await rest(await store.reader.get_part(path, start=3, etag="")) == SMALL[3:]


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../secret", "a/../../secret", "a//b", "a/", "a\\b", "a\0b"])
async def test_a_name_that_leads_out_of_the_store_is_refused(store: Subject, path: str) -> None:
    (store.path / "secret").write_bytes(SMALL)
    with pytest.raises(Refused):
        await store.reader.get(path, max_bytes=100)
    with pytest.raises(Refused):
        await store.reader.get_part(path, start=0, etag="")


async def test_what_is_not_there_is_missing(store: Subject) -> None:
    await put(store, "a/b", SMALL)
    for path in ("c", "a/c", "a/b/c", "a"):
        with pytest.raises(Missing):
            await store.reader.get(path, max_bytes=100)
        for start, etag in ((0, ""), (3, ""), (3, '"tag"')):
            with pytest.raises(Missing):
                await store.reader.get_part(path, start=start, etag=etag)


async def test_never_more_is_taken_than_was_asked_for(store: Subject) -> None:
    await put(store, PATH, DATA)
    await put(store, "small", SMALL)
    assert await store.reader.get(PATH, max_bytes=len(DATA)) == DATA
    for path, most in ((PATH, len(DATA) - 1), (PATH, 0), ("small", len(SMALL) - 1)):
        with pytest.raises(Refused, match=f"want at most {most} bytes"):
            await store.reader.get(path, max_bytes=most)
    assert await store.reader.get("small", max_bytes=len(SMALL)) == SMALL
    with pytest.raises(Refused, match="want at most 3 bytes"):  # and it is remembered now
        await store.reader.get("small", max_bytes=3)


@pytest.mark.parametrize("start", [1, 262_144, 1_000_000, len(DATA) - 1, len(DATA), len(DATA) + 1, 10 * len(DATA)])
@pytest.mark.parametrize("held", [True, False])
async def test_a_read_goes_on_where_it_says(store: Subject, start: int, held: bool) -> None:
    await put(store, PATH, DATA)
    first = await store.reader.get_part(PATH, start=0, etag="")
    await close(first)
    assert first.etag
    part = await store.reader.get_part(PATH, start=start, etag=first.etag if held else "")
    assert part.start == start if start < len(DATA) else part.start in (0, start)
    assert (part.total, part.etag) == (len(DATA), first.etag)
    assert await rest(part) == DATA[part.start :]


async def test_an_object_that_was_replaced_is_read_from_its_beginning(store: Subject) -> None:
    await put(store, PATH, DATA)
    first = await store.reader.get_part(PATH, start=0, etag="")
    await close(first)
    await put(store, PATH, OTHER)
    for etag in (first.etag, '"nobody\'s"'):
        part = await store.reader.get_part(PATH, start=1000, etag=etag)
        assert (part.start, part.total) == (0, len(OTHER))
        assert part.etag not in ("", first.etag)
        assert await rest(part) == OTHER


async def test_an_object_of_the_same_length_is_another_all_the_same(store: Subject) -> None:
    if store.kind == "http":
        pytest.skip("the server tells files apart by their times, which are as coarse as the system's clock")
    await put(store, PATH, b"first" * 1000)
    first = await store.reader.get_part(PATH, start=0, etag="")
    await close(first)
    await put(store, PATH, b"other" * 1000)
    part = await store.reader.get_part(PATH, start=100, etag=first.etag)
    assert part.start == 0
    assert await rest(part) == b"other" * 1000


async def test_an_object_that_is_replaced_while_it_is_read_is_read_to_its_end_or_not_at_all(store: Subject) -> None:
    await put(store, PATH, DATA)
    part = await store.reader.get_part(PATH, start=0, etag="")
    await put(store, PATH, OTHER)
    try:
        assert await rest(part) == DATA
    except Unreachable:
        assert store.kind != "memory"
    assert await store.reader.get(PATH, max_bytes=len(DATA)) == OTHER


async def test_what_changed_is_seen_by_the_next_read(store: Subject) -> None:
    for number in range(12):
        data = b"version %d" % 10**number
        await put(store, "metadata/timestamp.json", data)
        for _ in range(2):
            assert await store.reader.get("metadata/timestamp.json", max_bytes=100) == data
    await store.writer.delete("metadata/timestamp.json")
    with pytest.raises(Missing):
        await store.reader.get("metadata/timestamp.json", max_bytes=100)


async def test_who_stops_reading_lets_go_of_what_he_held(store: Subject) -> None:
    await put(store, PATH, DATA)
    for number in range(12):
        part = await store.reader.get_part(PATH, start=number, etag="")
        if number % 2:
            assert (await anext(part.chunks))[:1] == DATA[number : number + 1]
        await close(part)
        await close(part)
        with pytest.raises(StopAsyncIteration):
            await anext(part.chunks)
    async with asyncio.timeout(5):
        assert await store.reader.get(PATH, max_bytes=len(DATA)) == DATA


async def test_many_may_read_at_once(store: Subject) -> None:
    await put(store, PATH, DATA)
    await put(store, "small", SMALL)

    async def read(number: int) -> bool:
        if number % 2:
            return await store.reader.get("small", max_bytes=100) == SMALL
        return await rest(await store.reader.get_part(PATH, start=number, etag="")) == DATA[number:]

    assert all(await asyncio.gather(*map(read, range(24))))


async def test_who_is_called_off_in_a_read_hurts_nobody(store: Subject) -> None:
    await put(store, PATH, DATA)
    for wait_s in (0.0, 0.001, 0.003, 0.01):
        reading = asyncio.ensure_future(store.reader.get(PATH, max_bytes=len(DATA)))
        await asyncio.sleep(wait_s)
        reading.cancel()
        await asyncio.wait((reading,))
    assert await store.reader.get(PATH, max_bytes=len(DATA)) == DATA


async def test_a_store_that_is_closed_twice_is_closed(store: Subject) -> None:
    await put(store, "small", SMALL)
    await store.reader.get("small", max_bytes=100)
    await store.reader.close()
    await store.reader.close()


async def test_errors_name_the_store_and_the_object(store: Subject) -> None:
    with pytest.raises(StoreError) as caught:
        await store.reader.get("a/b", max_bytes=1)
    assert "a/b" in caught.value.message
    assert store.reader.name in caught.value.message
    assert "\n" not in caught.value.message
