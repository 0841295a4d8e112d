"""Downloads from origins that break, lie, dribble and never end; the blob is right, or there is none."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest

from sync.agent.download import Downloader, DownloadLimits
from sync.agent.files import OsFiles
from sync.agent.pace import Hours, RateFloor, RateLimit
from sync.agent.places import Places
from sync.domain.digests import digest_of
from sync.domain.errors import Deferred, HashMismatch, Missing, Refused, SyncError, TooSlow, Unreachable
from sync.domain.layout import blob_path
from sync.domain.ports import Part
from sync.stores.http import HttpLimits, HttpStore
from tests.fakes.sync.origin import Origin, serving
from tests.fakes.sync.store import MemoryStore
from tests.unit.sync.agent.world import Time

DATA = random.Random(1).randbytes(1_000_000)
DIGEST = digest_of(DATA)
PATH = "/" + blob_path(DIGEST)


@dataclass
class World:
    places: Places
    time: Time
    origins: list[Origin]
    stores: list[HttpStore]
    limits: DownloadLimits

    async def download(self, min_rate_Bps: int = 0, *, hours: Hours | None = None, urgent: bool = False) -> None:
        downloader = Downloader(OsFiles(), self.places, self.time, self.limits, hours=hours)
        await downloader.blob(DIGEST, len(DATA), self.stores, min_rate_Bps=min_rate_Bps, urgent=urgent)

    @property
    def blob(self) -> bytes | None:
        path = self.places.blob(DIGEST)
        return path.read_bytes() if path.exists() else None


@asynccontextmanager
async def world(tmp_path: Path, *behaviours: Callable[[int], str], **limits: float) -> AsyncIterator[World]:
    """One origin for each behaviour, asked in that order."""
    async with AsyncExitStack() as stack:
        origins = [await stack.enter_async_context(serving(Origin({PATH: DATA}, each))) for each in behaviours]
        stores = [HttpStore(origin.url, limits=HttpLimits(read_s=2.0)) for origin in origins]
        for store in stores:
            stack.push_async_callback(store.close)
        yield World(Places(tmp_path / "state", tmp_path / "models"), Time(), origins, stores, DownloadLimits(**limits))  # type: ignore[arg-type]


def always(what: str) -> Callable[[int], str]:
    return lambda number: what


def first(what: str, times: int = 1) -> Callable[[int], str]:
    return lambda number: what if number < times else ""


async def test_a_blob_is_fetched_verified_and_read_only_whole(tmp_path: Path) -> None:
    async with world(tmp_path, always("")) as w:
        await w.download()
        assert w.blob == DATA
        assert list(w.places.tmp.iterdir()) == []


async def test_devices_that_an_origin_broke_off_at_one_moment_come_back_at_many(tmp_path: Path) -> None:
    ended = set()
    for number in range(20):
        async with world(tmp_path / str(number), first("503", 3)) as w:
            began = w.time.seconds
            downloader = Downloader(OsFiles(), w.places, w.time, w.limits, chance=random.Random(number))
            await downloader.blob(DIGEST, len(DATA), w.stores, min_rate_Bps=0)
            ended.add(w.time.seconds - began)
    assert 2 + 4 + 8 <= min(ended) <= max(ended) <= 1.5 * (2 + 4 + 8)
    assert len(ended) == 20


async def test_a_connection_that_breaks_again_and_again_costs_no_byte_twice(tmp_path: Path) -> None:
    async with world(tmp_path, lambda number: "break:200000" if number < 4 else "") as w:
        await w.download()
        assert w.blob == DATA
        assert len(w.origins[0].asked) == 5
        assert w.origins[0].sent == len(DATA)


@pytest.mark.parametrize(
    "what", ["500", "503:1", "429:2", "elsewhere", "gzip", "wrongrange", "short", "long", "norange", "etag", "flip"]
)
async def test_what_goes_wrong_once_is_overcome(tmp_path: Path, what: str) -> None:
    def behave(number: int) -> str:
        return {0: "break:300000", 1: what}.get(number, "")

    async with world(tmp_path, behave) as w:
        await w.download()
        assert w.blob == DATA


@pytest.mark.parametrize(
    ("what", "error"),
    [
        ("500", Refused),
        ("404", Missing),
        ("elsewhere", Refused),
        ("gzip", Refused),
        ("short", Refused),
        ("long", Refused),
        ("endless", (HashMismatch, Refused)),
        ("flip", HashMismatch),
        ("break:0", Unreachable),
    ],
)
async def test_a_source_that_never_does_is_left_for_the_next_and_its_fault_is_told(
    tmp_path: Path, what: str, error: type[SyncError]
) -> None:
    async with world(tmp_path, always(what)) as w:
        with pytest.raises(error):
            await w.download()
        assert w.blob is None
        assert w.origins[0].sent < 20 * len(DATA), "six requests at most, and what the kernel holds"
    async with world(tmp_path, always(what), always("")) as w:
        await w.download()
        assert w.blob == DATA


async def test_a_wait_that_the_source_asks_for_is_kept(tmp_path: Path) -> None:
    async with world(tmp_path, first("503:30")) as w:
        before = w.time.seconds
        await w.download()
        assert 30 <= w.time.seconds - before <= 45


async def test_a_source_that_dribbles_is_left(tmp_path: Path) -> None:
    async with world(tmp_path, always("dribble"), always("")) as w:

        class Hasty(Time):
            def monotonic(self) -> float:
                self.seconds += 10.0
                return self.seconds

        w.time = Hasty()
        await w.download(min_rate_Bps=1000)
        assert w.blob == DATA
        assert w.origins[0].sent < 1000
    (w.places.blob(DIGEST)).unlink()
    async with world(tmp_path, always("dribble")) as w:
        w.time = Hasty()
        with pytest.raises(TooSlow, match="want 1000 bytes a second, got 0"):
            await w.download(min_rate_Bps=1000)


async def test_nobody_to_ask_and_nobody_there_are_told_apart(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        with pytest.raises(Missing, match="there is nobody to ask"):
            await w.download()
        w.stores = [HttpStore("http://127.0.0.1:1")]
        with pytest.raises(Unreachable, match="127\\.0\\.0\\.1:1"):
            await w.download()
        await w.stores[0].close()


@pytest.mark.parametrize("part", ["torn", "garbage", "too long", "whole", "empty"])
async def test_what_a_crash_left_of_a_part_is_used_if_it_is_right_and_dropped_if_not(tmp_path: Path, part: str) -> None:
    async with world(tmp_path, always("")) as w:
        w.places.tmp.mkdir(parents=True)
        content = {
            "torn": DATA[:123_456],
            "garbage": b"\0" * 500_000,
            "too long": DATA + b"x",
            "whole": DATA,
            "empty": b"",
        }[part]
        (w.places.tmp / f"{DIGEST.removeprefix('sha256:')}.part").write_bytes(content)
        await w.download()
        assert w.blob == DATA
        want = {"torn": len(DATA) - 123_456, "whole": 0, "garbage": len(DATA) + 500_000}
        assert w.origins[0].sent == want.get(part, len(DATA))


def test_the_floor_judges_whole_windows_and_the_deadline_all_of_it() -> None:
    floor = RateFloor(100, deadline_s=100, now=0)
    assert floor.came(10, 29) == ""
    assert floor.came(3990, 31) == ""
    assert floor.came(2000, 61) != ""
    assert RateFloor(0, deadline_s=100, now=0).came(10**9, 101) == "it has taken longer than it may in all"
    assert RateFloor(0, deadline_s=0, now=0).came(0, 10**9) == ""


def test_the_limit_holds_on_average_and_lets_a_second_s_worth_come_at_once() -> None:
    limit, now, sent = RateLimit(1000, 0.0), 0.0, 0
    for _ in range(100):
        now += limit.wait_s(500, now)
        sent += 500
    assert sent / now == pytest.approx(1000, rel=0.05)
    assert RateLimit(0, 0.0).wait_s(10**9, 0.0) == 0.0


@pytest.mark.parametrize("what", ["", "break:200000"])
async def test_a_limit_of_our_own_below_the_least_rate_blames_no_source_and_holds_across_resumes(
    tmp_path: Path, what: str
) -> None:
    async with world(tmp_path, lambda number: what if number < 3 else "", limit_Bps=1000.0, source_s=60.0) as w:
        before = w.time.seconds
        await w.download(min_rate_Bps=2000)
        assert w.blob == DATA
        assert w.time.seconds - before == pytest.approx(len(DATA) / 1000, rel=0.05)


async def test_outside_of_the_hours_nothing_is_asked_for_and_within_them_everything(tmp_path: Path) -> None:
    async with world(tmp_path, always("")) as w:
        with pytest.raises(Deferred, match="downloads wait for 22:00") as caught:
            await w.download(hours=Hours("22:00-05:00", lambda: datetime(2026, 7, 1, 21, 59, 30)))
        assert caught.value.wait_s == 30
        assert w.origins[0].asked == []
        await w.download(hours=Hours("22:00-05:00", lambda: datetime(2026, 7, 1, 22, 0)))
        assert w.blob == DATA


async def test_what_is_urgent_waits_for_no_hour(tmp_path: Path) -> None:
    async with world(tmp_path, always("")) as w:
        await w.download(hours=Hours("22:00-05:00", lambda: datetime(2026, 7, 1, 12, 0)), urgent=True)
        assert w.blob == DATA


async def test_a_window_that_closes_stops_the_download_and_the_next_one_goes_on_where_it_was(tmp_path: Path) -> None:
    async with world(tmp_path, always("")) as w:
        asked = 0

        def local() -> datetime:
            nonlocal asked
            asked += 1
            return datetime(2026, 7, 1, 4 if asked < 3 else 5, 30)

        with pytest.raises(Deferred):
            await w.download(hours=Hours("22:00-05:00", local))
        (part,) = w.places.tmp.glob("*.part")
        have = part.stat().st_size
        assert 0 < have < len(DATA)
        await w.download()
        assert w.blob == DATA
        assert [range for _, range in w.origins[0].asked] == ["", f"bytes={have}-"]


async def test_a_blob_that_is_all_here_is_installed_at_any_hour(tmp_path: Path) -> None:
    async with world(tmp_path, always("")) as w:
        w.places.tmp.mkdir(parents=True)
        (w.places.tmp / f"{DIGEST.removeprefix('sha256:')}.part").write_bytes(DATA)
        await w.download(hours=Hours("22:00-05:00", lambda: datetime(2026, 7, 1, 12, 0)))
        assert w.blob == DATA


@pytest.mark.parametrize("when", ["before the answer", "within it"])
async def test_a_source_that_hangs_is_left_for_the_next_whatever_it_is(tmp_path: Path, when: str) -> None:
    """A directory on a disk that went away hangs without end, and has no time limit of its own."""

    class Hanging(MemoryStore):
        async def get_part(self, path: str, *, start: int, etag: str) -> Part:
            async def chunks() -> AsyncIterator[bytes]:
                yield DATA[:1000]
                await asyncio.Event().wait()

            if when == "before the answer":
                await asyncio.Event().wait()
            return Part(0, len(DATA), "", chunks())

    places = Places(tmp_path / "state", tmp_path / "models")
    downloader = Downloader(OsFiles(), places, Time(), DownloadLimits(stall_s=0.05))
    with pytest.raises(TooSlow, match=r"memory:: nothing came for 0\.05 s"):
        await downloader.blob(DIGEST, len(DATA), [Hanging()], min_rate_Bps=0)
    whole = MemoryStore({blob_path(DIGEST): DATA})
    assert await downloader.blob(DIGEST, len(DATA), [Hanging(), whole], min_rate_Bps=0) is whole
    assert places.blob(DIGEST).read_bytes() == DATA
