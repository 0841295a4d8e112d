"""What every store that can be written to promises: `sync.domain.ports.WriteStore`."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from pathlib import Path

import pytest

from sync.domain.errors import Conflict, Missing, Refused, StoreError
from tests.contract.sync.subjects import WRITING, Subject

PATH = "metadata/timestamp.json"
MANY = 8

pytestmark = pytest.mark.parametrize("store", WRITING, indirect=True)


async def listed(store: Subject, prefix: str) -> list[str]:
    return [path async for path, _, _ in store.writer.walk(prefix)]


async def test_what_is_created_stays_as_it_is(store: Subject) -> None:
    assert await store.writer.create("blobs/a", b"first")
    for data in (b"second", b"first", b""):
        assert not await store.writer.create("blobs/a", data)
    assert await store.reader.get("blobs/a", max_bytes=100) == b"first"


async def test_what_somebody_wants_again_is_new_to_who_collects_garbage(store: Subject) -> None:
    file = store.path / "file"
    file.write_bytes(b"wanted")
    wanted: tuple[bytes | Path, ...] = (b"wanted", file, b"")
    for number, data in enumerate(wanted):
        path = f"blobs/{number}"
        assert await store.writer.create(path, data)
        store.age(path, 3600)
        assert await age(store, path) > 3500
        assert not await store.writer.create(path, data)
        assert await age(store, path) < 100
    assert await store.reader.get("blobs/1", max_bytes=100) == b"wanted"


async def age(store: Subject, wanted: str) -> float:
    (changed,) = [at async for path, _, at in store.writer.walk("blobs") if path == wanted]
    return time.time() - changed


async def test_a_file_is_written_as_its_bytes_are(store: Subject) -> None:
    file = store.path / "file"
    file.write_bytes(bytes(range(256)) * 4000)
    assert await store.writer.create("blobs/a", file)
    assert not await store.writer.create("blobs/a", file)
    assert await store.reader.get("blobs/a", max_bytes=1 << 20) == file.read_bytes()
    file.write_bytes(b"")
    assert await store.writer.create("blobs/b", file)
    assert await store.reader.get("blobs/b", max_bytes=0) == b""


async def test_a_file_that_cannot_be_read_writes_nothing(store: Subject) -> None:
    if store.kind == "memory":
        pytest.skip("reads its files itself")
    for file in (store.path / "nowhere", store.path):
        with pytest.raises(StoreError):
            await store.writer.create("blobs/a", file)
    assert await listed(store, "") == []


async def test_of_many_who_create_one_does(store: Subject) -> None:
    for turn in range(3):
        path = f"blobs/{turn}"
        done = await asyncio.gather(*(store.writer.create(path, b"by %d" % each) for each in range(MANY)))
        assert sum(done) == 1
        assert await store.reader.get(path, max_bytes=100) == b"by %d" % done.index(True)


async def test_an_object_is_swapped_by_who_knows_it_as_it_is(store: Subject) -> None:
    assert await store.writer.tagged(PATH) is None
    first = await store.writer.swap(PATH, b"first", was=None)
    assert await store.writer.tagged(PATH) == (b"first", first)
    second = await store.writer.swap(PATH, b"second", was=first)
    assert await store.writer.tagged(PATH) == (b"second", second)
    for was in (None, first, "nobody's"):
        with pytest.raises(Conflict, match="somebody else has written"):
            await store.writer.swap(PATH, b"third", was=was)
    assert await store.reader.get(PATH, max_bytes=100) == b"second"
    assert await store.writer.swap(PATH, b"third", was=second) != second


async def test_what_was_deleted_meanwhile_is_not_swapped(store: Subject) -> None:
    tag = await store.writer.swap(PATH, b"first", was=None)
    await store.writer.delete(PATH)
    with pytest.raises(Conflict):
        await store.writer.swap(PATH, b"second", was=tag)
    assert await store.writer.tagged(PATH) is None


async def test_of_many_who_swap_at_once_one_does(store: Subject) -> None:
    tag: str | None = None
    for turn in range(4):
        swaps = (store.writer.swap(PATH, b"%d by %d" % (turn, each), was=tag) for each in range(MANY))
        done = await asyncio.gather(*swaps, return_exceptions=True)
        winners = [each for each, result in enumerate(done) if isinstance(result, str)]
        assert len(winners) == 1
        assert all(isinstance(result, str | Conflict) for result in done)
        found = await store.writer.tagged(PATH)
        assert found is not None
        data, tag = found
        assert data == b"%d by %d" % (turn, winners[0])
        assert tag == done[winners[0]]


async def test_nothing_is_lost_of_what_many_add_to_one_object(store: Subject) -> None:
    tag = await store.writer.swap(PATH, b"", was=None)

    async def add(letter: bytes) -> None:
        while True:
            found = await store.writer.tagged(PATH)
            assert found is not None
            try:
                await store.writer.swap(PATH, found[0] + letter, was=found[1])
            except Conflict:
                continue
            return

    await asyncio.gather(*(add(b"%c" % (97 + each)) for each in range(MANY)))
    assert sorted(await store.reader.get(PATH, max_bytes=100)) == list(range(97, 97 + MANY))
    with pytest.raises(Conflict):
        await store.writer.swap(PATH, b"", was=tag)


async def test_a_listing_has_every_object_below_with_its_size_and_time(store: Subject) -> None:
    before = time.time()
    sizes = {"metadata/1.root.json": 3, "metadata/deep/er.json": 0, "metadata2/x": 1, "blobs/sha256/0a": 70_000, "m": 2}
    for path, size in sizes.items():
        await store.writer.create(path, bytes(size))
    found = {path: (size, at) async for path, size, at in store.writer.walk("")}
    assert {path: size for path, (size, _) in found.items()} == sizes
    assert all(before - 2 <= at <= time.time() + 2 for _, at in found.values())
    assert sorted(await listed(store, "metadata")) == ["metadata/1.root.json", "metadata/deep/er.json"]
    assert sorted(await listed(store, "metadata/")) == ["metadata/1.root.json", "metadata/deep/er.json"]
    assert await listed(store, "metadata/deep") == ["metadata/deep/er.json"]
    for prefix in ("nothing", "metadata/1", "m/n"):
        assert await listed(store, prefix) == []


async def test_a_listing_ends_when_its_reader_does(store: Subject) -> None:
    for each in range(5):
        await store.writer.create(f"blobs/{each}", b"")
    walking = store.writer.walk("blobs")
    assert (await anext(walking))[0].startswith("blobs/")
    await walking.aclose()  # type: ignore[attr-defined]
    assert len(await listed(store, "blobs")) == 5


async def test_what_is_deleted_is_gone_and_may_be_written_again(store: Subject) -> None:
    await store.writer.create("blobs/a", b"first")
    await store.writer.create("blobs/b", b"other")
    for _ in range(2):
        await store.writer.delete("blobs/a")
        with pytest.raises(Missing):
            await store.reader.get("blobs/a", max_bytes=100)
    await store.writer.delete("blobs/never/was")
    assert await listed(store, "") == ["blobs/b"]
    assert await store.writer.create("blobs/a", b"second")
    assert await store.reader.get("blobs/a", max_bytes=100) == b"second"


@pytest.mark.parametrize("path", ["", "/etc/x", "../x", "a/../../x", "a//b", "a/", "a\0b"])
async def test_nothing_is_written_outside_of_the_store(store: Subject, path: str) -> None:
    with pytest.raises(Refused):
        await store.writer.create(path, b"")
    with pytest.raises(Refused):
        await store.writer.swap(path, b"", was=None)
    with pytest.raises(Refused):
        await store.writer.delete(path)
    with pytest.raises(Refused):
        await store.writer.tagged(path)
    assert await listed(store, "") == []


@pytest.mark.parametrize("prefix", ["../", "..", "/etc", "a/../../b"])
async def test_nothing_is_listed_outside_of_the_store(store: Subject, prefix: str) -> None:
    (store.path / "secret").write_bytes(b"")
    with suppress(Refused):
        assert await listed(store, prefix) == []
