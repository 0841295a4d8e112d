"""What neighbours are given: blobs that may be shared, and nothing else, within bounds."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import msgspec
import pytest

from sync.agent.files import OsFiles
from sync.agent.peering import busy_of, shared_of
from sync.agent.places import Places
from sync.agent.sharing import Sharing, SharingLimits, on_battery
from sync.domain.digests import Digest, digest_of, hex_of
from sync.domain.journal import Installed, Journal, ModelState, Phase
from sync.domain.update import UNKNOWN
from tests.unit.sync.agent.world import Time, release

DATA = random.Random(1).randbytes(3_000_000)
DIGEST = digest_of(DATA)
PATH = f"/blobs/sha256/{hex_of(DIGEST)}"
SECRET = b"not to be shared"


class World:
    def __init__(self, path: Path) -> None:
        self.places, self.time = Places(path / "state", path / "models"), Time()
        self.places.blobs.mkdir(parents=True)
        self.places.tmp.mkdir()
        self.shared: dict[Digest, int] = {DIGEST: len(DATA)}
        self.busy = ""
        self.port = 0
        for data in (DATA, SECRET):
            self.places.blob(digest_of(data)).write_bytes(data)

    async def get(self, path: str = PATH, *, method: str = "GET", **headers: str) -> tuple[int, bytes, dict[str, str]]:
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, f"http://127.0.0.1:{self.port}{path}", headers=headers) as answer,
        ):
            return answer.status, await answer.read(), dict(answer.headers)

    async def raw(self, data: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(data)
        return reader, writer


@asynccontextmanager
async def sharing(path: Path, *, loopback: bool = True, **limits: float) -> AsyncIterator[World]:
    w = World(path)
    s = Sharing(
        OsFiles(),
        w.places,
        lambda: w.shared,
        w.time,
        busy=lambda: w.busy,
        loopback=loopback,
        limits=SharingLimits(**limits),  # type: ignore[arg-type]
    )
    w.port = await s.start(["127.0.0.1"])
    try:
        yield w
    finally:
        await s.close()


@pytest.mark.parametrize(
    ("asked", "status", "start", "end"),
    [
        ("", 200, 0, len(DATA)),
        ("bytes=0-", 206, 0, len(DATA)),
        ("bytes=1000-", 206, 1000, len(DATA)),
        ("bytes=1000-1999", 206, 1000, 2000),
        (f"bytes=5-{10**18}", 206, 5, len(DATA)),
        (f"bytes={len(DATA) - 1}-", 206, len(DATA) - 1, len(DATA)),
        ("bytes=-5", 200, 0, len(DATA)),
        ("bytes=1-2,4-5", 200, 0, len(DATA)),
        ("lines=1-2", 200, 0, len(DATA)),
    ],
)
async def test_a_blob_is_given_whole_or_from_where_it_is_asked_for(
    tmp_path: Path, asked: str, status: int, start: int, end: int
) -> None:
    async with sharing(tmp_path) as w:
        got, body, headers = await w.get(**({"Range": asked} if asked else {}))
        assert (got, body) == (status, DATA[start:end])
        assert headers.get("Content-Range") == (f"bytes {start}-{end - 1}/{len(DATA)}" if status == 206 else None)


@pytest.mark.parametrize("asked", [f"bytes={len(DATA)}-", "bytes=10-9", f"bytes={10**18}-"])
async def test_a_range_beyond_it_is_refused_with_its_size(tmp_path: Path, asked: str) -> None:
    async with sharing(tmp_path) as w:
        status, _, headers = await w.get(Range=asked)
        assert (status, headers["Content-Range"]) == (416, f"bytes */{len(DATA)}")


@pytest.mark.parametrize(
    "path",
    [
        f"/blobs/sha256/{hex_of(digest_of(SECRET))}",
        f"/blobs/sha256/{'0' * 64}",
        f"{PATH}.part",
        f"{PATH}?x=1",
        f"{PATH}/",
        f"/{PATH}",
        PATH.upper(),
        "/blobs/sha256/../../state.json",
        "/blobs/sha256/%2e%2e/state.json",
        "/metadata/timestamp.json",
        "/",
        "*",
    ],
)
async def test_nothing_else_is_given_to_anybody(tmp_path: Path, path: str) -> None:
    async with sharing(tmp_path) as w:
        (w.places.tmp / f"{hex_of(DIGEST)}.part").write_bytes(DATA)
        (w.places.state_dir / "state.json").write_text("{}")
        reader, writer = await w.raw(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        head = (await reader.read(100)).split(b"\r\n")[0]
        writer.close()
        assert head.split()[1:2] in ([b"404"], [b"400"]), head


async def test_what_may_be_shared_is_asked_anew_for_every_request(tmp_path: Path) -> None:
    async with sharing(tmp_path) as w:
        assert (await w.get())[0] == 200
        w.shared = {}
        assert (await w.get())[0] == 404
        w.shared = {DIGEST: len(DATA) - 1}
        assert (await w.get())[0] == 404, "it has another length than was signed"


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "DELETE", "OPTIONS"])
async def test_nothing_is_taken(tmp_path: Path, method: str) -> None:
    async with sharing(tmp_path) as w:
        status, _, headers = await w.get(method=method)
        assert (status, headers["Allow"]) == (405, "GET")


async def test_one_upload_too_many_is_told_to_come_again(tmp_path: Path) -> None:
    async with sharing(tmp_path, uploads=2, stall_s=30.0) as w:
        slow = [await w.raw(f"GET {PATH} HTTP/1.1\r\nHost: x\r\n\r\n".encode()) for _ in range(2)]
        for reader, _ in slow:
            await reader.readexactly(100)
        status, _, headers = await w.get()
        assert (status, headers["Retry-After"]) == (429, "30")
        for _, writer in slow:
            writer.transport.abort()
        while (await w.get())[0] == 429:  # until it has noticed that they are gone
            pass


async def test_nothing_is_given_while_there_is_something_better_to_do(tmp_path: Path) -> None:
    async with sharing(tmp_path) as w:
        w.busy = "m is being swapped"
        assert (await w.get())[0] == 429


async def test_who_takes_nothing_is_given_up(tmp_path: Path) -> None:
    async with sharing(tmp_path, uploads=1, stall_s=0.1) as w:
        w.places.blob(DIGEST).write_bytes(DATA * 10)  # more than the kernel would take for them
        w.shared = {DIGEST: len(DATA) * 10}
        reader, writer = await w.raw(f"GET {PATH} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await reader.readexactly(100)
        while (await w.get(Range="bytes=0-9"))[0] == 429:
            pass
        writer.close()


async def test_who_says_nothing_is_not_listened_to_for_ever_and_too_many_not_at_all(tmp_path: Path) -> None:
    async with sharing(tmp_path, connections=3, head_s=0.3) as w:
        silent = [await w.raw(b"GET ") for _ in range(3)]
        reader, writer = await w.raw(f"GET {PATH} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert await reader.read() == b"", "one too many"
        writer.close()
        assert [await reader.read() for reader, _ in silent] == [b""] * 3
        for _, writer in silent:
            writer.close()
        while not await answers(w):  # until their connections are gone
            pass


async def answers(w: World) -> bool:
    try:
        return (await w.get(Range="bytes=0-9"))[0] == 206
    except aiohttp.ClientError:
        return False


async def test_a_connection_serves_one_request(tmp_path: Path) -> None:
    async with sharing(tmp_path) as w:
        request = f"GET {PATH} HTTP/1.1\r\nHost: x\r\nRange: bytes=0-9\r\n\r\n".encode()
        reader, writer = await w.raw(request * 3)
        everything = await reader.read()
        writer.close()
        assert everything.count(b"HTTP/1.1 206") == 1


@pytest.mark.parametrize(
    "head", [b"\x16\x03\x01" * 100, b"GET /" + b"a" * 10_000 + b" HTTP/1.1\r\n\r\n", b"\r\n" * 5000]
)
async def test_what_is_no_request_ends_the_connection(tmp_path: Path, head: bytes) -> None:
    async with sharing(tmp_path, head_s=0.5) as w:
        reader, writer = await w.raw(head)
        await reader.read()
        writer.close()
        assert await answers(w)


async def test_all_uploads_together_keep_to_the_limit(tmp_path: Path) -> None:
    async with sharing(tmp_path, limit_Bps=100_000.0) as w:
        before = w.time.seconds
        bodies = await asyncio.gather(w.get(), w.get())
        assert [body for _, body, _ in bodies] == [DATA, DATA]
        assert w.time.seconds - before >= 2 * len(DATA) / 100_000 * 0.95


async def test_a_blob_that_is_removed_meanwhile_breaks_off(tmp_path: Path) -> None:
    async with sharing(tmp_path) as w:
        reader, writer = await w.raw(f"GET {PATH} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await reader.readexactly(1000)
        w.places.blob(DIGEST).write_bytes(b"")
        rest = 1000
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            while True:
                chunk = await reader.read(1 << 16)
                if not chunk:
                    raise ConnectionError
                rest += len(chunk)
        writer.close()
        assert rest < len(DATA) + 1000


async def test_who_is_not_near_gets_no_answer_to_the_question(tmp_path: Path) -> None:
    async with sharing(tmp_path, loopback=False) as w:
        assert (await w.get())[0] == 403


def installed(version: int, *, share: bool = True, lost: bool = False) -> Installed:
    more = {"release": UNKNOWN} if lost else {}
    return msgspec.structs.replace(release(version), share=share, **more)


def test_only_what_a_signed_manifest_lets_be_shared_is() -> None:
    state = ModelState(Phase.STAGING, active=installed(1), previous=installed(2, share=False), candidate=installed(3))
    journal = Journal(models={"m": state, "found": ModelState(active=installed(4, lost=True))})
    assert set(shared_of(journal)) == {release(1).files[0].digest, release(3).files[0].digest}
    assert set(shared_of(journal).values()) == {1}


def test_nothing_is_given_while_a_version_is_tried() -> None:
    for phase in Phase:
        busy = busy_of(Journal(models={"m": ModelState(phase, active=installed(1), candidate=installed(2))}))
        assert bool(busy) == (phase is Phase.SWAPPING)


@pytest.mark.parametrize(
    ("supplies", "battery"),
    [
        ({}, False),
        ({"BAT0": ("Battery", "1")}, False),
        ({"AC": ("Mains", "1"), "BAT0": ("Battery", "0")}, False),
        ({"AC": ("Mains", "0"), "BAT0": ("Battery", "1")}, True),
        ({"AC": ("Mains", "0"), "usb": ("USB", "1")}, False),
    ],
)
def test_a_device_without_its_mains_gives_nothing(
    tmp_path: Path, supplies: dict[str, tuple[str, str]], battery: bool
) -> None:
    for name, (kind, online) in supplies.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "type").write_text(kind + "\n")
        (tmp_path / name / "online").write_text(online + "\n")
    assert bool(on_battery(tmp_path)) is battery
    assert on_battery(tmp_path / "none") == ""
