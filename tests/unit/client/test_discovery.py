"""Servers are found by what they answer; whoever lies, floods or keeps still costs nothing but their own place."""

from __future__ import annotations

import asyncio
import errno
import json
import secrets
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest
import zeroconf.asyncio
from click.testing import CliRunner
from zeroconf import IPVersion
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

from edge.cli import exits
from edge.cli.discover import discover as command
from edge.client import Client, Node, NotFound, Unreachable, discover, discover_all, discovery
from edge.client import found as asking
from edge.client.discovery import one_of_each
from edge.client.found import MAX_ADDRESSES, node_of
from edge.domain.advert import SERVICE, Advert, to_txt
from tests.unit.client.both import Routes, Script, answer, routed, scripted

INDEX = json.dumps([{"name": "digits", "version": "1", "state": "READY"}, {"name": "bad", "state": "UNAVAILABLE"}])
GOOD = {"/v2/health/ready": answer(200, b""), "/v2/repository/index": answer(200, INDEX.encode())}
MARK = f"t-{secrets.token_hex(6)}"
MANY = 1000
CROWD = 400
HERE: dict[str, Any] = {"interfaces": ["127.0.0.1"]}


@pytest.fixture
def server() -> Iterator[Routes]:
    with routed(GOOD) as script:
        yield script


def port_of(script: Script) -> int:
    return int(script.url.rpartition(":")[2])


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def service(port: int, txt: dict[str, Any] | None = None, *addresses: str, id: str = "") -> AsyncServiceInfo:
    """An instance of a name of its own: the loopback is everybody's."""
    mark = f"{MARK}-{secrets.token_hex(6)}"
    said = to_txt(Advert(id or mark, "0.1.0", models=1)) | (txt or {})
    return AsyncServiceInfo(
        SERVICE,
        f"{mark}.{SERVICE}",
        port=port,
        parsed_addresses=list(addresses or ("127.0.0.1",)),
        properties={key: value for key, value in said.items() if value is not None},
        server=f"{mark}.local.",
    )


@asynccontextmanager
async def announcing(*services: AsyncServiceInfo) -> AsyncIterator[AsyncZeroconf]:
    async with AsyncZeroconf(interfaces=["127.0.0.1"], ip_version=IPVersion.V4Only) as responder:
        for each in services:
            await responder.async_register_service(each, cooperating_responders=True)
        yield responder


def own(nodes: list[Node], *services: AsyncServiceInfo) -> dict[str, Node]:
    names = {each.name.partition(".")[0] for each in services}
    return {node.name: node for node in nodes if node.name in names}


async def look(timeout_s: float = 1.5, *, until: int = MANY, **options: Any) -> list[Node]:
    """As long as `timeout_s`, or until so many of this file's have been found."""
    nodes: list[Node] = []
    async with aclosing(discover(timeout_s=timeout_s, **HERE, **options)) as found:
        async for node in found:
            nodes += [node] if node.name.startswith(MARK) else []
            if len(nodes) >= until:
                break
    return nodes


async def stop_at(url: str, nodes: AsyncIterator[Node]) -> AsyncIterator[Node]:
    async for node in nodes:
        yield node
        if node.url == url:
            return


async def test_who_answers_is_told_with_what_they_have(server: Routes) -> None:
    service_ = service(port_of(server))
    async with announcing(service_):
        (node,) = own(await look(5, until=1), service_).values()
    assert node.url == server.url
    assert node.ready
    assert node.models == ("digits",)
    assert node.has("digits")
    assert not node.has("bad")


async def test_liars_are_left_out_and_the_others_are_found(server: Routes) -> None:
    port = port_of(server)
    lies = [
        service(port, {"path": "http://elsewhere/"}),
        service(port, {"path": "/../admin"}),
        service(port, {"txtvers": "7"}),
        service(port, {"id": None}),
        service(port, {"tls": "maybe"}),
        service(0),
        service(port, None, "224.0.0.1"),
        service(port, None, "0.0.0.0"),
        service(
            port, {"more": "x" * 200, "and": "y" * 240, "on": "z" * 240, "k": "z" * 240, "l": "z" * 240, "m": "z" * 240}
        ),
    ]
    good = service(port)
    async with announcing(*lies, good):
        assert own(await look(3.0), *lies, good).keys() == {good.name.partition(".")[0]}


async def test_every_address_is_tried_until_one_answers(server: Routes) -> None:
    # On Linux all of 127.0.0.0/8 is this machine, and nobody listens on 127.0.0.9.
    service_ = service(port_of(server), None, "127.0.0.9", "127.0.0.1")
    async with announcing(service_):
        (node,) = own(await look(5, until=1), service_).values()
    assert set(node.addresses) == {"127.0.0.1", "127.0.0.9"}
    assert node.url == server.url


async def test_who_does_not_answer_is_named_with_the_reason_and_takes_nobodys_place(server: Routes) -> None:
    dead, alive = service(closed_port(), id="one-id"), service(port_of(server), id="one-id")
    async with announcing(dead, alive):
        nodes = own(await look(5.0, until=2), dead, alive)
    there = nodes[alive.name.partition(".")[0]]
    assert there.url == server.url
    if absent := nodes.get(dead.name.partition(".")[0]):  # who was first to answer is not theirs to say
        assert "refused" in absent.problem
        assert not absent.url
        assert one_of_each([absent, there, absent]) == [there]


async def test_a_server_is_given_once_however_often_it_announces_itself(server: Routes) -> None:
    many = [service(port_of(server), id="the-same") for _ in range(3)]
    async with announcing(*many):
        assert len(own(await look(2.0), *many)) == 1


async def test_no_token_is_shown_without_tls(server: Routes) -> None:
    server._routes = {"/v2/health/ready": answer(200, b""), "/v2/repository/index": answer(401, b'{"error": "token"}')}
    service_ = service(port_of(server), {"auth": "bearer"})
    async with announcing(service_):
        (node,) = own(await look(5, until=1, token="secret"), service_).values()
    assert (node.ready, node.models, node.problem) == (True, None, "it asks for a token, without TLS")
    assert server.asked
    assert not any(b"secret" in request for request in server.asked)


async def test_who_takes_a_question_and_never_answers_is_left_after_their_share_of_the_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(asking, "ASK_S", 60.0)
    monkeypatch.setattr(asking, "NODE_S", 0.3)
    with scripted(lambda connection: connection.recv(1)) as silent:
        service_ = service(port_of(silent))
        async with announcing(service_):
            (node,) = await look(10, until=1)
    assert (node.url, node.problem) == ("", "none of its addresses answered within 0.3 s")


async def test_no_more_names_are_looked_into_than_the_bound(server: Routes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "MAX_NAMES", 1)
    monkeypatch.setattr(discovery, "SERVICE", "_edge-crowd._tcp.local.")
    crowd = [AsyncServiceInfo("_edge-crowd._tcp.local.", f"{n}._edge-crowd._tcp.local.", port=port_of(server),
             parsed_addresses=["127.0.0.1"], properties=to_txt(Advert(f"c{n}", "1")), server=f"c{n}.local.")
             for n in range(3)]  # fmt: skip
    async with announcing(*crowd):
        assert len([node async for node in discover(timeout_s=1.0, **HERE)]) == 1


async def test_four_hundred_that_never_answer_hide_nobody(server: Routes) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as hole:
        dead = [service(int(hole.getsockname()[1])) for _ in range(CROWD)]
        alive = service(port_of(server))
        async with announcing() as responder:
            for each in (*dead, alive):  # without asking whether a name is taken: who floods does not either
                responder.zeroconf.registry.async_add(each)
            async with aclosing(discover(timeout_s=60.0, **HERE)) as found:
                # On a machine that is busy, some that never answer are given up first.
                assert [node async for node in stop_at(server.url, found)][-1].url == server.url


async def test_the_first_that_has_the_model_is_taken(server: Routes) -> None:
    model = f"m-{secrets.token_hex(6)}"
    index = json.dumps([{"name": model, "version": "1", "state": "READY"}]).encode()
    server._routes = GOOD | {"/v2/repository/index": answer(200, index)}
    service_ = service(port_of(server))
    async with announcing(service_):
        client = await asyncio.to_thread(Client.discover, model=model, **HERE)
        with client:
            assert client.url == server.url
        with pytest.raises(NotFound, match=f"no server with the model not-{model} was found within 1 s"):
            await asyncio.to_thread(Client.discover, model=f"not-{model}", within_s=1.0, **HERE)


def test_a_machine_without_a_network_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Unreachable, match="none0 has no address"):
        discover_all(interfaces=["none0"])

    def nowhere(**_: object) -> None:
        raise OSError(errno.ENETUNREACH, "Network is unreachable")

    monkeypatch.setattr(zeroconf.asyncio, "AsyncZeroconf", nowhere)
    with pytest.raises(Unreachable, match="Network is unreachable"):
        discover_all(interfaces=["lo"])


def test_addresses_are_taken_as_far_as_they_can_be_somebodys() -> None:
    info = service(8501, None, "2001:db8::1", "127.0.0.1", "192.0.2.1", "255.255.255.255")
    assert node_of(info.name, info, loopback=False).addresses == ("192.0.2.1",)
    assert set(node_of(info.name, info, loopback=True).addresses) == {"127.0.0.1", "192.0.2.1"}
    assert node_of(info.name, info, loopback=False, ipv6=True).addresses == ("192.0.2.1", "2001:db8::1")
    many = service(8501, None, *(f"192.0.2.{n}" for n in range(1, 30)))
    assert len(node_of(many.name, many, loopback=False).addresses) == MAX_ADDRESSES


def test_a_name_that_would_steer_a_terminal_is_shown_without() -> None:
    info = service(8501, None, "192.0.2.1")
    assert node_of(f"a\x1b[31m.{SERVICE}", info, loopback=False).name == "a�[31m"


NODE = Node("one", Advert("i", "0.1.0", devices=("cpu",)), ("192.0.2.1",), 8501, "http://192.0.2.1:8501", True, ("m",))
DEAD = Node("two", Advert("j", "0.1.0"), ("192.0.2.2",), 8501, problem="refused")


@pytest.mark.parametrize(
    ("found", "arguments", "code", "said"),
    [
        ([NODE], [], exits.OK, "http://192.0.2.1:8501"),
        ([NODE, DEAD], ["--model", "m"], exits.OK, "one"),
        ([NODE, DEAD], ["--model", "x"], exits.NOT_FOUND, ""),
        ([DEAD], [], exits.UNREACHABLE, "unreachable"),
        ([], [], exits.UNREACHABLE, ""),
        ([], ["--model", "m"], exits.UNREACHABLE, ""),
    ],
)
def test_the_command_leaves_with_what_it_found(
    found: list[Node], arguments: list[str], code: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery, "discover_all", lambda *_, **__: found)
    done = CliRunner().invoke(command, arguments, standalone_mode=False)
    got = getattr(done.exception, "code", exits.OK) if done.exception else exits.OK
    assert got == code
    assert said in done.output
    rows = CliRunner().invoke(command, [*arguments, "--json"], standalone_mode=False).output
    assert [row["name"] for row in json.loads(rows or "[]")] == [
        node.name for node in found if not arguments or node.has(arguments[1])
    ]


def test_the_command_says_what_it_cannot_use() -> None:
    done = CliRunner().invoke(command, ["--interface", "none0"], standalone_mode=False)
    assert isinstance(done.exception, exits.Failure)
    assert done.exception.code == exits.UNREACHABLE
