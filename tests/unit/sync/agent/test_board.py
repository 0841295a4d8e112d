"""What the agent leaves for whoever asks beside it."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path

import pytest

from sync.agent.around import of_broker
from sync.agent.board import Board, is_running, read_situation, this_process
from sync.agent.files import OsFiles
from sync.domain.errors import Unreachable, Unsuitable
from sync.domain.rollout import Probation, Wish
from sync.domain.situation import Process, SeenBroker, SeenNeighbours, Wanted, parse_situation
from sync.domain.update import Target
from tests.unit.sync.agent.world import Disk, Time, release
from tests.waiting import until

PATH = Path("/state/situation.json")
TARGET = Target(release(17), Wish(17, "r-1"), 7, Probation(), "beside")


def board(disk: Disk) -> Board:
    return Board(disk, PATH, Time(), lambda: (123.0, True))


async def test_what_a_poll_found_can_be_read_by_another_process() -> None:
    disk = Disk()
    b = board(disk)
    await b.polled(None, {"x": Unsuitable("x@1: no")}, {"m": TARGET})
    await b.polls_in(900)
    await b.acts_in("m", 3600)
    found = read_situation(disk, PATH)
    assert found == b.value
    assert found is not None
    assert found.wanted == {"m": Wanted(17, "r-1")}
    assert (found.refused["x"].reason, found.signed_until) == ("incompatible", 123.0)
    assert found.next_poll_at - found.polled_at == 900
    assert found.acts_at["m"] - found.polled_at == 3600
    await b.polled(Unreachable("no route"), {}, {"m": TARGET})
    again = read_situation(disk, PATH)
    assert again is not None
    assert again.problem is not None
    assert again.problem.reason == "net_unreachable"


async def test_looking_at_the_server_every_second_writes_nothing() -> None:
    disk = Disk()
    b = board(disk)
    await b.acts_in("m", 1.0)
    before = disk.content.pop(PATH)
    for _ in range(10):
        await b.acts_in("m", 1.0)
    assert before
    assert PATH not in disk.content


async def test_a_disk_that_fails_stops_nothing() -> None:
    disk = Disk()
    disk.broken = errno.ENOSPC
    await board(disk).polls_in(900)
    assert read_situation(disk, PATH) is None


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"format": "edge-situation/9"}'])
def test_one_that_makes_no_sense_is_none(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "situation.json"
    path.write_bytes(data)
    assert read_situation(OsFiles(), path) is None
    assert read_situation(OsFiles(), tmp_path / "none") is None


def test_a_process_is_known_by_more_than_its_number() -> None:
    me = this_process()
    assert me.pid == os.getpid()
    assert is_running(me)
    assert not is_running(Process(me.pid, me.ticks + 1, me.boot))
    assert not is_running(Process(me.pid, me.ticks, "another boot"))
    assert not is_running(Process())
    assert not is_running(Process(2**22 + 1, 1, me.boot)), "beyond the largest number of a process"


async def test_neighbours_that_come_are_noted_without_a_poll_and_those_that_stay_are_not_written_again() -> None:
    disk, known = Disk(), [SeenNeighbours(0, 0), SeenNeighbours(2, 1), SeenNeighbours(2, 1), SeenNeighbours(2, 1)]
    written: list[SeenNeighbours | None] = []

    class Ended(Time):
        async def sleep(self, seconds: float) -> None:
            if PATH in disk.content:
                found = parse_situation(disk.content.pop(PATH))
                written.append(found.neighbours)
            if len(known) == 1:
                raise asyncio.CancelledError
            known.pop(0)

    b = Board(disk, PATH, Ended(), lambda: (0.0, True), lambda: known[0])
    await b.polls_in(900)
    with pytest.raises(asyncio.CancelledError):
        await b.follow()
    assert written == [SeenNeighbours(0, 0), SeenNeighbours(2, 1)]


async def test_where_nobody_looks_for_neighbours_nothing_is_followed() -> None:
    b = board(Disk())
    await b.follow()
    await b.polls_in(900)
    assert b.value.neighbours is None


async def test_what_becomes_of_the_broker_is_told_without_a_poll() -> None:
    disk, time = Disk(), Time()
    now = [SeenBroker("broker:1883")]
    b = Board(disk, PATH, time, lambda: (0.0, True), broker=lambda: now[0])
    await b.polls_in(900)
    following = asyncio.ensure_future(b.follow())
    now[0] = SeenBroker("broker:1883", connected=True, garbage=1, why="P: no nudge")
    await until(lambda: b.value.broker == now[0])
    following.cancel()
    found = read_situation(disk, PATH)
    assert found is not None
    assert found.broker == now[0]
    assert list(of_broker(found.broker)) == [
        "mqtt    connected to broker:1883; 1 message was ignored, the last: P: no nudge"
    ]
    assert list(of_broker(None)) == []
