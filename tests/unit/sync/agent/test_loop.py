"""The process's beginning, its end, and what it does about a disk that fails."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from sync.agent.files import OsFiles
from sync.agent.journal import JournalFile
from sync.agent.loop import LoopLimits
from sync.agent.polls import PollLimits
from sync.domain.errors import OperatorError, Reason
from sync.domain.journal import ModelState, Phase
from tests.unit.sync.agent.test_clocks import Clocked, Rtc
from tests.waiting import until


class Slow(Rtc):
    """For a process that runs until it is ended: a wait takes a moment, and lasts some seconds at most."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0.005)
        self.seconds += min(seconds, 5.0)


@pytest.fixture
async def device(tmp_path: Path) -> Clocked:
    """16 is rolled out to all; nothing is here yet."""
    made = Clocked(tmp_path)
    await made.world.create()
    await made.release(16)
    await made.roll_out(16)
    made.time = Slow()
    made.start()
    return made


async def test_garbage_of_a_dead_process_is_gone_before_room_is_looked_for(device: Clocked) -> None:
    blobs = device.path / "state" / "blobs"
    blobs.mkdir()
    (blobs / ("0" * 64)).write_bytes(b"x")
    (device.path / "state" / "tmp").mkdir()
    (device.path / "state" / "tmp" / "x.part").write_bytes(b"x")
    assert await device.agent.once(within_s=7200)
    assert len(list(blobs.iterdir())) == 1
    assert list((device.path / "state" / "tmp").iterdir()) == []
    assert device.runs(16)


async def test_garbage_that_cannot_be_removed_stops_nobody(device: Clocked, caplog: pytest.LogCaptureFixture) -> None:
    (device.path / "state" / "blobs").write_bytes(b"a file where a directory should be")
    running = asyncio.ensure_future(device.agent.run())
    await until(lambda: "cannot be cleaned up" in caplog.text)
    await until(lambda: device.state.phase is Phase.STAGING)
    assert not running.done()
    (device.path / "state" / "blobs").unlink()
    await until(lambda: device.state.active is not None, within_s=30)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


@pytest.mark.parametrize("times", [1, 7])
async def test_who_is_asked_to_end_within_an_update_has_lost_no_try(device: Clocked, times: int) -> None:
    device.server.absent = True
    for _ in range(times):
        running = asyncio.ensure_future(device.agent.run())
        await until(lambda: device.state.phase is Phase.STAGING and device.state.reason == "no_server")
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert device.journal.value.clean
        device.start()
        device.server.absent = True
    assert device.state.tries == 0
    device.server.absent = False
    assert await device.agent.once(within_s=7200)
    assert device.runs(16)
    assert not device.journal.value.clean


async def test_a_write_whose_caller_was_called_off_and_the_last_one_do_not_meet(tmp_path: Path) -> None:
    ended = threading.Event()

    class Slowly(OsFiles):
        def sync(self, path: Path) -> None:
            ended.wait(0.3)  # in vain, unless the other one is let in meanwhile
            super().sync(path)

    journal = JournalFile(Slowly(), tmp_path / "state.json", tmp_path)
    writing = threading.Thread(target=journal.write, args=({"m": ModelState(tries=1)},))
    writing.start()
    await until(lambda: (tmp_path / "state.json.tmp").exists())
    journal.end()
    ended.set()
    await asyncio.to_thread(writing.join)
    left = JournalFile(OsFiles(), tmp_path / "state.json", tmp_path).load()
    assert (left.clean, left.generation, left.models) == (True, 2, {"m": ModelState(tries=1)})


class Noted(Rtc):
    """Every wait is over at once, and takes no time; `waits` says how long each would have been."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        await asyncio.sleep(0.001)


async def test_a_group_that_waits_for_its_first_rollout_is_polled_for_as_often_as_any(tmp_path: Path) -> None:
    made = Clocked(tmp_path)
    await made.world.create()
    made.time = time = Noted()
    made.start()
    running = asyncio.ensure_future(made.agent.run())
    polls = PollLimits()
    usual = (polls.poll_s * (1 - polls.jitter), polls.poll_s * (1 + polls.jitter))
    await until(lambda: sum(usual[0] <= each <= usual[1] for each in time.waits) >= 5, within_s=30)
    longer = [each for each in time.waits if usual[1] < each < polls.max_poll_s * (1 - polls.jitter)]
    assert longer == [], "heartbeats apart, nothing waits longer"
    assert made.agent.problem is not None
    assert made.agent.problem.reason is Reason.NO_ROLLOUT
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_the_log_says_why_an_update_waits_and_what_to_do(
    device: Clocked, caplog: pytest.LogCaptureFixture
) -> None:
    blob = next(path for path in device.world.store.objects if path.startswith("blobs/"))
    del device.world.store.objects[blob]
    await device.agent.once(within_s=60)
    said = [each.getMessage() for each in caplog.records if each.name == "sync.agent.loop"]
    assert [each for each in said if each.startswith("m: the store does not have what it should (")]
    assert said[0].endswith("; ask the operator to run `edge-sync verify` on the store")
    assert len(said) == len(set(said)), "and says it once"


async def test_a_hold_is_acted_upon_at_once_and_reported(device: Clocked) -> None:
    assert await device.agent.once(within_s=7200)
    before = device.journal.value.report_seq
    assert (await device.agent.pin("m")).version == 16
    assert device.journal.value.report_seq == before + 1
    assert device.report().models["m"].held == 16
    await device.agent.unpin("m")
    assert device.report().models["m"].held is None
    with pytest.raises(OperatorError, match="want a model that is here, m, got x"):
        await device.agent.pin("x")


class Taker:
    """Whoever takes reports. `gate`: until when it takes none."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def deliver(self, report: bytes) -> None:
        await self.gate.wait()
        self.taken.append(report)


def waiting(device: Clocked) -> int:
    return len(list((device.path / "state" / "outbox").glob("*.json")))


async def test_who_looks_once_and_is_not_done_in_time_sends_its_reports(device: Clocked) -> None:
    device.delivery = taker = Taker()
    device.start()
    device.server.absent = True
    assert not await device.agent.once(within_s=60)
    assert taker.taken
    assert waiting(device) == 0


async def test_who_looks_once_and_is_asked_to_end_sends_its_reports_and_has_lost_no_try(device: Clocked) -> None:
    device.delivery = taker = Taker()
    device.start()
    device.server.absent = True
    running = asyncio.ensure_future(device.agent.once(within_s=1e9))
    await until(lambda: device.state.reason == "no_server" and waiting(device) > 0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert taker.taken
    assert waiting(device) == 0
    assert device.journal.value.clean


async def test_the_last_reports_are_not_waited_for_without_a_bound(device: Clocked) -> None:
    device.delivery = taker = Taker()
    taker.gate.clear()
    device.limits = LoopLimits(last_reports_s=0.05)
    device.start()
    device.server.absent = True
    assert not await device.agent.once(within_s=60)
    assert waiting(device) > 0
