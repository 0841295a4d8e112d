"""Neighbours that do, that lie, dribble, die and never end: the blob is right, and comes from the store where it must."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from pathlib import Path

import pytest
from aiohttp import web

from sync.agent.download import Downloader, DownloadLimits
from sync.agent.fetch import BlobFetch
from sync.agent.files import OsFiles
from sync.agent.neighbours import Address, Neighbours
from sync.agent.pace import Hours
from sync.agent.peerfetch import MAX_FAULTS, PeerFetch
from sync.agent.places import Places
from sync.domain.digests import Digest, digest_of, hex_of
from sync.domain.errors import Deferred, Refused
from sync.domain.layout import blob_path
from sync.stores.http import HttpStore
from sync.stores.peer import PeerLimits, PeerStore
from tests.fakes.sync.origin import Origin, serving
from tests.unit.sync.agent.test_download import always
from tests.unit.sync.agent.world import Time

DATA, OTHER = random.Random(1).randbytes(1_000_000), random.Random(2).randbytes(100_000)
DIGEST = digest_of(DATA)
OBJECTS = {"/" + blob_path(digest_of(data)): data for data in (DATA, OTHER)}
FAST = PeerLimits(connect_s=1.0, read_s=1.0)


class World:
    """peers[n] is a neighbour at 10.0.0.n; `origin` is the store."""

    def __init__(self, path: Path, time: Time, hours: Hours, origin: Origin, peers: list[Origin]) -> None:
        self.places, self.time = Places(path / "state", path / "models"), time
        self.origin, self.peers = origin, peers
        self.store = HttpStore(origin.url)
        self.table = Neighbours(self._opened, time, chance=random.Random(1))
        for number in range(len(peers)):
            self.table.found(f"peer-{number}", [f"10.0.0.{number}"], 80)
        files = OsFiles()
        limits = DownloadLimits(max_breaks=0, max_requests=8, max_pause_s=1.0)
        peer_downloader = Downloader(files, self.places, time, limits, hours=hours, suffix="peer")
        self.fetch = BlobFetch(
            files,
            self.places,
            Downloader(files, self.places, time),
            lambda digest, share: [self.store],
            PeerFetch(files, self.places, peer_downloader, self.table),
        )

    def _opened(self, address: Address) -> PeerStore:
        store = PeerStore(
            "127.0.0.1", int(self.peers[int(address.host.rpartition(".")[2])].url.rpartition(":")[2]), FAST
        )
        return store

    async def get(self, data: bytes = DATA, *, share: bool = True) -> None:
        digest = digest_of(data)
        await self.fetch.blob(digest, len(data), share=share, min_rate_Bps=0)
        assert self.places.blob(digest).read_bytes() == data
        assert list(self.places.tmp.iterdir()) == []

    def asked(self) -> list[int]:
        return [len(peer.asked) for peer in self.peers]


@asynccontextmanager
async def world(
    path: Path, *behaviours: Callable[[int], str], time: Time | None = None, hours: Hours | None = None
) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        origin = await stack.enter_async_context(serving(Origin(dict(OBJECTS))))
        peers = [await stack.enter_async_context(serving(Origin(dict(OBJECTS), each))) for each in behaviours]
        made = World(path, time or Time(), hours or Hours(), origin, peers)
        stack.push_async_callback(made.store.close)
        yield made


async def test_a_blob_comes_from_a_neighbour_and_the_store_is_not_asked(tmp_path: Path) -> None:
    async with world(tmp_path, always("")) as w:
        await w.get()
        assert (w.origin.asked, w.fetch.bytes_peer, w.fetch.bytes_full) == ([], len(DATA), 0)


async def test_a_neighbour_that_breaks_off_and_comes_back_goes_on_where_it_was(tmp_path: Path) -> None:
    async with world(tmp_path, lambda number: "break:300000" if number == 0 else "") as w:
        await w.get()
        assert w.origin.asked == []
        assert w.peers[0].sent == len(DATA)


async def test_a_poisoned_neighbour_is_banned_and_the_store_gives_what_is_right(tmp_path: Path) -> None:
    async with world(tmp_path, always("flip")) as w:
        await w.get()
        assert (w.fetch.bytes_peer, w.fetch.bytes_full) == (0, len(DATA))
        assert w.asked() == [1], "once is enough"
        w.table.found("another name", ["10.0.0.0"], 81)
        await w.get(OTHER)
        assert w.asked() == [1], "and it is asked for nothing else"


@pytest.mark.parametrize(
    "what", ["500", "404", "429:3600", "403", "elsewhere", "gzip", "short", "long", "endless", "break:0"]
)
async def test_whatever_a_neighbour_does_the_store_is_asked_next_and_nothing_of_it_is_left(
    tmp_path: Path, what: str
) -> None:
    async with world(tmp_path, always(what)) as w:
        began = w.time.seconds
        await w.get()
        assert w.fetch.bytes_full == len(DATA)
        assert w.origin.asked == [("/" + blob_path(DIGEST), "")], "from the first byte on"
        assert w.peers[0].sent < 20 * len(DATA), "what the kernel holds"
        assert w.time.seconds - began <= 2, "no wait that it asks for is kept"


async def test_a_neighbour_that_dies_after_every_byte_is_left(tmp_path: Path) -> None:
    async with world(tmp_path, always("break:1")) as w:
        await w.get()
        assert w.fetch.bytes_full == len(DATA)
        assert w.asked() == [8]


async def test_a_neighbour_that_dribbles_is_left(tmp_path: Path) -> None:
    class Hasty(Time):
        def monotonic(self) -> float:
            self.seconds += 10.0
            return self.seconds

    async with world(tmp_path, always("dribble"), time=Hasty()) as w:
        await w.get()
        assert w.fetch.bytes_full == len(DATA)
        assert w.peers[0].sent < 1000


async def test_one_that_is_gone_costs_its_place(tmp_path: Path) -> None:
    async with world(tmp_path, always("")) as w:
        w.peers[0].url = "http://127.0.0.1:1"
        await w.get()
        assert (w.fetch.bytes_full, len(w.table)) == (len(DATA), 0)


async def test_of_many_bad_neighbours_only_so_many_waste_time_and_a_good_one_among_them_is_found(
    tmp_path: Path,
) -> None:
    async with world(tmp_path, *[always("500")] * 6) as w:
        await w.get()
        assert sum(w.asked()) == MAX_FAULTS
        assert w.fetch.bytes_full == len(DATA)
    w.places.blob(DIGEST).unlink()
    async with world(tmp_path, *[always("404")] * 5, always("")) as w:
        await w.get()
        assert w.fetch.bytes_peer == len(DATA), "those that do not have it cost next to nothing"


async def test_bytes_of_neighbours_are_never_mixed_with_the_store_s(tmp_path: Path) -> None:
    async with world(tmp_path, lambda number: "flip" if number == 0 else "break:0") as w:
        w.places.tmp.mkdir(parents=True)
        part = w.places.tmp / f"{hex_of(DIGEST)}.part"
        part.write_bytes(DATA[:400_000])
        await w.get()
        assert w.asked() == [0], "what the store has begun, the store ends"
        assert w.origin.asked == [("/" + blob_path(DIGEST), "bytes=400000-")]


async def test_what_a_crash_left_of_a_neighbour_s_is_dropped(tmp_path: Path) -> None:
    async with world(tmp_path, always("")) as w:
        w.places.tmp.mkdir(parents=True)
        (w.places.tmp / f"{hex_of(DIGEST)}.peer").write_bytes(b"\0" * 500_000)
        await w.get()
        assert w.peers[0].asked == [("/" + blob_path(DIGEST), "")]
        assert w.fetch.bytes_peer == len(DATA)


async def test_what_is_not_to_be_shared_is_asked_of_nobody_but_the_store(tmp_path: Path) -> None:
    async with world(tmp_path, always("")) as w:
        await w.get(share=False)
        assert w.asked() == [0]


async def test_neighbours_too_wait_for_the_hour(tmp_path: Path) -> None:
    async with world(tmp_path, always(""), hours=Hours("22:00-05:00", lambda: datetime(2026, 7, 1, 12, 0))) as w:
        with pytest.raises(Deferred):
            await w.get()
        assert w.asked() == [0]


@pytest.mark.parametrize(
    "path", ["metadata/timestamp.json", "targets/rollouts/x.g.json", "blobs/sha256/../../x", "blobs/sha256/ABC"]
)
async def test_a_neighbour_is_never_asked_for_anything_but_a_blob(tmp_path: Path, path: str) -> None:
    async with serving(Origin({"/" + path: b"signed by nobody"})) as peer:
        store = PeerStore("127.0.0.1", int(peer.url.rpartition(":")[2]), FAST)
        with pytest.raises(Refused, match="blobs only"):
            await store.get(path, max_bytes=100)
        with pytest.raises(Refused, match="blobs only"):
            await store.get_part(path, start=0, etag="")
        assert peer.asked == []


async def test_nothing_is_told_to_a_neighbour_but_the_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    headers: dict[str, str] = {}

    class Curious(Origin):
        async def handle(self, request: web.Request) -> web.StreamResponse:
            headers.update(request.headers)
            return await super().handle(request)

    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    async with serving(Curious(dict(OBJECTS))) as peer:
        store = PeerStore("127.0.0.1", int(peer.url.rpartition(":")[2]), FAST)
        part = await store.get_part(blob_path(digest_of(OTHER)), start=10, etag="ignored")
        assert b"".join([chunk async for chunk in part.chunks]) == OTHER[10:]
        assert part.total == len(OTHER)
        assert headers.keys() == {"Host", "Range", "Connection"}


def test_the_fake_s_objects_are_what_they_are_called() -> None:
    assert all(path == "/" + blob_path(Digest(digest_of(data))) for path, data in OBJECTS.items())
