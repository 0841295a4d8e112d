"""Condensed copies: what they hold, who writes them, who reads them, and what happens without."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import random

import pytest

from sync.domain.errors import HashMismatch, Missing, Refused
from sync.stores.condense import COMMON, OVERHEAD_BYTES, SUFFIX, condense, has_copy, restore
from sync.stores.condensed import MAX_MISSES, CondensedReads, CondensedWrites
from tests.fakes.sync.store import Died, MemoryStore

ROLE, OTHER, DOCUMENT = "metadata/7.releases.json", "metadata/8.rollouts.bin-0a.json", "targets/rollouts/00ff.g.json"
DATA = json.dumps({"signed": {"_type": "targets", "version": 7}}, separators=(",", ":")).encode()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def asked(store: MemoryStore) -> list[str]:
    paths = [path for path, _ in store.asked]
    store.taken()
    return paths


# -- what a copy is


@pytest.mark.parametrize("data", [b"", DATA, COMMON, os.urandom(5000), b"\0" * 3_000_000, b"\xff{" * 70_000])
def test_what_is_restored_is_what_was_condensed(data: bytes) -> None:
    copy = condense(data)
    assert restore(copy, max_bytes=len(data)) == data
    assert len(copy) <= len(data) * 1.001 + OVERHEAD_BYTES


def test_devices_in_the_field_can_read_what_is_written() -> None:
    assert SUFFIX == ".z1"
    assert hashlib.sha256(COMMON).hexdigest() == "d6a8e2f354289949c6919e4dc8ff72e1683a9fcbb9b26cd5b0b4840a6994fb75", (
        "what both ends have must not change under its suffix: want another one for another text"
    )


def test_a_role_with_nothing_but_signatures_is_less_than_two_thirds_of_what_gzip_makes_of_it() -> None:
    signature = {"keyid": random.Random(1).randbytes(32).hex(), "sig": random.Random(2).randbytes(64).hex()}
    signed = {"_type": "targets", "expires": "2028-02-29T12:34:56Z", "spec_version": "1.0.31", "targets": {}, "version": 9}  # fmt: skip
    data = json.dumps({"signatures": [signature], "signed": signed}, separators=(",", ":")).encode()
    assert len(condense(data)) < len(gzip.compress(data)) * 2 / 3


def test_a_copy_that_is_damaged_anywhere_or_cut_off_or_goes_on_is_told() -> None:
    copy = condense(DATA)
    for at in range(len(copy)):
        for damaged in (copy[:at] + bytes([copy[at] ^ 0x10]) + copy[at + 1 :], copy[:at]):
            with pytest.raises(ValueError):  # noqa: PT011 zlib's words, or ours
                restore(damaged, max_bytes=10_000)
    with pytest.raises(ValueError, match="ends with its object"):
        restore(copy + b"x", max_bytes=10_000)


def test_no_more_comes_out_than_was_asked_for() -> None:
    with pytest.raises(ValueError, match="want at most 1000 bytes"):
        restore(condense(b"\0" * 100_000_000), max_bytes=1000)
    with pytest.raises(ValueError, match="want at most"):
        restore(condense(DATA), max_bytes=len(DATA) - 1)


@pytest.mark.parametrize(
    ("path", "has"),
    [
        (ROLE, True), (OTHER, True), (DOCUMENT, True), ("metadata/1.snapshot.json", True),
        ("metadata/timestamp.json", False), ("metadata/2.root.json", False), ("blobs/sha256/00ff", False),
        ("metadata/07.releases.json", False), (f"metadata/{'7' * 30}.releases.json", False), (ROLE + SUFFIX, False),
        ("targets/models/m/1/00ff.model.tflite", False), (f"targets/{'x' * 240}.json", False),
    ],
)  # fmt: skip
def test_what_never_changes_has_a_copy_but_what_is_asked_for_to_see_that_there_is_none(path: str, has: bool) -> None:
    assert has_copy(path) == has


# -- who reads one


async def test_a_device_reads_the_copy_and_nothing_else(store: MemoryStore) -> None:
    await CondensedWrites(store).create(ROLE, DATA)
    assert await CondensedReads(store).get(ROLE, max_bytes=len(DATA)) == DATA
    assert asked(store) == [ROLE + SUFFIX]


@pytest.mark.parametrize("copy", [b"", b"no copy", condense(DATA)[:-1], condense(DATA + b" " * 50)])
async def test_a_device_that_finds_the_copy_damaged_takes_the_object(store: MemoryStore, copy: bytes) -> None:
    store.objects.update({ROLE: DATA, ROLE + SUFFIX: copy})
    assert await CondensedReads(store).get(ROLE, max_bytes=len(DATA)) == DATA
    assert asked(store) == [ROLE + SUFFIX, ROLE]


async def test_a_store_without_copies_is_soon_asked_for_none(store: MemoryStore) -> None:
    store.objects[ROLE] = DATA
    device = CondensedReads(store)
    for _ in range(MAX_MISSES + 2):
        assert await device.get(ROLE, max_bytes=len(DATA)) == DATA
    assert asked(store) == [ROLE + SUFFIX, ROLE] * MAX_MISSES + [ROLE] * 2


async def test_a_copy_that_is_there_begins_the_count_anew(store: MemoryStore) -> None:
    await CondensedWrites(store).create(OTHER, DATA)
    store.objects[ROLE] = DATA
    device = CondensedReads(store)
    for _ in range(MAX_MISSES + 2):
        await device.get(ROLE, max_bytes=len(DATA))
        await device.get(OTHER, max_bytes=len(DATA))
    assert asked(store) == [ROLE + SUFFIX, ROLE, OTHER + SUFFIX] * (MAX_MISSES + 2)


async def test_what_is_not_there_is_missing_and_what_is_too_long_refused(store: MemoryStore) -> None:
    device = CondensedReads(store)
    with pytest.raises(Missing, match=r"releases\.json: is not there"):
        await device.get(ROLE, max_bytes=100)
    await CondensedWrites(store).create(OTHER, b"{}" * 1000)
    with pytest.raises(Refused, match="want at most 1999 bytes"):
        await device.get(OTHER, max_bytes=1999)


async def test_a_store_that_asks_to_be_left_alone_is_not_asked_for_the_object(store: MemoryStore) -> None:
    async def busy(path: str) -> None:
        raise Refused("503 Service Unavailable", retry_after_s=60)

    store.objects[ROLE], store.hook = DATA, busy
    with pytest.raises(Refused):
        await CondensedReads(store).get(ROLE, max_bytes=100)
    assert asked(store) == [ROLE + SUFFIX]


async def test_whoever_compares_reads_both_and_tells_a_copy_of_something_else(store: MemoryStore) -> None:
    await CondensedWrites(store).create(ROLE, DATA)
    store.objects[OTHER] = DATA
    reader = CondensedReads(store, compared=True)
    for path in (ROLE, OTHER):
        assert await reader.get(path, max_bytes=len(DATA)) == DATA
    assert asked(store) == [ROLE, ROLE + SUFFIX, OTHER, OTHER + SUFFIX]
    for wrong in (condense(DATA.replace(b"7", b"8")), b"no copy"):
        store.objects[ROLE + SUFFIX] = wrong
        with pytest.raises(HashMismatch, match=r"7\.releases\.json\.z1"):
            await reader.get(ROLE, max_bytes=len(DATA))


# -- who writes one


async def test_who_creates_an_object_writes_its_copy_after_it(store: MemoryStore) -> None:
    writer = CondensedWrites(store)
    for path in (ROLE, DOCUMENT, "metadata/1.root.json", "blobs/sha256/00ff"):
        assert await writer.create(path, DATA)
    await writer.swap("metadata/timestamp.json", DATA, was=None)
    assert store.written == [
        ROLE, ROLE + SUFFIX, DOCUMENT, DOCUMENT + SUFFIX,
        "metadata/1.root.json", "blobs/sha256/00ff", "metadata/timestamp.json",
    ]  # fmt: skip


async def test_of_two_publishers_only_the_one_whose_object_it_is_writes_a_copy(store: MemoryStore) -> None:
    store.writes_left = 1
    with pytest.raises(Died):
        await CondensedWrites(store).create(ROLE, DATA)
    store.writes_left = None
    assert not await CondensedWrites(store).create(ROLE, b'{"of": "somebody else"}')
    assert store.objects == {ROLE: DATA}
    assert await CondensedReads(store).get(ROLE, max_bytes=len(DATA)) == DATA


async def test_a_copy_that_outlived_its_object_does_not_stand_for_the_next_one(store: MemoryStore) -> None:
    store.objects[ROLE + SUFFIX] = condense(b'{"of": "long ago"}')
    assert await CondensedWrites(store).create(ROLE, DATA)
    assert await CondensedReads(store).get(ROLE, max_bytes=len(DATA)) == DATA


async def test_a_copy_is_deleted_before_its_object_and_never_listed(store: MemoryStore) -> None:
    writer = CondensedWrites(store)
    for path in (ROLE, "blobs/sha256/00ff"):
        await writer.create(path, DATA)
    store.objects["metadata/notes.z1"] = b"somebody's"
    assert [path async for path, _, _ in writer.walk("metadata/")] == [ROLE, "metadata/notes.z1"]
    store.written.clear()
    for path in (ROLE, "blobs/sha256/00ff"):
        await writer.delete(path)
    assert store.written == [ROLE + SUFFIX, ROLE, "blobs/sha256/00ff"]
