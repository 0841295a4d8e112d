from __future__ import annotations

import asyncio
import json
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio

from edge.domain.errors import ControlFailed
from edge.domain.ports import ModelStatus
from edge.frontends.mqtt import commands as module
from edge.frontends.mqtt.command_form import AGENTS, read_command
from edge.frontends.mqtt.commands import MAX_PENDING, MAX_REMEMBERED, Commands, Deeds
from edge.mqtt.commands import MAX_COMMAND_BYTES
from edge.mqtt.message import Message, Properties
from edge.mqtt.topics import Tree
from sync.agent.orders import ASK, HOLD
from tests.fakes.link import FakeLink
from tests.waiting import until

TREE = Tree("edge", "cam1")
REPLY = "edge/v1/_reply/me/1"


@dataclass
class Server:
    """Catalog, Control and the rest of what commands reach. A load waits for `gate` where there is one."""

    did: list[str] = field(default_factory=list)
    gate: asyncio.Event | None = None

    def status(self, name: str) -> ModelStatus | None:
        return ModelStatus(name, [], {}) if name == "digits" else None

    async def load(self, name: str) -> None:
        if self.gate is not None:
            await self.gate.wait()
        if name == "buggy":
            raise ZeroDivisionError
        if name != "digits":
            raise ControlFailed(f"{name}: no such model in the repository")
        self.did.append(f"load {name}")

    async def unload(self, name: str) -> None:
        self.did.append(f"unload {name}")

    async def reload(self) -> None:
        self.did.append("rescan")


@dataclass
class Rig:
    link: FakeLink
    server: Server
    dropped: Counter[str]
    commands: Commands

    async def settle(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    def send(self, name: str, body: object = None, **more: Any) -> None:
        payload = body if isinstance(body, bytes) else json.dumps({} if body is None else body).encode()
        properties = Properties(
            response_topic=more.pop("reply", REPLY),
            correlation=more.pop("correlation", None),
            expiry_s=more.pop("expiry_s", None),
        )
        fleet = more.pop("fleet", False)
        message = Message(f"edge/v1/cam1/cmd/{name}", payload, 1, properties=properties, **more)
        self.commands.handle(message, name, fleet=fleet)

    def answers(self) -> list[dict[str, Any]]:
        return [json.loads(each.payload) for each in self.link.published]


def make(*, control: bool = True, jitter_s: float = 0.0) -> Rig:
    link, server, dropped = FakeLink(), Server(), Counter[str]()
    deeds = Deeds(
        catalog=server,  # type: ignore[arg-type]  # only `status` is asked
        control=server if control else None,
        rescan=server.reload,
        reload=lambda: server.did.append("reload"),
        set_level=lambda level: server.did.append(f"level {level}"),
    )
    commands = Commands(
        link=link,
        tree=TREE,
        deeds=deeds,
        reply_allow=("edge/v1/_reply/#",),
        dropped=lambda reason: dropped.update([reason]),
        jitter_s=jitter_s,
        chance=random.Random(1),
    )
    return Rig(link, server, dropped, commands)


@pytest_asyncio.fixture
async def rig() -> AsyncIterator[Rig]:
    made = make()
    yield made
    await made.commands.close()


async def test_a_load_is_done_and_answered_to_the_response_topic_with_its_correlation_and_transaction(rig: Rig) -> None:
    rig.send("load", {"model": "digits", "transaction": "t-1"}, correlation=b"c1")
    await rig.settle()
    assert rig.server.did == ["load digits"]
    (answer,) = rig.link.published
    assert (answer.topic, answer.qos, answer.retain) == (REPLY, 1, False)
    assert answer.properties.correlation == b"c1"
    assert answer.properties.content_type == "application/json"
    assert answer.properties.first("status") == "200"
    assert json.loads(answer.payload) == {"status": "ok", "data": {"model": "digits"}, "transaction": "t-1"}


async def test_without_a_response_topic_the_answer_goes_below_the_command(rig: Rig) -> None:
    rig.send("unload", {"model": "digits"}, reply=None)
    await rig.settle()
    assert [each.topic for each in rig.link.published] == ["edge/v1/cam1/cmd/unload/result"]
    assert rig.answers() == [{"status": "ok", "data": {"model": "digits"}}]


async def test_reload_and_log_level_do_what_they_say_even_where_control_is_off() -> None:
    rig = make(control=False)
    rig.send("reload", b"")
    rig.send("log-level", {"level": "debug"})
    await rig.settle()
    assert sorted(rig.server.did) == ["level debug", "reload", "rescan"]
    assert [each["status"] for each in rig.answers()] == ["ok", "ok"]


@pytest.mark.parametrize("name", ["load", "unload"])
async def test_models_are_left_alone_where_control_is_off(name: str) -> None:
    rig = make(control=False)
    rig.send(name, {"model": "digits", "transaction": 7})
    await rig.settle()
    assert rig.server.did == []
    (answer,) = rig.answers()
    assert (answer["status"], answer["transaction"]) == ("error", 7)
    assert "mqtt.model_control" in answer["error"]
    assert rig.link.published[0].properties.user == (("status", "403"), ("error", "forbidden"))


async def test_a_response_topic_that_is_not_allowed_is_not_published_to_and_nothing_is_done(rig: Rig) -> None:
    rig.send("unload", {"model": "digits"}, reply="edge/v1/other/cmd/unload")
    await rig.settle()
    assert rig.server.did == []
    assert rig.dropped == {"reply_refused": 1}
    assert [each.topic for each in rig.link.published] == ["edge/v1/cam1/cmd/unload/result"]
    assert rig.answers()[0]["status"] == "error"


@pytest.mark.parametrize(
    ("name", "body", "says"),
    [
        ("load", b"{", "JSON"),
        ("load", b"[1]", "object"),
        ("load", b"[" * 4000, "JSON"),
        ("load", b" " * (MAX_COMMAND_BYTES + 1), "at most 4096"),
        ("load", b"\xff\xfe", "JSON"),
        ("load", {}, "got nothing"),
        ("load", {"model": "../etc"}, "name of a model"),
        ("load", {"model": 3}, "name of a model"),
        ("load", {"modle": "digits"}, "'modle': no such key of load; want model, transaction"),
        ("unload", {"model": "digits", "transaction": "x" * 129}, "transaction"),
        ("unload", {"model": "digits", "transaction": [1]}, "transaction"),
        ("reload", {"model": "digits"}, "no such key of reload"),
        ("log-level", {"level": "loud"}, "debug, info, warning, error"),
    ],
)
async def test_what_is_no_such_command_is_answered_with_what_was_wanted_and_does_nothing(
    rig: Rig, name: str, body: object, says: str
) -> None:
    rig.send(name, body)
    await rig.settle()
    assert rig.server.did == []
    (answer,) = rig.answers()
    assert answer["status"] == "error"
    assert says in answer["error"]
    assert rig.link.published[0].properties.first("status") in ("400", "413")


async def test_of_commands_that_were_refused_for_their_length_nothing_is_kept(rig: Rig) -> None:
    for number in range(MAX_REMEMBERED):
        rig.send("load", bytes(100_000), correlation=b"%d" % number)
    assert len(rig.link.published) == MAX_REMEMBERED
    assert not rig.commands._known


async def test_of_commands_that_are_known_when_they_come_again_only_the_answers_are_kept(rig: Rig) -> None:
    payloads = [b" " * (MAX_COMMAND_BYTES - 3 - len(f"{n}")) + b"[%d]" % n for n in range(MAX_REMEMBERED)]
    held = [sys.getrefcount(each) for each in payloads]
    for number, payload in enumerate(payloads):
        rig.send("load", payload, correlation=b"%d" % number)
    del payload
    rig.link.acked.clear()
    assert len(rig.commands._known) == MAX_REMEMBERED
    assert [sys.getrefcount(each) for each in payloads] == held


async def test_correlation_data_that_is_too_long_is_refused_and_not_given_back(rig: Rig) -> None:
    rig.send("unload", {"model": "digits"}, correlation=bytes(65))
    await rig.settle()
    assert rig.server.did == []
    assert "at most 64 bytes, got 65" in rig.answers()[0]["error"]
    assert rig.link.published[0].properties.correlation is None


async def test_an_unknown_model_is_404_and_a_bug_tells_nothing_but_that_it_is_one(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    rig.send("load", {"model": "nope"}, correlation=b"1")
    rig.send("load", {"model": "buggy"}, correlation=b"2")
    await rig.settle()
    assert [each.properties.first("status") for each in rig.link.published] == ["404", "500"]
    assert rig.answers()[1] == {"status": "error", "error": "internal error", "data": {}}
    assert "ZeroDivisionError" in caplog.text


async def test_the_same_correlation_is_done_once_and_answered_twice(rig: Rig) -> None:
    for _ in range(2):
        rig.send("load", {"model": "digits"}, correlation=b"c1")
        await rig.settle()
    assert rig.server.did == ["load digits"]
    assert len(rig.answers()) == 2
    assert rig.link.published[0] == rig.link.published[1]
    assert rig.dropped == {"duplicate": 1}


async def test_what_is_asked_again_while_it_is_done_gets_one_answer(rig: Rig) -> None:
    rig.server.gate = asyncio.Event()
    for _ in range(2):
        rig.send("load", {"model": "digits"}, correlation=b"c1")
        await rig.settle()
    assert rig.answers() == []
    rig.server.gate.set()
    await rig.settle()
    assert rig.server.did == ["load digits"]
    assert len(rig.answers()) == 1


async def test_without_a_correlation_only_what_the_broker_sends_again_is_a_duplicate(rig: Rig) -> None:
    rig.send("load", {"model": "digits"})
    await rig.settle()
    rig.send("load", {"model": "digits"}, dup=True)
    await rig.settle()
    assert rig.server.did == ["load digits"]
    rig.send("load", {"model": "digits"})
    await rig.settle()
    assert rig.server.did == ["load digits"] * 2


async def test_a_first_delivery_that_bears_the_flag_is_done(rig: Rig) -> None:
    rig.send("load", {"model": "digits"}, dup=True)
    await rig.settle()
    assert rig.server.did == ["load digits"]


async def test_answers_are_remembered_up_to_a_bound(rig: Rig) -> None:
    for number in range(MAX_REMEMBERED + 1):
        rig.send("reload", b"", correlation=str(number).encode())
        await rig.settle()
    rig.server.did.clear()
    rig.send("reload", b"", correlation=str(MAX_REMEMBERED).encode())
    await rig.settle()
    assert rig.server.did == []
    rig.send("reload", b"", correlation=b"0")
    await rig.settle()
    assert rig.server.did == ["reload", "rescan"]


async def test_an_answer_is_forgotten_in_time(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED_S", -1.0)
    for _ in range(2):
        rig.send("reload", b"", correlation=b"1")
        await rig.settle()
    assert rig.server.did == ["reload", "rescan"] * 2


async def test_a_retained_command_is_acked_counted_and_nothing_else(rig: Rig) -> None:
    rig.send("unload", {"model": "digits"}, retain=True)
    await rig.settle()
    assert (rig.server.did, rig.answers(), rig.dropped) == ([], [], {"retained": 1})
    assert len(rig.link.acked) == 1


@pytest.mark.parametrize("name", AGENTS)
async def test_the_agents_commands_are_left_to_the_agent(rig: Rig, name: str) -> None:
    rig.send(name, {"model": "digits"})
    await rig.settle()
    assert (rig.server.did, rig.answers()) == ([], [])
    assert len(rig.link.acked) == 1


def test_the_server_knows_which_commands_are_the_agents() -> None:
    assert set(AGENTS) == {*ASK, *HOLD}


async def test_a_command_that_nobody_has_is_answered_with_those_that_there_are(rig: Rig) -> None:
    rig.send("nope", {"transaction": 7}, correlation=b"c1", reply=None)
    await rig.settle()
    (answer,) = rig.link.published
    assert (answer.topic, answer.properties.correlation) == ("edge/v1/cam1/cmd/nope/result", b"c1")
    assert (answer.properties.first("status"), answer.properties.first("error")) == ("400", "invalid_input")
    says = (
        "nope: no such command; want load, unload, reload, log-level, or the agent's sync, rollback, pin, unpin, report"
    )
    assert rig.answers() == [{"status": "error", "error": says, "data": {}, "transaction": 7}]


async def test_a_command_is_acked_before_it_is_done(rig: Rig) -> None:
    rig.server.gate = asyncio.Event()
    rig.send("load", {"model": "digits"})
    assert len(rig.link.acked) == 1
    await rig.settle()
    assert rig.answers() == []


async def test_commands_for_one_model_are_done_in_their_order_and_others_do_not_wait(rig: Rig) -> None:
    rig.server.gate = asyncio.Event()
    rig.send("load", {"model": "digits"})
    rig.send("unload", {"model": "digits"})
    rig.send("unload", {"model": "other"})
    await rig.settle()
    assert rig.server.did == ["unload other"]
    rig.server.gate.set()
    await rig.settle()
    assert rig.server.did == ["unload other", "load digits", "unload digits"]


async def test_more_than_may_wait_are_refused_and_may_be_asked_again(rig: Rig) -> None:
    rig.server.gate = asyncio.Event()
    for number in range(MAX_PENDING + 1):
        rig.send("load", {"model": "digits"}, correlation=str(number).encode())
    (answer,) = rig.link.published
    assert answer.properties.user == (("status", "503"), ("error", "overloaded"))
    rig.server.gate.set()
    for _ in range(MAX_PENDING):
        await rig.settle()
    rig.send("load", {"model": "digits"}, correlation=str(MAX_PENDING).encode())
    await rig.settle()
    assert len(rig.server.did) == MAX_PENDING + 1


async def test_a_command_to_a_fleet_waits_a_random_time_first_and_one_to_the_node_does_not() -> None:
    rig = make(jitter_s=0.2)
    expected = random.Random(1).uniform(0.0, 0.2)
    loop = asyncio.get_running_loop()
    began = loop.time()
    rig.send("reload", b"", fleet=True)
    rig.send("log-level", {"level": "info"})
    await rig.settle()
    assert rig.server.did == ["level info"]
    await until(lambda: len(rig.server.did) == 3)
    assert loop.time() - began >= expected - 0.005


async def test_a_command_whose_time_has_passed_meanwhile_is_not_done() -> None:
    rig = make(jitter_s=0.2)
    rig.send("reload", b"", fleet=True, expiry_s=0)
    await until(lambda: rig.dropped)
    assert rig.dropped == {"expired": 1}
    assert (rig.server.did, rig.answers()) == ([], [])


async def test_closing_leaves_nothing_behind(rig: Rig) -> None:
    rig.server.gate = asyncio.Event()
    rig.send("load", {"model": "digits"})
    await rig.commands.close()
    rig.server.gate.set()
    await rig.settle()
    assert (rig.server.did, rig.answers()) == ([], [])
    rig.send("reload", b"")
    await rig.settle()
    assert rig.server.did == []
    assert len(rig.link.acked) == 1


def test_nothing_is_as_good_as_an_empty_object() -> None:
    assert read_command("reload", b"") == read_command("reload", b"{}")
