"""The operator's side of a real broker: reports that arrive once, and nudges that are typed."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from paho.mqtt.client import Client

from edge.mqtt.settings import LinkSettings
from sync.agent.files import OsFiles
from sync.domain.errors import DiskError
from sync.domain.layout import TIMESTAMP
from sync.domain.nudge import nudge_of, parse_nudge
from sync.domain.report import Report, encode_report
from sync.fleet.bridge import SESSION_S, Bridge
from sync.fleet.collector import CollectLimits, Collector
from sync.fleet.reports import ReportDirectory
from tests.functional.broker import Broker, Peer, running_broker
from tests.functional.linked import in_thread
from tests.functional.listening import (
    BASE,
    WITHIN_S,
    nudged,
    ordered,
    ordered_quietly,
    peer_of,
    published,
    running,
    says,
)
from tests.unit.sync.cli.edge_sync import edge_sync
from tests.unit.sync.doctor.device import Device, device
from tests.waiting import until, until_blocking

ROOT = Path(__file__).parents[2]


@pytest.fixture
def broker(mosquitto: str, tmp_path: Path) -> Iterator[Broker]:
    with running_broker(mosquitto, tmp_path / "broker", persistence=True) as broker:
        yield broker


def report(name: str, seq: int = 1, group: str = "line-3") -> bytes:
    return encode_report(Report(name, group, seq, float(seq), {}))


@asynccontextmanager
async def bridged(port: int, directory: ReportDirectory, limits: CollectLimits | None = None) -> AsyncIterator[Bridge]:
    limits = limits or CollectLimits()
    settings = LinkSettings(host="127.0.0.1", port=port, client_id="collect", session_expiry_s=SESSION_S)
    bridge = Bridge(settings, "edge", Collector(directory, known=set(), limits=limits), limits)
    task = asyncio.ensure_future(bridge.run())
    try:
        await until(lambda: bridge.connected)
        yield bridge
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def seqs(directory: ReportDirectory, name: str) -> list[int]:
    log = directory.of(name)
    return [kept.report.seq for kept in log.kept] if log is not None else []


async def said(peer: Peer, name: str, data: bytes, *, retain: bool = True) -> None:
    await in_thread(lambda: peer.publish(f"edge/v1/{name}/reported", data, retain=retain))


async def test_what_devices_report_is_in_the_directory_once_also_what_came_while_nobody_was_there(
    broker: Broker, tmp_path: Path
) -> None:
    directory = ReportDirectory(OsFiles(), tmp_path / "reports")
    async with peer_of(broker) as peer:
        await said(peer, "cam-1", report("cam-1", 1))
        async with bridged(broker.port, directory) as bridge:
            await said(peer, "cam-1", report("cam-1", 2))
            await said(peer, "cam-1", report("cam-1", 2))
            await until(lambda: bridge.taken == 3, within_s=WITHIN_S)
        for seq in (3, 4, 5):
            await said(peer, "cam-1", report("cam-1", seq))
        async with bridged(broker.port, directory):
            await until(lambda: seqs(directory, "cam-1") == [1, 2, 3, 4, 5], within_s=WITHIN_S)


async def test_nobody_speaks_for_another_and_garbage_is_not_kept(broker: Broker, tmp_path: Path) -> None:
    directory = ReportDirectory(OsFiles(), tmp_path / "reports")
    async with peer_of(broker) as peer, bridged(broker.port, directory) as bridge:
        for name, data in (
            ("cam-2", report("cam-1")),
            ("cam-1", b"{"),
            ("cam-1", b"\xff" * 1000),
            ("cam-1", report("cam-1", group="../x")),
            ("cam-1", b"x" * 300_000),
        ):
            await said(peer, name, data, retain=False)
        await said(peer, "cam-1", b"")
        await said(peer, "cam-1", report("cam-1", 9))
        await until(lambda: bridge.taken == 1, within_s=WITHIN_S)
        assert bridge.ignored == 5
        assert list(directory.devices()) == ["cam-1"]
        assert seqs(directory, "cam-1") == [9]


async def test_new_devices_are_waited_for_and_one_that_floods_holds_up_nobody(broker: Broker, tmp_path: Path) -> None:
    directory = ReportDirectory(OsFiles(), tmp_path / "reports")
    limits = CollectLimits(new_per_s=100.0, new_burst=2, device_per_s=0.001, device_burst=3)
    async with peer_of(broker) as peer:
        for number in range(20):
            await said(peer, f"cam-{number}", report(f"cam-{number}"))
        async with bridged(broker.port, directory, limits) as bridge:
            await until(lambda: bridge.taken == 20, within_s=WITHIN_S)
            for seq in range(2, 52):
                await said(peer, "cam-1", report("cam-1", seq), retain=False)
            await said(peer, "late", report("late"))
            await until(lambda: seqs(directory, "late") == [1], within_s=WITHIN_S)
            assert seqs(directory, "cam-1") == [1, 2, 3, 4]


async def test_a_report_is_taken_from_the_broker_when_the_disk_has_it(broker: Broker, tmp_path: Path) -> None:
    class Full(ReportDirectory):
        broken, tries = True, 0

        def take(self, report: Report, now: float) -> bool:
            self.tries += 1
            if self.broken:
                raise DiskError("no space left")
            return super().take(report, now)

    directory = Full(OsFiles(), tmp_path / "reports")
    limits = replace(CollectLimits(), disk_retry_s=1)
    async with peer_of(broker) as peer:
        async with bridged(broker.port, directory, limits):
            await said(peer, "cam-1", report("cam-1", 7), retain=False)
            await until(lambda: directory.tries, within_s=WITHIN_S)
        directory.broken = False
        async with bridged(broker.port, directory, limits):  # the one before had not acked it
            await until(lambda: seqs(directory, "cam-1") == [7], within_s=WITHIN_S)


async def test_from_a_device_to_the_directory_each_step_once(broker: Broker, tmp_path: Path) -> None:
    directory = ReportDirectory(OsFiles(), tmp_path / "reports")
    async with device(tmp_path) as made, running(made, broker.port) as agent, peer_of(broker) as peer:
        await agent.connected()
        async with bridged(broker.port, directory):
            await published(made, 2)
            await ordered_quietly(peer, "sync")
            await agent.runs(2)
            last = agent.assembled.journal.value.report_seq
            await until(lambda: last in seqs(directory, "cam-1"), within_s=WITHIN_S)
            kept = seqs(directory, "cam-1")
            assert kept == sorted(set(kept))
            await nudged(peer, b"", f"{BASE}/reported")  # taken away, which is no report


def test_the_command_takes_reports_from_a_broker_until_it_is_told_to_stop(broker: Broker, tmp_path: Path) -> None:
    directory = tmp_path / "reports"
    words = ["collect", "--mqtt-host", "127.0.0.1", "--mqtt-port", str(broker.port), "--dir", str(directory), "--json"]
    with (
        broker.peer() as peer,
        subprocess.Popen(
            [sys.executable, "-m", "sync", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process,
    ):
        try:
            assert process.stdout is not None
            told = json.loads(process.stdout.readline())
            assert told == {"url": "", "topic": "edge/v1/+/reported at 127.0.0.1", "devices": 0}
            peer.publish("edge/v1/cam-1/reported", report("cam-1"), retain=True)
            kept = ReportDirectory(OsFiles(), directory)
            until_blocking(lambda: list(kept.devices()) == ["cam-1"])
            process.send_signal(signal.SIGTERM)
            assert process.communicate(timeout=30)[1].endswith("stopped\n")
        finally:
            process.kill()
    assert process.returncode == 0


def test_a_collector_that_is_told_of_no_way_is_2(tmp_path: Path) -> None:
    answer = edge_sync("collect", "--dir", tmp_path)
    assert answer.code == 2
    assert "want --listen, --mqtt-host or both" in answer.errors


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[Device]:
    async with device(tmp_path) as made:
        yield made


async def test_a_nudge_that_is_typed_brings_the_update_and_the_broker_keeps_it(broker: Broker, made: Device) -> None:
    words = ["rollout", "nudge", "--store", str(made.path / "store"), "--json"]
    words += ["--mqtt-host", "127.0.0.1", "--mqtt-port", str(broker.port)]
    async with running(made, broker.port) as agent:
        await agent.connected()
        await published(made, 2)
        answer = await asyncio.to_thread(edge_sync, *words, "--group", "line-3")
        assert answer.code == 0, answer.errors
        told = json.loads(answer.out)
        nudge = nudge_of(await made.store.get(TIMESTAMP, max_bytes=1 << 20))
        assert told == {
            "topic": "edge/v1/_fleet/line-3/desired",
            "generation": nudge.generation,
            "digest": nudge.digest,
        }
        await agent.runs(2)
        assert agent.polls == 1
    async with peer_of(broker, "edge/v1/_fleet/line-3/desired") as late:
        message = await in_thread(late.get)
        assert message.retain
        assert parse_nudge(message.payload) == nudge
    assert answer.errors == ""
    answer = await asyncio.to_thread(edge_sync, *words, "--device", "cam-1")
    assert (json.loads(answer.out)["topic"], answer.errors) == (f"{BASE}/desired", "")


async def test_a_nudge_to_a_group_without_a_rollout_warns_and_names_those_that_have_one(
    broker: Broker, made: Device
) -> None:
    words = ["rollout", "nudge", "--store", str(made.path / "store"), "--mqtt-host", "127.0.0.1"]
    words += ["--mqtt-port", str(broker.port)]
    answer = await asyncio.to_thread(edge_sync, *words)
    there = "there are those of line-3: want --group"
    assert answer.errors == f"warning: default: nobody has written a rollout for this group; {there}\n"
    assert (answer.code, answer.out.startswith("edge/v1/_fleet/default/desired: ")) == (0, True)
    answer = await asyncio.to_thread(edge_sync, *words, "--group", "all")
    assert (answer.code, answer.errors) == (0, "")


async def test_a_nudge_that_no_broker_takes_says_so(
    mosquitto: str, tmp_path: Path, made: Device, unused_tcp_port: int
) -> None:
    words = ["rollout", "nudge", "--store", str(made.path / "store"), "--mqtt-host", "127.0.0.1"]
    answer = await asyncio.to_thread(edge_sync, *words, "--within", "2s", "--mqtt-port", str(unused_tcp_port))
    assert (answer.code, "does not take it within 2 s" in answer.errors) == (4, True)
    answer = await asyncio.to_thread(edge_sync, *words[:4])
    assert (answer.code, "want the broker's host" in answer.errors) == (2, True)
    answer = await asyncio.to_thread(edge_sync, *words, "--device", "Camera_7")
    assert (answer.code, "want a node's name" in answer.errors) == (2, True)
    (tmp_path / "acl").write_text("topic read #\n")
    with running_broker(mosquitto, tmp_path / "strict", more=f"acl_file {tmp_path / 'acl'}") as strict:
        answer = await asyncio.to_thread(edge_sync, *words, "--mqtt-port", str(strict.port))
        assert (answer.code, "to be taken: Not authorized" in answer.errors) == (1, True)


async def test_who_may_do_what_is_as_the_guide_has_it(mosquitto: str, tmp_path: Path, made: Device) -> None:
    assert "`deploy/mosquitto/edge.acl`" in (ROOT / "docs/fleet.md").read_text()
    shutil.copy(ROOT / "deploy/mosquitto/edge.acl", tmp_path / "acl")

    def named(user: str) -> Callable[[Client], object]:
        return lambda client: client.username_pw_set(user)

    with running_broker(mosquitto, tmp_path / "strict", more=f"acl_file {tmp_path / 'acl'}") as strict:
        async with running(made, strict.port, username="cam-1") as agent:
            await agent.connected()
            with strict.peer(set_up=named("cam-2")) as other:
                told = await in_thread(lambda: other.publish(f"{BASE}/desired", b"{}"))
                assert told == "Not authorized"
                assert await in_thread(lambda: other.publish("edge/v1/_fleet/all/cmd/sync")) == "Not authorized"
            with strict.peer(set_up=named("operator")) as operator:
                await in_thread(operator.subscribe, f"{BASE}/reported", f"{BASE}/cmd/+/result")
                await nudged(operator, await published(made, 2), "edge/v1/_fleet/all/desired")
                await agent.runs(2)
                assert (await ordered(operator, "report", {}))["status"] == "ok"
                await in_thread(operator.wait_for, f"{BASE}/reported", says(2), WITHIN_S)
