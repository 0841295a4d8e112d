"""Patches are made of files that devices have where they save something, and hinder no publishing where they do not."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import pytest

from sync.domain.deltas import MAX_DOCUMENT_BYTES, Deltas, Patch, encode_deltas, parse_deltas
from sync.domain.digests import digest_of
from sync.domain.layout import blob_path
from sync.domain.release import FORMAT, File, Manifest, Variant
from sync.fleet.patches import Made, bases, listed, make_patches
from sync.fleet.versions import How, Use
from tests.fakes.sync.store import MemoryStore

OLD, NEW = b"old" * 3000, b"new" * 3000
PATH = "model.tflite"


def manifest(version: int, variant: str = "cpu", **files: bytes) -> Manifest:
    named = tuple(File(f"{name}.tflite", digest_of(data), len(data)) for name, data in files.items())
    return Manifest(FORMAT, "m", version, version, (Variant(variant, named),))


def store_with(*blobs: bytes) -> MemoryStore:
    return MemoryStore({blob_path(digest_of(blob)): blob for blob in blobs})


class Maker:
    """Notes what it was asked for; every patch has `size` bytes, or cannot be made."""

    def __init__(self, size: int | None = 100) -> None:
        self.size, self.asked = size, list[tuple[bytes, bytes]]()

    def __call__(self, old: bytes, new: bytes) -> bytes | None:
        self.asked.append((old, new))
        return None if self.size is None else b"p" * self.size


async def made(
    store: MemoryStore, maker: Maker, *before: Manifest, contents: Mapping[str, bytes] | None = None
) -> Made:
    return await make_patches(store, "cpu", {PATH: NEW} if contents is None else contents, before, make=maker)


@pytest.mark.parametrize(
    ("uses", "chosen"),
    [
        ([], [9, 8, 7]),
        ([("stable", 2)], [2, 9, 8]),
        ([("pinned", 1), ("candidate", 3), ("stable", 2)], [2, 3, 1]),
        ([("stable", 1), ("stable", 2), ("stable", 3), ("stable", 4), ("candidate", 9)], [4, 3, 2]),
        ([("rolled back", 9)], [8, 7, 6]),
        ([("rolled back", 9), ("stable", 9)], [9, 8, 7]),
        ([("stable", 12)], [9, 8, 7]),
    ],
)
def test_what_devices_run_gets_one_first_then_the_newest_and_last_what_is_rolled_back(
    uses: list[tuple[How, int]], chosen: list[int]
) -> None:
    before = [manifest(version, model=OLD) for version in range(9, 0, -1)]
    named = [*(Use("m", version, how, "g") for how, version in uses), Use("another", 1, "stable", "g")]
    assert [each.version for each in bases(before, named)] == chosen


def test_where_there_is_nothing_else_what_is_rolled_back_gets_one_too() -> None:
    before = [manifest(2, model=OLD), manifest(1, model=OLD)]
    assert [each.version for each in bases(before, [Use("m", 2, "rolled back", "g")])] == [1, 2]


async def test_a_patch_says_what_it_makes_of_what() -> None:
    got = await made(store_with(OLD), Maker(), manifest(1, model=OLD))
    assert got.patches == (Patch("cpu", PATH, digest_of(OLD), digest_of(NEW), digest_of(b"p" * 100), 100),)
    assert got.blobs == (b"p" * 100,)


@pytest.mark.parametrize(("size", "offered"), [(6299, True), (6300, False), (None, False)])
async def test_a_patch_that_saves_too_little_is_not_offered(size: int | None, offered: bool) -> None:
    assert bool((await made(store_with(OLD), Maker(size), manifest(1, model=OLD))).patches) is offered


async def test_every_version_gets_one_in_its_turn_and_the_same_file_no_second_one() -> None:
    blobs = [b"%d" % at * 5000 for at in range(5)]
    maker = Maker()
    await made(store_with(*blobs), maker, *(manifest(at, model=blobs[at]) for at in (4, 2, 3)))
    assert [old for old, _ in maker.asked] == [blobs[4], blobs[2], blobs[3]]
    again = Maker()
    await made(store_with(OLD), again, manifest(2, model=OLD), manifest(1, model=OLD))
    assert again.asked == [(OLD, NEW)]


@pytest.mark.parametrize(
    ("before", "contents"),
    [
        (manifest(1, model=NEW), {PATH: NEW}),
        (manifest(1, other=NEW, model=OLD), {PATH: NEW}),
        (manifest(1, other=OLD), {PATH: NEW}),
        (manifest(1, "gpu", model=OLD), {PATH: NEW}),
        (manifest(1, model=b""), {PATH: NEW}),
        (manifest(1, model=OLD), {PATH: b"small"}),
    ],
    ids=["the same", "the same elsewhere", "no such path", "another variant's", "of nothing", "too small"],
)
async def test_what_needs_no_patch_or_has_no_base_gets_none(before: Manifest, contents: dict[str, bytes]) -> None:
    maker = Maker()
    assert await made(store_with(OLD, NEW, b""), maker, before, contents=contents) == Made()
    assert maker.asked == []


async def test_a_base_that_is_gone_or_damaged_costs_its_patch_alone(caplog: pytest.LogCaptureFixture) -> None:
    gone, bad = b"gone" * 3000, b"bad " * 3000
    store = store_with(OLD)
    store.objects[blob_path(digest_of(bad))] = b"was " * 3000
    with caplog.at_level(logging.WARNING):
        got = await made(store, Maker(), manifest(3, model=gone), manifest(2, model=bad), manifest(1, model=OLD))
    assert [patch.source for patch in got.patches] == [digest_of(OLD)]
    assert "is not there" in caplog.text
    assert "is damaged" in caplog.text


async def test_when_the_time_is_over_the_version_goes_out_without(caplog: pytest.LogCaptureFixture) -> None:
    maker = Maker()
    with caplog.at_level(logging.WARNING):
        got = await make_patches(store_with(OLD), "cpu", {PATH: NEW}, [manifest(1, model=OLD)], make=maker, seconds=-1)
    assert (got, maker.asked) == (Made(), [])
    assert "no patch from version 1" in caplog.text


def patch(variant: str, path: str = PATH, size: int = 10) -> Patch:
    return Patch(variant, path, digest_of(OLD), digest_of(NEW), digest_of(b"p"), size)


def test_a_second_variant_keeps_the_patches_of_the_first() -> None:
    there = encode_deltas(Deltas((patch("gpu"), patch("cpu", size=11))))
    got = parse_deltas(listed(there, [patch("cpu")], manifest(2, model=NEW)))
    assert set(got.patches) == {patch("gpu"), patch("cpu")}


def test_a_list_that_cannot_be_read_is_written_anew(caplog: pytest.LogCaptureFixture) -> None:
    got = parse_deltas(listed(b"not json", [patch("cpu")], manifest(2, model=NEW)))
    assert got.patches == (patch("cpu"),)
    assert "written anew" in caplog.text


def test_a_list_that_devices_would_refuse_is_cut_to_what_saves_most() -> None:
    patches = [patch("cpu", f"{at:0250}", size=at) for at in range(4096)]
    document = listed(None, patches, manifest(2, model=NEW))
    kept = parse_deltas(document).patches
    assert len(document) <= MAX_DOCUMENT_BYTES
    assert 1000 < len(kept) < 4096
    assert [each.size for each in kept] == list(range(len(kept)))
