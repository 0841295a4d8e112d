"""Reports to a collector that says what it will: what passes is waited for, and what it refuses for ever holds up no other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from sync.agent.delivery import PASSES, HttpDelivery
from sync.agent.files import OsFiles
from sync.agent.outbox import NOTE, Outbox, RefusedReports
from sync.agent.reporter import Reporter
from sync.domain.errors import Refused, Rejected
from tests.fakes.sync.files import FaultyFiles

BOX = Path("/outbox")
FOR_EVER = [400, 402, 406, 409, 411, 412, 413, 414, 415, 422, 431]


class Origin:
    """Answers each report with the status that `statuses` has for it, else 200. `got`: what was taken."""

    def __init__(self, statuses: dict[bytes, int], *, headers: dict[str, str] | None = None, says: str = "") -> None:
        self.statuses, self._headers, self._says = statuses, headers or {}, says
        self.got: list[bytes] = []
        self.asked = 0
        self.url = ""

    async def _post(self, request: web.Request) -> web.Response:
        self.asked += 1
        report = await request.read()
        status = self.statuses.get(report, 200)
        if status == 200:
            self.got.append(report)
        return web.Response(status=status, text=self._says, headers=self._headers)

    async def _login(self, request: web.Request) -> web.Response:
        return web.Response(text="who are you?")

    @asynccontextmanager
    async def up(self) -> AsyncIterator[Origin]:
        app = web.Application()
        app.router.add_post("/reports", self._post)
        app.router.add_get("/login", self._login)
        runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/reports"
            yield self
        finally:
            await runner.cleanup()


def filled(count: int, files: OsFiles | FaultyFiles | None = None, box: Path = BOX) -> Outbox:
    outbox = Outbox(files or FaultyFiles(), box)
    for seq in range(1, count + 1):
        outbox.put(seq, b'{"seq":%d}' % seq)
    return outbox


@pytest.mark.parametrize("status", FOR_EVER)
async def test_a_report_that_is_refused_for_ever_is_dropped_counted_and_the_next_one_arrives(
    status: int, caplog: pytest.LogCaptureFixture
) -> None:
    outbox = filled(3)
    async with Origin({b'{"seq":2}': status}, says='{"error": "report: seq: want less\\u001b"}').up() as origin:
        assert await Reporter(outbox, HttpDelivery(origin.url)).flush()
    assert origin.got == [b'{"seq":1}', b'{"seq":3}']
    assert len(outbox) == 0
    refused = outbox.refused()
    assert (refused.count, refused.seq) == (1, 2)
    assert f"want 2xx, got {status}" in refused.why
    assert "seq: want less" in refused.why, "what the collector finds wrong with it is said"
    assert "report 2 is dropped" in caplog.text


@pytest.mark.parametrize("status", [*sorted(PASSES), 500, 502, 503, 504, 304])
async def test_a_report_that_is_refused_for_now_waits_and_those_after_it_too(status: int) -> None:
    outbox = filled(3)
    async with Origin({b'{"seq":2}': status}).up() as origin:
        reporter = Reporter(outbox, HttpDelivery(origin.url))
        assert not await reporter.flush()
        assert origin.got == [b'{"seq":1}']
        assert (len(outbox), outbox.refused()) == (2, RefusedReports())
        origin.statuses.clear()
        assert await reporter.flush()
    assert origin.got == [b'{"seq":1}', b'{"seq":2}', b'{"seq":3}']


async def test_a_report_that_was_led_to_a_page_was_taken_by_nobody() -> None:
    outbox = filled(1)
    async with Origin({b'{"seq":1}': 302}, headers={"Location": "/login"}).up() as origin:
        assert not await Reporter(outbox, HttpDelivery(origin.url)).flush()
    assert (len(outbox), outbox.refused().count) == (1, 0)


async def test_when_the_collector_asks_to_come_back_is_known() -> None:
    async with Origin({b"{}": 503}, headers={"Retry-After": "60"}).up() as origin:
        with pytest.raises(Refused) as caught:
            await HttpDelivery(origin.url).deliver(b"{}")
    assert caught.value.retry_after_s == 60


async def test_an_answer_without_end_costs_no_memory() -> None:
    async with Origin({b"{}": 400}, says="x" * 1_000_000).up() as origin:
        with pytest.raises(Rejected) as caught:
            await HttpDelivery(origin.url).deliver(b"{}")
    assert len(caught.value.message) < 700


class Never:
    """Refuses every report for ever."""

    def __init__(self) -> None:
        self.asked = 0

    async def deliver(self, report: bytes) -> None:
        self.asked += 1
        raise Rejected("want 2xx, got 400")


async def test_how_many_were_refused_outlives_the_process(tmp_path: Path) -> None:
    assert await Reporter(filled(3, OsFiles(), tmp_path), Never()).flush()
    assert Outbox(OsFiles(), tmp_path).refused() == RefusedReports(3, 3, "want 2xx, got 400")


@pytest.mark.parametrize("data", [b"", b"{", b'{"document":"e30=","sha256":"x"}'])
async def test_a_count_that_is_damaged_begins_anew(tmp_path: Path, data: bytes) -> None:
    outbox = filled(1, OsFiles(), tmp_path)
    OsFiles().write_at(tmp_path / NOTE, 0, data)
    assert outbox.refused() == RefusedReports()
    assert await Reporter(outbox, Never()).flush()
    assert outbox.refused().count == 1


async def test_a_report_that_cannot_be_removed_is_not_brought_again_and_again() -> None:
    class Stuck(FaultyFiles):
        def remove(self, path: Path) -> None:
            if path.name == "000000000001.json":
                raise OSError(30, "Read-only file system", str(path))
            super().remove(path)

    never = Never()
    assert not await Reporter(filled(2, Stuck()), never).flush()
    assert never.asked == 1


async def test_a_later_report_of_the_same_number_is_not_lost_while_the_earlier_one_is_on_its_way() -> None:
    outbox = filled(1)

    class Slow:
        def __init__(self) -> None:
            self.got: list[bytes] = []

        async def deliver(self, report: bytes) -> None:
            if not self.got:
                outbox.put(1, b'{"seq":1,"later":true}')
            self.got.append(report)

    slow = Slow()
    assert await Reporter(outbox, slow).flush()
    assert slow.got == [b'{"seq":1}', b'{"seq":1,"later":true}']
    assert len(outbox) == 0


def test_of_more_reports_than_may_wait_the_oldest_go() -> None:
    files = FaultyFiles()
    outbox = Outbox(files, BOX, max_waiting=3)
    for seq in range(1, 6):
        outbox.put(seq, b"{}")
    assert list(files.names(BOX)) == [f"{seq:012d}.json" for seq in (3, 4, 5)]
