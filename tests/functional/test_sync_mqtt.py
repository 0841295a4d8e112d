"""The agent on a real broker: nudged, commanded, away from it; what it installs is what the store signed, whatever is said."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from sync.app import assemble
from sync.domain.errors import OperatorError, Refused, Rejected, Unreachable
from tests.functional.broker import Broker, running_broker
from tests.functional.linked import VERSIONS, in_thread
from tests.functional.listening import (
    BASE,
    WITHIN_S,
    forged,
    nudged,
    ordered,
    ordered_quietly,
    peer_of,
    published,
    running,
    says,
)
from tests.unit.sync.cli.edge_sync import edge_sync
from tests.unit.sync.doctor.device import MODEL, Device, device
from tests.waiting import until


@pytest.fixture
def broker(mosquitto: str, tmp_path: Path) -> Iterator[Broker]:
    with running_broker(mosquitto, tmp_path / "broker", persistence=True) as broker:
        yield broker


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[Device]:
    """Version 1 is here and serves."""
    async with device(tmp_path) as made:
        yield made


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("topic", [f"{BASE}/desired", "edge/v1/_fleet/line-3/desired", "edge/v1/_fleet/all/desired"])
async def test_a_nudge_is_one_poll_and_the_update_is_there_long_before_its_time(
    broker: Broker, made: Device, topic: str, version: str
) -> None:
    async with running(made, broker.port, protocol=version) as agent, peer_of(broker) as peer:
        await agent.connected()
        nudge = await published(made, 2)
        await nudged(peer, nudge, topic)
        await agent.runs(2)
        await nudged(peer, nudge, topic)
        await agent.stays_at(1)
    async with running(made, broker.port) as agent:
        await agent.connected()
        await agent.stays_at(0)
        assert agent.version == 2, "what is kept there says nothing new to a new process"


async def test_a_broker_that_comes_back_with_what_it_kept_causes_no_second_poll(broker: Broker, made: Device) -> None:
    async with running(made, broker.port) as agent, peer_of(broker) as peer:
        await agent.connected()
        await nudged(peer, forged())
        await until(lambda: agent.polls == 1)
        broker.stop()
        await until(lambda: not agent.seen.connected)
        broker.start()
        await agent.connected()
        await agent.stays_at(1)


async def test_whatever_is_made_up_installs_nothing_and_costs_few_polls(broker: Broker, made: Device) -> None:
    async with running(made, broker.port, nudge_every_s=3600, commands="all") as agent, peer_of(broker) as peer:
        await agent.connected()
        for payload in (b"", b"{", b"\xff" * 500, b'{"generation": -1, "digest": "x"}', b"9" * 900, b"[" * 900):
            await nudged(peer, payload)
        for number in range(300):
            peer.client.publish(f"{BASE}/desired", forged(1000 + number), qos=number % 2)
        await in_thread(lambda: peer.publish(f"{BASE}/cmd/sync", b"{}", retain=True))
        await until(lambda: agent.polls == 1)
        await until(lambda: agent.seen.garbage == 5, within_s=WITHIN_S)
        assert agent.seen.why.startswith(f"{BASE}/desired: nudge: ")
        await agent.stays_at(1)
        assert agent.version == 1
        await nudged(peer, await published(made, 2))
        await agent.stays_at(1)  # the bound is an hour here
        assert agent.seen.connected


async def test_a_command_that_the_broker_kept_is_none(broker: Broker, made: Device) -> None:
    async with peer_of(broker) as peer:
        await in_thread(lambda: peer.publish(f"{BASE}/cmd/sync", b"{}", retain=True))
        async with running(made, broker.port, protocol="3.1.1") as agent:  # which cannot ask to be spared them
            await until(lambda: agent.seen.garbage == 1, within_s=WITHIN_S)
            assert "kept by the broker" in agent.seen.why
            await agent.stays_at(0)


RESULTS = f"{BASE}/cmd/+/result"


async def test_a_device_is_asked_to_poll_and_to_report_and_answers(broker: Broker, made: Device) -> None:
    async with running(made, broker.port) as agent, peer_of(broker, RESULTS, f"{BASE}/reported") as peer:
        await agent.connected()
        await published(made, 2)
        told = await ordered(peer, "sync", {"transaction": "t-1"})
        assert told == {"status": "ok", "data": {"in_s": 0.0}, "transaction": "t-1"}
        await agent.runs(2)
        assert (await ordered(peer, "report", {}, topic="edge/v1/_fleet/line-3/cmd/report"))["status"] == "ok"
        await in_thread(peer.wait_for, f"{BASE}/reported", lambda data: json.loads(data)["device"] == "cam-1")
        assert agent.polls == 1


async def test_who_is_not_told_to_obey_holds_nothing(broker: Broker, made: Device) -> None:
    async with running(made, broker.port) as agent, peer_of(broker, RESULTS) as peer:
        await agent.connected()
        for name in ("rollback", "pin", "unpin"):
            told = await ordered(peer, name, {"model": MODEL})
            assert told["status"] == "error"
            assert told["error"] == f"this device does not obey {name}: mqtt.commands is 'ask'"
        assert agent.assembled.journal.value.holds == {}


async def test_a_device_is_taken_back_held_and_let_go_of(broker: Broker, made: Device) -> None:
    async with running(made, broker.port, commands="all") as agent, peer_of(broker, RESULTS) as peer:
        await agent.connected()
        await published(made, 2)
        await ordered(peer, "sync", {})
        await agent.runs(2)
        once = {"model": MODEL, "transaction": 7}
        told = await ordered(peer, "rollback", once)
        assert told == {"status": "ok", "data": {"model": MODEL, "held": 1}, "transaction": 7}
        assert await ordered(peer, "rollback", once) == told, "it comes twice, and is done once"
        await agent.runs(1)
        assert (await ordered(peer, "pin", {"model": MODEL, "version": 3}))["error"].startswith(
            "want a version that is here"
        )
        assert (await ordered(peer, "pin", {"model": "../x"}))["error"].startswith("model: want a model's name")
        assert (await ordered(peer, "pin", {"modle": "m"}))["status"] == "error"
        assert (await ordered(peer, "unpin", {"model": MODEL}))["data"] == {"model": MODEL, "held": None, "was": True}
        await agent.runs(2)


async def test_answers_go_where_they_may_and_nowhere_else(broker: Broker, made: Device) -> None:
    reply = "edge/v1/_reply/op/1"
    async with running(made, broker.port) as agent, peer_of(broker, RESULTS, reply, f"{BASE}/infer/#") as peer:
        await agent.connected()
        told = await ordered(peer, "report", {}, ResponseTopic=reply, CorrelationData=b"\x01\x02")
        assert told["status"] == "ok"
        await in_thread(lambda: peer.publish(f"{BASE}/cmd/sync", b"{}", ResponseTopic=f"{BASE}/infer/m"))
        assert (await in_thread(peer.get)).topic == f"{BASE}/cmd/sync/result"
        assert agent.seen.garbage == 1


async def test_reports_wait_for_a_broker_that_is_away_and_updates_do_not(broker: Broker, made: Device) -> None:
    broker.stop()
    async with running(made, broker.port, poll__every_s=0.2, report__timeout_s=0.2, report__retry_s=3600) as agent:
        await published(made, 2)
        await agent.runs(2)
        waiting = made.path / "state" / "outbox"
        await until(lambda: any(waiting.glob("*.json")))
        broker.start()
        async with peer_of(broker, f"{BASE}/reported") as peer:
            await in_thread(peer.wait_for, f"{BASE}/reported", says(2), WITHIN_S)
            await until(lambda: not any(waiting.glob("*.json")), within_s=WITHIN_S)
            broker.kill()
            await published(made, 3)
            await agent.runs(3)
            broker.start()
        async with peer_of(broker, f"{BASE}/reported") as late:
            await in_thread(late.wait_for, f"{BASE}/reported", says(3), WITHIN_S)


async def test_a_report_that_the_broker_may_not_take_now_waits_and_one_that_it_never_can_is_dropped(
    mosquitto: str, tmp_path: Path, made: Device
) -> None:
    (tmp_path / "acl").write_text("topic read #\n")
    more = f"acl_file {tmp_path / 'acl'}\nmax_packet_size 30000"
    with running_broker(mosquitto, tmp_path / "strict", more=more) as strict:
        async with running(made, strict.port, report__timeout_s=3) as agent:
            await agent.connected()
            assert agent.assembled.messaging is not None
            deliver = agent.assembled.messaging.broker.deliver
            with pytest.raises(Refused, match="to be taken: Not authorized"):
                await deliver(b"{}")
            with pytest.raises(Rejected, match="and the broker takes 30000"):
                await deliver(b"x" * 40_000)
            strict.freeze()
            with pytest.raises(Unreachable, match="the broker did not take it within 3 s"):
                await deliver(b"{}")
            strict.thaw()


async def test_where_a_collector_takes_reports_the_broker_is_shown_the_latest(broker: Broker, made: Device) -> None:
    url = "http://127.0.0.1:9/v1/reports"  # nobody is there
    async with running(made, broker.port, report__url=url) as agent, peer_of(broker, f"{BASE}/reported") as peer:
        await agent.connected()
        await published(made, 2)
        await ordered_quietly(peer, "sync")
        await in_thread(peer.wait_for, f"{BASE}/reported", says(2), WITHIN_S)
        assert any((made.path / "state" / "outbox").glob("*.json")), "the collector has not taken them"


async def test_how_far_an_update_is_is_told_while_it_goes_on(broker: Broker, made: Device) -> None:
    big = b"w" * 1_500_000
    async with (
        running(made, broker.port, network__limit_Bps=500_000) as agent,
        peer_of(broker, f"{BASE}/sync") as peer,
    ):
        await agent.connected()
        await made.release(2, big)
        await made.roll_out(2)
        await ordered_quietly(peer, "sync")
        await agent.runs(2)
        told = [json.loads((await in_thread(peer.get)).payload)]
        while told[-1]["phase"] != "idle":
            told.append(json.loads((await in_thread(peer.get)).payload))
        assert {(each["model"], each["version"], each["total"]) for each in told} == {(MODEL, 2, len(big))}
        assert any(0 < each["bytes"] < len(big) for each in told if each["phase"] == "staging")
        assert told[-1]["bytes"] == len(big)
        assert len(told) <= 8


async def test_a_name_that_is_no_level_of_a_topic_is_refused_with_what_was_wanted(made: Device) -> None:
    made.settings |= {"mqtt.host": "127.0.0.1", "device.id": "Camera_7"}
    with pytest.raises(OperatorError, match=r"device.id: with mqtt.host, want at most 63 letters a-z.* got 'Camera_7'"):
        await asyncio.to_thread(assemble, made.config)


def test_an_agent_without_a_broker_imports_nothing_of_mqtt() -> None:
    code = "import sync.app, sync.cli.agent, sys; print([n for n in sys.modules if 'mqtt' in n])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"


async def test_a_broker_that_neither_answers_nor_refuses_delays_nothing(broker: Broker, made: Device) -> None:
    broker.freeze()
    try:
        async with running(made, broker.port, poll__every_s=0.2) as agent:
            for version in (2, 3):
                await published(made, version)
                await agent.runs(version)
            assert not agent.seen.connected
            began = time.monotonic()
        assert time.monotonic() - began < 3, "nor does it keep the agent from its end"
    finally:
        broker.thaw()


async def test_one_poll_from_the_command_line_delivers_its_report_too(broker: Broker, made: Device) -> None:
    async with peer_of(broker, f"{BASE}/reported") as peer:
        await published(made, 2)
        made.settings |= {"mqtt.host": "127.0.0.1", "mqtt.port": str(broker.port)}
        settings = [word for key, value in made.settings.items() for word in ("--set", f"{key}={value}")]
        answer = await asyncio.to_thread(edge_sync, "agent", "once", "--json", "--watch-s", "0.02", *settings)
        assert answer.code == 0, answer.errors
        told = json.loads(answer.out)
        assert (told["done"], told["models"][MODEL]["runs"], told["waiting_reports"]) == (True, 2, 0)
        await in_thread(peer.wait_for, f"{BASE}/reported", says(2), WITHIN_S)
