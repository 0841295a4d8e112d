"""What may lie in a directory that is no object, and what a writer leaves there."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from sync.domain.errors import Conflict, Missing, Refused, StoreError, Unreachable
from sync.stores.directory import LOCK, DirectoryStore


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "store")


@pytest.mark.parametrize("what", ["pipe", "directory", "loop", "nowhere", "device"])
async def test_what_is_no_file_is_no_object_and_is_not_waited_for(
    store: DirectoryStore, tmp_path: Path, what: str
) -> None:
    place = tmp_path / "store" / "x"
    await store.create("y", b"")
    if what == "pipe":
        os.mkfifo(place)
    elif what == "directory":
        place.mkdir()
    else:
        place.symlink_to({"loop": place, "nowhere": tmp_path / "nowhere", "device": Path("/dev/zero")}[what])
    async with asyncio.timeout(5):
        for reading in (store.get("x", max_bytes=10), store.get_part("x", start=0, etag="")):
            with pytest.raises(Unreachable if what == "loop" else Missing):
                await reading
        if what != "loop":
            assert await store.tagged("x") is None


async def test_what_a_writer_needs_beside_the_objects_is_none(store: DirectoryStore, tmp_path: Path) -> None:
    tag = await store.swap("metadata/a", b"1", was=None)
    with pytest.raises(Conflict):
        await store.swap("metadata/a", b"2", was=None)
    await store.swap("metadata/a", b"3", was=tag)
    (tmp_path / "store" / "metadata" / ".a.1.ff.new").write_bytes(b"half")
    assert [path async for path, _, _ in store.walk("")] == ["metadata/a"]
    assert sorted(os.listdir(tmp_path / "store")) == [LOCK, "metadata"]
    assert sorted(os.listdir(tmp_path / "store" / "metadata")) == [".a.1.ff.new", "a"], "and what died stays, unseen"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything: nothing was tested of what may not be read")
async def test_a_listing_that_is_not_whole_is_an_error(store: DirectoryStore, tmp_path: Path) -> None:
    await store.create("metadata/a", b"1")
    (tmp_path / "store" / "metadata").chmod(0)
    with pytest.raises(StoreError):
        _ = [path async for path, _, _ in store.walk("")]
    (tmp_path / "store" / "metadata").chmod(0o700)


async def test_an_object_to_compare_that_has_no_end_is_refused(store: DirectoryStore, tmp_path: Path) -> None:
    await store.create("x", b"")
    os.truncate(tmp_path / "store" / "x", 400 << 30)
    with pytest.raises(Refused, match="want at most"):
        await store.tagged("x")
    with pytest.raises(Refused, match="want at most"):
        await store.swap("x", b"1", was=None)


@pytest.mark.parametrize("what", ["pipe", "link"])
async def test_a_lock_that_is_no_file_is_not_waited_for_and_leads_nowhere(
    store: DirectoryStore, tmp_path: Path, what: str
) -> None:
    await store.create("y", b"")
    lock, elsewhere = tmp_path / "store" / LOCK, tmp_path / "elsewhere"
    if what == "pipe":
        os.mkfifo(lock)
    else:
        lock.symlink_to(elsewhere)
    swapping = asyncio.ensure_future(store.swap("x", b"1", was=None))
    done, _ = await asyncio.wait((swapping,), timeout=5)
    if not done:  # its thread ends when somebody reads
        os.close(os.open(lock, os.O_RDONLY | os.O_NONBLOCK))
    assert done, "it waits"
    if what == "link":
        with pytest.raises(Unreachable):
            await swapping
    assert not elsewhere.exists()
