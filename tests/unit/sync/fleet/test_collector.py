"""Reports by HTTP: durable before 2xx, taken once, and nothing that a stranger sends costs more than its bound."""

from __future__ import annotations

import asyncio
import errno
import gzip
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from sync.agent.delivery import HttpDelivery
from sync.agent.files import OsFiles
from sync.agent.outbox import Outbox
from sync.agent.reporter import Reporter
from sync.domain.errors import Refused
from sync.domain.ports import Files
from sync.domain.report import ModelReport, Report, encode_report
from sync.fleet.collector import CollectLimits, Collector, serving
from sync.fleet.reports import DeviceLog, ReportDirectory
from tests.fakes.sync.files import FaultyFiles

LIMITS = CollectLimits(body_s=5.0)


def report(device: str = "cam-1", seq: int = 1, **more: Any) -> bytes:
    return encode_report(Report(device, "line-3", seq, 1000.0 + seq, {"detector": ModelReport(active=1)}, **more))


class Site:
    def __init__(self, directory: Path, files: Files | None = None) -> None:
        self.reports = ReportDirectory(files or OsFiles(), directory)
        self.url = ""
        self.address = ("", 0)
        self.time = 0.0

    @asynccontextmanager
    async def up(self, limits: CollectLimits = LIMITS, token: str | None = None) -> AsyncIterator[Site]:
        known = set(self.reports.devices())
        collector = Collector(
            self.reports, known=known, token=token, limits=limits, now=lambda: 5000.0, monotonic=lambda: self.time
        )
        async with serving(collector, "127.0.0.1", 0, limits) as self.address:
            self.url = f"http://127.0.0.1:{self.address[1]}/v1/reports"
            yield self

    async def post(self, data: Any, headers: dict[str, str] | None = None) -> tuple[int, dict[str, str], Any]:
        async with aiohttp.ClientSession() as session, session.post(self.url, data=data, headers=headers) as answer:
            return answer.status, dict(answer.headers), await answer.json()

    async def raw(self, data: bytes) -> bytes:
        """All that comes back for these bytes."""
        reader, writer = await asyncio.open_connection(*self.address)
        writer.write(data)
        await writer.drain()
        try:
            return await asyncio.wait_for(reader.read(), 20)
        finally:
            writer.close()

    def log(self, device: str = "cam-1") -> DeviceLog | None:
        return self.reports.of(device)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


async def test_a_report_is_on_the_disk_when_it_was_said_to_be_taken(site: Site) -> None:
    async with site.up():
        status, _, said = await site.post(report())
        assert (status, said) == (200, {"new": True})
        found = site.log()
    assert found is not None
    assert found.latest.received == 5000.0
    assert found.latest.report.models["detector"].active == 1


async def test_the_same_report_again_is_taken_and_changes_nothing(site: Site) -> None:
    async with site.up():
        await site.post(report())
        before = site.log()
        assert (await site.post(report()))[::2] == (200, {"new": False})
        assert site.log() == before


async def test_the_devices_own_reporter_empties_its_outbox_into_it(site: Site, tmp_path: Path) -> None:
    outbox = Outbox(OsFiles(), tmp_path / "outbox")
    for seq in range(1, 21):
        outbox.put(seq, report(seq=seq))
    async with site.up(token="sesame"):
        (tmp_path / "token").write_text("sesame\n")
        assert await Reporter(outbox, HttpDelivery(site.url, str(tmp_path / "token"))).flush()
    found = site.log()
    assert found is not None
    assert [kept.report.seq for kept in found.kept] == list(range(1, 21))
    assert len(outbox) == 0


async def test_a_report_goes_to_nobody_whom_a_redirect_names(site: Site) -> None:
    asked: list[str] = []

    async def elsewhere(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(status=307, headers={"Location": "/elsewhere"})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", elsewhere)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        with pytest.raises(Refused, match="want 2xx, got 307"):
            await HttpDelivery(f"http://127.0.0.1:{runner.addresses[0][1]}/v1/reports").deliver(report())
    finally:
        await runner.cleanup()
    assert asked == ["/v1/reports"]


async def test_without_the_token_nothing_is_taken(site: Site) -> None:
    async with site.up(token="sesame"):
        for shown in (None, "Bearer", "Bearer wrong", "Bearer sesame2", "Basic sesame", "bearer s\xe9same"):
            status, headers, _ = await site.post(report(), {"Authorization": shown} if shown else None)
            assert (status, headers["WWW-Authenticate"]) == (401, "Bearer")
        assert site.log() is None
        assert (await site.post(report(), {"Authorization": "Bearer sesame"}))[0] == 200
        with pytest.raises(Refused):
            await HttpDelivery(site.url).deliver(report())


async def test_a_disk_that_fails_is_never_2xx_and_says_when_to_come_back() -> None:
    files = FaultyFiles(errors=dict.fromkeys(range(6), errno.ENOSPC))
    site = Site(Path("/reports"), files)
    async with site.up():
        answers = [await site.post(report()) for _ in range(10)]
    statuses = [status for status, _, _ in answers]
    assert statuses[0] == 503
    assert answers[0][1]["Retry-After"] == "60"
    assert statuses[-1] == 200
    assert statuses == sorted(statuses, reverse=True), "and once the disk is well it is taken"


HEAD = b"POST /v1/reports HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"


CHUNK = b"10000\r\n" + b"x" * 65536 + b"\r\n"
HOSTILE = {
    "no members": (HEAD + b"Content-Length: 2\r\n\r\n{}", 400),
    "nothing": (HEAD + b"Content-Length: 0\r\n\r\n", 400),
    "no text": (HEAD + b"Content-Length: 4\r\n\r\n\xff\xfe\x00\x01", 400),
    "a length that is too long": (HEAD + b"Content-Length: 99999999\r\n\r\n{", 413),
    "a body that is too long": (HEAD + b"Content-Length: 1000000\r\n\r\n" + b"x" * 1_000_000, 413),
    "a negative length": (HEAD + b"Content-Length: -1\r\n\r\n{}", 400),
    "two lengths": (HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", 400),
    "chunks of no size": (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
    "chunks of no sense": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNK + b"0\r\n\r\n", 400),
    "chunks without end": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNK * 8 + b"0\r\n\r\n", 413),
    "compressed": (HEAD + b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc", 415),
    "a long header": (HEAD + b"X: " + b"y" * 20_000 + b"\r\n\r\n", 400),
    "a question": (b"GET /v1/reports HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 405),
    "another place": (b"POST /../../etc HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", 404),
    "what others said": (b"GET /devices/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
    "no protocol": (b"no protocol at all\r\n\r\n", 400),
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE)
async def test_hostile_requests_are_answered_and_the_next_one_is_taken(site: Site, what: str) -> None:
    request_bytes, status = HOSTILE[what]
    async with site.up():
        answer = await site.raw(request_bytes)
        assert answer.split(b" ", 2)[1] == b"%d" % status, answer[:200]
        assert (await site.post(report()))[0] == 200
    assert list(site.reports.devices()) == ["cam-1"]


async def test_a_bomb_is_not_unpacked(site: Site) -> None:
    bomb = gzip.compress(b" " * (50 << 20))
    async with site.up():
        for name, data in (("gzip", bomb), ("deflate", zlib.compress(b" " * (50 << 20)))):
            assert (await site.post(data, {"Content-Encoding": name}))[0] == 415


async def test_a_body_that_does_not_come_is_given_up(site: Site) -> None:
    async with site.up(CollectLimits(body_s=0.2)):
        answer = await site.raw(HEAD + b"Content-Length: 100\r\n\r\n{")
        assert answer.startswith(b"HTTP/1.1 408")


async def test_strangers_come_so_fast_and_no_faster_and_hold_up_nobody_who_is_known(site: Site) -> None:
    async with site.up(CollectLimits(new_per_s=1, new_burst=3)):
        statuses = [(await site.post(report(f"stranger-{number}")))[0] for number in range(5)]
        assert statuses == [200, 200, 200, 429, 429]
        _, headers, _ = await site.post(report("stranger-9"))
        assert headers["Retry-After"] == "1"
        assert (await site.post(report("stranger-0", seq=2)))[0] == 200
        site.time += 1.5
        assert (await site.post(report("stranger-4")))[0] == 200


async def test_there_is_a_most_of_devices_which_holds_over_a_restart(site: Site) -> None:
    limits = CollectLimits(max_devices=2)
    async with site.up(limits):
        assert [(await site.post(report(f"cam-{number}")))[0] for number in range(3)] == [200, 200, 429]
    async with site.up(limits):
        assert (await site.post(report("cam-7")))[0] == 429
        assert (await site.post(report("cam-1", seq=2)))[0] == 200


async def test_one_device_cannot_keep_the_disk_busy(site: Site) -> None:
    async with site.up(CollectLimits(device_per_s=1, device_burst=2)):
        statuses = [(await site.post(report(seq=seq)))[0] for seq in range(1, 6)]
        assert statuses == [200, 200, 200, 429, 429]
        assert (await site.post(report("cam-2")))[0] == 200


async def test_one_connection_too_many_is_closed_and_the_others_served(site: Site) -> None:
    async with site.up(CollectLimits(max_connections=3)):
        held = [await asyncio.open_connection(*site.address) for _ in range(3)]
        reader, writer = await asyncio.open_connection(*site.address)
        assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()
        for _, other in held:
            other.close()
            await other.wait_closed()
        async with asyncio.timeout(10):
            while True:
                try:
                    assert (await site.post(report()))[0] == 200
                    break
                except aiohttp.ClientError:
                    await asyncio.sleep(0.01)


@pytest.mark.parametrize("said", [b"", b"POST / HTTP/1.1\r\nX-Slow: ", HEAD + b"X: y\r\n"])
async def test_who_holds_every_connection_and_asks_nothing_holds_up_the_others_for_so_long_only(
    site: Site, said: bytes
) -> None:
    async with site.up(CollectLimits(max_connections=3, head_s=0.2)):
        held = [asyncio.create_task(site.raw(said)) for _ in range(3)]
        assert await asyncio.wait_for(asyncio.gather(*held), 10) == [b""] * 3
        assert (await site.post(report()))[0] == 200


async def test_who_asked_before_and_is_slow_to_ask_again_is_left_as_well(site: Site) -> None:
    async with site.up(CollectLimits(idle_s=0.2)):
        body = report()
        first = HEAD.replace(b"close", b"keep-alive") + b"Content-Length: %d\r\n\r\n" % len(body) + body
        assert (await asyncio.wait_for(site.raw(first + b"POST / HT"), 10)).startswith(b"HTTP/1.1 200")


async def test_a_body_may_take_longer_than_a_head(site: Site) -> None:
    async with site.up(CollectLimits(head_s=0.1, body_s=20.0)):
        body = report()

        async def slowly() -> AsyncIterator[bytes]:
            yield body[:10]
            await asyncio.sleep(0.3)
            yield body[10:]

        assert (await site.post(slowly()))[0] == 200


async def test_many_at_once_are_each_kept(site: Site) -> None:
    async with site.up(CollectLimits(max_requests=1000)):
        await asyncio.gather(*(site.post(report(f"cam-{number % 20}", seq=number)) for number in range(100)))
    logs = list(site.reports.logs())
    assert len(logs) == 20
    assert sum(len(log.kept) for log in logs) == 100


async def test_more_at_once_than_it_can_do_are_told_so(site: Site) -> None:
    async with site.up(CollectLimits(max_requests=0)):
        status, headers, _ = await site.post(report())
        assert (status, headers["Retry-After"]) == (503, "5")


async def test_somebody_may_ask_whether_it_is_well(site: Site) -> None:
    async with site.up(token="sesame"), aiohttp.ClientSession() as session:
        answer = await session.get(site.url.replace("/v1/reports", "/health"))
        assert (answer.status, await answer.text()) == (200, "ok\n")
