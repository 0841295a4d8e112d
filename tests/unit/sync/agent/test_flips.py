"""One bit flips in a file that the agent keeps: it is found, never believed, and mended or said."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from sync.agent.files import OsFiles
from sync.agent.outbox import Outbox
from sync.agent.reporter import Reporter
from sync.domain.journal import Phase
from sync.domain.sealed import seal, unsealed
from tests.fakes.sync.files import FaultyFiles
from tests.unit.sync.agent.world import MODELS, World

BOX = Path("/outbox")


def flipped(data: bytes, bit: int) -> bytes:
    return data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :]


def test_what_was_sealed_is_what_comes_out_and_nothing_else() -> None:
    document = b'{"a":[1,2.5,"x"],"b":null}'
    sealed = seal(document)
    assert unsealed(sealed) == document
    for bit in range(8 * len(sealed)):
        with pytest.raises(ValueError, match=r"\w"):
            unsealed(flipped(sealed, bit))
    for end in range(len(sealed)):
        with pytest.raises(ValueError, match=r"\w"):
            unsealed(sealed[:end])


async def test_what_the_server_is_told_is_written_again_where_something_else_stands_there() -> None:
    w = World()
    await w.installed(16)
    path = MODELS / "m" / "aspired.json"
    right = w.disk.content[path]
    for at in range(8 * len(right)):
        w.disk.content[path] = bytes(right[: at // 8]) + bytes([right[at // 8] ^ 1 << at % 8]) + right[at // 8 + 1 :]
        await w.updater.advance("m")
        assert w.disk.content[path] == right


async def test_a_flipped_bit_in_the_journal_is_found_whichever_it_is_and_what_served_serves() -> None:
    w = World()
    await w.installed(16)
    w.want(17)
    await w.until(Phase.PROBATION)
    await w.until(Phase.IDLE)
    w.disk.content[MODELS / "m" / "17" / "model.tflite"] = b"17"
    path, numbers = Path("/state.json"), w.journal.value.report_seq
    right = w.disk.content[path]
    for at in range(0, 8 * len(right), 3):
        w.disk.content[path] = bytes(right[: at // 8]) + bytes([right[at // 8] ^ 1 << at % 8]) + right[at // 8 + 1 :]
        w.restart()
        assert w.journal.problem, at
        assert w.state.active is not None
        assert (w.state.active.version, w.state.phase) == (17, Phase.IDLE)
        assert w.journal.value.report_seq > numbers, "no report is taken for one that was sent before"
        await w.updater.recover()
        assert w.serving == (17,)
    assert path.with_name("state.json.bad") in w.disk.content


class Collector:
    """Takes every report."""

    def __init__(self) -> None:
        self.got: list[bytes] = []

    async def deliver(self, report: bytes) -> None:
        self.got.append(report)


async def test_a_report_that_is_damaged_is_dropped_and_the_others_arrive() -> None:
    files, collector = FaultyFiles(), Collector()
    outbox = Outbox(files, BOX)
    for bit in range(0, 8 * len(seal(b'{"seq":2}')), 5):
        for seq in (1, 2, 3):
            outbox.put(seq, b'{"seq":%d}' % seq)
        files.flip(BOX / "000000000002.json", bit // 8, 1 << bit % 8)
        assert await Reporter(outbox, collector).flush()
        assert collector.got == [b'{"seq":1}', b'{"seq":3}']
        assert len(outbox) == 0
        collector.got.clear()


async def test_a_report_that_cannot_be_read_holds_up_no_other() -> None:
    files, collector = FaultyFiles(), Collector()
    outbox = Outbox(files, BOX)
    for seq in (1, 2):
        outbox.put(seq, b'{"seq":%d}' % seq)
    files.unreadable = {BOX / "000000000001.json"}
    await Reporter(outbox, collector).flush()
    assert collector.got == [b'{"seq":2}']


async def test_files_of_others_in_the_outbox_are_no_reports(tmp_path: Path) -> None:
    collector, outbox = Collector(), Outbox(OsFiles(), tmp_path)
    for name in ("\u00b2.json", "12.json", "x.json", "000000000001.json.tmp"):
        await asyncio.to_thread((tmp_path / name).write_bytes, b"{}")
    outbox.put(7, b"{}")
    assert await Reporter(outbox, collector).flush()
    assert collector.got == [b"{}"]
