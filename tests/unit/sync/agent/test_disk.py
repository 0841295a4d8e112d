"""Disks that are full, fail and rot under an update: it waits, falls back or mends; what serves goes on."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sync.agent.places import MIN_FREE_BYTES, MIN_FREE_SHARE
from sync.domain.digests import Digest, digest_of, hex_of
from sync.domain.errors import DiskFull, Unreachable
from sync.domain.journal import Phase
from sync.domain.layout import blob_path
from sync.domain.ports import Part
from tests.fakes.sync.store import MemoryStore
from tests.unit.sync.agent.rig import CONTENT, FIRST, MODEL_17, MODELS, PATCH, SECOND, STATE, Rig, release

DAY_S = 86400.0
BASE = STATE / "blobs" / hex_of(digest_of(FIRST))
PATCH_BLOB = STATE / "blobs" / hex_of(PATCH.digest)
LABELS = STATE / "blobs" / hex_of(digest_of(CONTENT[16]["labels.txt"]))


async def operations(offered: bool) -> int:
    """Of an update, with its end."""
    rig = Rig()
    await rig.installed()
    rig.offered = (PATCH,) if offered else ()
    rig.want(17)
    await rig.until(17)
    return rig.files.count


@pytest.fixture(autouse=True)
def _no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of runs: what would go to a thread is done at once."""

    async def at_once(work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return work(*args, **kwargs)

    monkeypatch.setattr(asyncio, "to_thread", at_once)


WAYS = pytest.mark.parametrize("offered", [True, False], ids=["by a patch", "whole"])


@WAYS
async def test_a_disk_that_is_full_at_any_operation_blocks_the_update_and_is_no_try(offered: bool) -> None:
    for number in range(await operations(offered)):
        rig = Rig()
        await rig.installed()
        rig.offered = (PATCH,) if offered else ()
        rig.files.errors = {number: errno.ENOSPC}
        rig.want(17)
        await rig.until(17)
        rig.check(16, 17)
        about = rig.files.log[number]
        assert all(state.tries == 0 and not state.bad for state in rig.states), about
        assert all(state.outcome in ("", "committed") for state in rig.states), about


@WAYS
async def test_a_disk_that_stays_full_from_any_operation_on_is_not_tried_all_the_time(offered: bool) -> None:
    for number in range(0, await operations(offered), 3):
        rig = Rig()
        await rig.installed()
        rig.offered = (PATCH,) if offered else ()
        rig.files.errors = dict.fromkeys(range(number, 100_000), errno.ENOSPC)
        rig.want(17)
        await rig.run(DAY_S / 4)
        about = rig.files.log[number]
        assert len(rig.blobs_asked()) <= 2 * 20, (
            f"{about}: 7.5 s later at the soonest, 15 s, …, half an hour: patch and whole"
        )
        rig.check(16)
        assert all(state.tries == 0 and not state.bad for state in rig.states), about
        rig.files.errors = {}
        await rig.until(17)
        rig.check(16, 17)


@WAYS
async def test_an_operation_that_fails_once_costs_a_try_at_most(offered: bool) -> None:
    for number in range(await operations(offered)):
        rig = Rig()
        await rig.installed()
        rig.offered = (PATCH,) if offered else ()
        rig.files.errors = {number: errno.EIO}
        rig.want(17)
        await rig.until(17)
        rig.check(16, 17)
        assert max(state.tries for state in rig.states) <= 1, rig.files.log[number]


@pytest.mark.parametrize("path", [BASE, PATCH_BLOB, STATE / "tmp" / f"{hex_of(MODEL_17)}.patched"], ids=str)
async def test_what_cannot_be_read_on_the_way_of_a_patch_costs_the_patch_alone(path: Path) -> None:
    rig = Rig()
    await rig.installed()
    rig.files.unreadable = {path}
    rig.want(17)
    await rig.until(17)
    assert rig.blobs_asked() == [blob_path(PATCH.digest), blob_path(MODEL_17)]
    assert all(state.tries == 0 for state in rig.states)
    assert rig.files.read(MODELS / "m" / "17" / "model.tflite") == SECOND


@pytest.mark.parametrize("damage", ["unreadable", "flipped"])
async def test_a_file_that_two_versions_share_is_verified_before_it_is_used_again(damage: str) -> None:
    rig = Rig()
    await rig.installed()
    if damage == "flipped":
        rig.files.flip(LABELS, 2)
    else:
        rig.files.unreadable = {LABELS}
    rig.want(17)
    for _ in range(100):
        await rig.advance()
        rig.files.unreadable &= {LABELS} if rig.files.size(LABELS) is not None else set()
        if rig.state.phase is Phase.PROBATION:
            break
    assert rig.told.versions == (17,)
    rig.check(17)
    assert blob_path(digest_of(b"cat\ndog\n")) in rig.blobs_asked()


async def test_what_is_installed_and_rots_is_found_after_a_start_and_mended_in_its_place() -> None:
    for path in ("model.tflite", "labels.txt"):
        rig = Rig()
        await rig.installed()
        rig.files.flip(MODELS / "m" / "16" / path, 3)
        rig.start()
        rig.want(16)
        await rig.advance()
        rig.check(16)
        assert rig.blobs_asked() == [blob_path(digest_of(CONTENT[16][path]))]
        assert rig.files.names(MODELS / "m") == ["16", "aspired.json"]
        assert rig.state.phase is Phase.IDLE
        asked = len(rig.store.asked)
        await rig.run(DAY_S / 2)
        assert len(rig.store.asked) == asked, "once a day is enough"


async def test_what_the_previous_version_is_gone_back_to_with_is_mended_too() -> None:
    rig = Rig()
    await rig.installed()
    rig.want(17)
    await rig.until(17)
    rig.files.flip(MODELS / "m" / "16" / "model.tflite", 3)
    rig.start()
    await rig.advance()
    rig.check(16, 17)


async def test_rot_that_cannot_be_mended_now_is_said_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig()
    await rig.installed()
    rig.files.flip(MODELS / "m" / "16" / "model.tflite", 3)
    rig.start()

    async def nobody(path: str) -> None:
        raise Unreachable("no route")

    rig.store.hook = nobody
    await rig.run(3600)
    assert "model.tflite: what lies on the disk is no longer what was verified" in caplog.text
    assert "what is installed cannot be made whole: no route" in caplog.text
    rig.store.hook = None
    await rig.run(3600)
    rig.check(16)


async def test_a_mended_file_that_the_power_cut_in_two_is_mended_again() -> None:
    rig = Rig()
    await rig.installed()
    rig.files.flip(MODELS / "m" / "16" / "model.tflite", 3)
    rig.start()
    await rig.advance()
    total = rig.files.count
    assert total > 5
    for number in range(total):
        rig = Rig()
        await rig.installed()
        rig.files.flip(MODELS / "m" / "16" / "model.tflite", 3)
        rig.files.errors = {number: errno.EIO}
        rig.start()
        await rig.advance()
        for name in ("model.tflite", "labels.txt"):
            assert rig.files.size(MODELS / "m" / "16" / name) == len(CONTENT[16][name]), "never gone"
        rig.start()
        await rig.run(3600)
        rig.check(16)


# -- room


def reserve(room: int) -> int:
    return max(MIN_FREE_BYTES, int(room * MIN_FREE_SHARE))


def leave(rig: Rig, free: int) -> None:
    """So many bytes beside the reserve."""
    rig.files.room_left = free + reserve(rig.files.room)


@pytest.mark.parametrize(
    ("free", "blobs"),
    [
        (len(SECOND) + PATCH.size, [PATCH.digest]),
        (len(SECOND) + PATCH.size - 1, [MODEL_17]),
        (len(SECOND), [MODEL_17]),
        (len(SECOND) - 1, None),
    ],
)
async def test_a_patch_needs_its_own_room_too_and_without_it_the_whole_file_is_fetched(
    free: int, blobs: list[Digest] | None
) -> None:
    rig = Rig()
    await rig.installed()
    leave(rig, free)
    bringing = rig.staging.bring("m", release(17), [release(16)], min_rate_Bps=0)
    if blobs is None:
        with pytest.raises(DiskFull, match=f"want {len(SECOND) + reserve(1 << 40)} bytes of disk"):
            await bringing
        assert rig.blobs_asked() == [], "nothing is fetched before there is room"
    else:
        await bringing
        assert rig.blobs_asked() == [blob_path(digest) for digest in blobs]


@pytest.mark.parametrize(("what", "begun"), [(PATCH.digest, 10), (MODEL_17, 1000)])
async def test_what_was_begun_counts_for_the_way_that_it_was_begun_for(what: Digest, begun: int) -> None:
    """The rest of a patch needs less room; the beginning of the whole file is no help to a patch."""
    rig = Rig()
    await rig.installed()
    data = rig.store.objects[blob_path(what)]
    rig.files.write_at(STATE / "tmp" / f"{hex_of(what)}.part", 0, data[:begun])
    leave(rig, len(SECOND) + PATCH.size - 10)
    await rig.staging.bring("m", release(17), [release(16)], min_rate_Bps=0)
    assert rig.blobs_asked() == [blob_path(what)]


# -- garbage


async def test_what_a_dead_process_left_is_collected_and_what_is_under_way_is_spared() -> None:
    rig = Rig()
    await rig.installed()
    tmp = STATE / "tmp"
    done = f"{hex_of(digest_of(FIRST))}.part"
    for name in (done, f"{'0' * 64}.patched", f"{'1' * 64}.part.json"):
        rig.files.write_at(tmp / name, 0, b"x")
    rig.files.write_at(STATE / "blobs" / ("2" * 64), 0, b"x")
    rig.collect()
    assert list(rig.files.names(tmp)) == []
    assert sorted(rig.files.names(STATE / "blobs")) == sorted([BASE.name, LABELS.name])


async def test_a_collection_in_the_midst_of_an_update_takes_nothing_of_it() -> None:
    """Another model's, whose update ends when the last byte has come and nothing is verified yet."""

    class Collecting(MemoryStore):
        async def get_part(self, path: str, *, start: int, etag: str) -> Part:
            part = await super().get_part(path, start=start, etag=etag)

            async def chunks() -> AsyncIterator[bytes]:
                async for chunk in part.chunks:
                    yield chunk
                    rig.collect()

            return replace(part, chunks=chunks())

    rig = Rig()
    await rig.installed()
    rig.store = Collecting(rig.store.objects)
    rig.want(17)
    await rig.until(17)
    assert rig.blobs_asked() == [blob_path(PATCH.digest)]
