"""The server is announced when it can answer, again when something has changed, and no longer when it goes."""

from __future__ import annotations

import asyncio
import errno
import logging
import secrets
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from zeroconf import IPVersion, ServiceInfo, ServiceStateChange
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from edge.domain.advert import HTTP_SERVICE, SERVICE, from_txt
from edge.domain.interfaces import Interface
from edge.domain.lifecycle import State
from edge.domain.models import ModelId
from edge.domain.ports import ModelStatus, VersionStatus
from edge.frontends.announce import announcer as announce
from edge.frontends.announce.announcer import Announcement, Announcer, advert_of, own_id
from tests.waiting import until

LOOPBACK = [Interface("lo", "127.0.0.1")]
SAID = Announcement("n", "127.0.0.1", 8501, "0.1.0", interfaces=["lo"])


def model(name: str, *versions: int, state: State = State.READY, device: str = "cpu") -> ModelStatus:
    return ModelStatus(name, [VersionStatus(ModelId(name, version), state, device=device) for version in versions], {})


class Here:
    """A catalog that a test changes."""

    def __init__(self, *models: ModelStatus, ready: bool = True) -> None:
        self.there, self.ready = list(models), ready

    def models(self) -> Sequence[ModelStatus]:
        return self.there

    def status(self, name: str) -> ModelStatus | None:
        raise NotImplementedError

    def describe(self, spec: object) -> Any:
        raise NotImplementedError


class Kept:
    def __init__(self, **kept: bytes) -> None:
        self.kept = kept

    def recall(self, key: str) -> bytes | None:
        return self.kept.get(key)

    def keep(self, key: str, data: bytes) -> None:
        self.kept[key] = data


class Network:
    """What somebody on the loopback sees: every instance of this test's, as it was last told."""

    def __init__(self, zeroconf: AsyncZeroconf, mark: str) -> None:
        self._zeroconf, self._mark = zeroconf, mark
        self.seen: dict[str, ServiceInfo] = {}
        self.gone: list[str] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def hear(self, zeroconf: object, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        if not name.startswith(self._mark):
            return
        if state_change is ServiceStateChange.Removed:
            self.gone.append(name)
            self.seen.pop(name, None)
        else:
            task = asyncio.ensure_future(self._look(service_type, name))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _look(self, service_type: str, name: str) -> None:
        info = AsyncServiceInfo(service_type, name)
        if await info.async_request(self._zeroconf.zeroconf, 3000):
            self.seen[name] = info

    async def until_at(self, name: str, *addresses: str) -> None:
        """A browser is not told of an address that is no longer there, so this looks again and again."""
        async with asyncio.timeout(10):
            while set(self.seen[name].parsed_addresses()) != set(addresses):
                await self._look(SERVICE, name)
                await asyncio.sleep(0.05)


@pytest.fixture
def mark() -> str:
    """The loopback is everybody's."""
    return f"t-{secrets.token_hex(6)}"


@pytest.fixture
async def network(mark: str) -> AsyncIterator[Network]:
    async with AsyncZeroconf(interfaces=["127.0.0.1"], ip_version=IPVersion.V4Only) as zeroconf:
        seen = Network(zeroconf, mark)
        browser = AsyncServiceBrowser(zeroconf.zeroconf, [SERVICE, HTTP_SERVICE], handlers=[seen.hear])
        yield seen
        await browser.async_cancel()


@asynccontextmanager
async def announced(said: Announcement, here: Here, kept: Kept | None = None, there: Any = None) -> AsyncIterator[Any]:
    announcer = Announcer(said, here, kept or Kept(), there or (lambda: LOOPBACK))
    announcer.start()
    try:
        yield announcer
    finally:
        await announcer.close()


def said_as(mark: str, **changed: Any) -> Announcement:
    return replace(SAID, node=mark, **changed)


async def test_the_whole_life_of_an_announcement(network: Network, mark: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announce, "UPDATE_S", 0.05)
    here, kept = Here(model("a", 1), ready=False), Kept()
    name, page = f"{mark}.{SERVICE}", f"{mark}.{HTTP_SERVICE}"
    async with announced(said_as(mark, http=True, auth="bearer"), here, kept) as announcer:
        await asyncio.sleep(3 * announce.READY_POLL_S)
        assert announcer._zeroconf is None, "nobody is told before the server is ready"
        here.ready = True
        await until(lambda: {name, page} <= network.seen.keys())
        info = network.seen[name]
        advert = from_txt(info.properties)
        assert (info.port, info.parsed_addresses()) == (8501, ["127.0.0.1"])
        assert (advert.models, advert.auth, advert.devices, advert.path) == (1, "bearer", ("cpu",), "/")
        assert advert.id.encode() == kept.kept[announce.ID_KEY]
        assert network.seen[page].properties == {b"path": b"/"}
        assert info.server == f"{mark}-{advert.id[:8]}.local."
        here.there = [model("a", 2), model("b", 1, device="edgetpu:0")]
        await until(lambda: from_txt(network.seen[name].properties).models == 2)
        after = from_txt(network.seen[name].properties)
        assert after.models_hash != advert.models_hash
        assert after.devices == ("cpu", "edgetpu")
        assert network.gone == []
    await until(lambda: set(network.gone) == {name, page})


async def test_a_name_that_is_taken_gets_a_number(network: Network, mark: str) -> None:
    async with announced(said_as(mark), Here()):
        await until(lambda: f"{mark}.{SERVICE}" in network.seen)
        async with announced(said_as(mark, port=8502), Here()):
            await until(lambda: f"{mark}-2.{SERVICE}" in network.seen)
            assert network.seen[f"{mark}-2.{SERVICE}"].server != network.seen[f"{mark}.{SERVICE}"].server


async def test_a_server_without_a_name_is_called_after_the_host(
    network: Network, mark: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: f"{mark}.example")
    async with announced(said_as(""), Here()):
        await until(lambda: f"{mark}.{SERVICE}" in network.seen)


async def test_addresses_are_followed(network: Network, mark: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announce, "UPDATE_S", 1.2)  # caches keep what is younger than a second: RFC 6762, 10.2
    there = [Interface("lo", "127.0.0.1"), Interface("lo", "127.0.0.3")]
    name = f"{mark}.{SERVICE}"
    async with announced(said_as(mark, host="0.0.0.0"), Here(), there=lambda: there):
        await until(lambda: name in network.seen)
        assert set(network.seen[name].parsed_addresses()) == {"127.0.0.1", "127.0.0.3"}
        there.pop()
        await network.until_at(name, "127.0.0.1")
        there.clear()
        await until(lambda: name in network.gone)
        there.append(Interface("lo", "127.0.0.1"))
        await until(lambda: name in network.seen)


@pytest.mark.parametrize(
    ("host", "address"),
    [("localhost", "127.0.0.1"), ("[::1]", "::1"), ("0.0.0.0", "0.0.0.0"), ("nobody.invalid", "127.0.0.1")],
)
def test_a_name_to_listen_on_is_the_address_that_it_stands_for(
    host: str, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    assert announce._address_of(host, ipv6=False) == address


def resolve(host: str, *_: object) -> list[tuple[int, int, int, str, tuple[str, int]]]:
    if host != "localhost":
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))]


async def test_a_model_that_never_loads_keeps_nobody_from_the_others(
    network: Network, mark: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announce, "GRACE_S", 0.1)
    async with announced(said_as(mark), Here(model("bad", 1, state=State.FAILED), model("good", 1), ready=False)):
        await until(lambda: f"{mark}.{SERVICE}" in network.seen)


async def test_a_network_that_lets_nobody_speak_is_a_warning_once_and_is_tried_again(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = 0

    async def nowhere(*_: object, **__: object) -> None:
        nonlocal tried
        tried += 1
        raise OSError(errno.ENETUNREACH, "Network is unreachable")

    monkeypatch.setattr(announce, "UPDATE_S", 0.01)
    monkeypatch.setattr(announce, "_opened", nowhere)
    with caplog.at_level(logging.WARNING):
        async with announced(SAID, Here()):
            await until(lambda: tried > 3)
    assert [record.getMessage() for record in caplog.records] == [
        "the server is not announced: [Errno 101] Network is unreachable"
    ]


async def test_a_server_without_a_network_says_so_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announce, "UPDATE_S", 0.01)
    looked = 0

    def nothing() -> list[Interface]:
        nonlocal looked
        looked += 1
        return []

    with caplog.at_level(logging.WARNING):
        async with announced(SAID, Here(), there=nothing):
            await until(lambda: looked > 3)
    assert len(caplog.records) == 1
    assert "none of its interfaces" in caplog.text


async def test_the_end_of_it_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announce, "CLOSE_S", 0.05)

    class Stuck:
        async def async_close(self) -> None:
            await asyncio.Event().wait()

    made = Announcer(SAID, Here(), Kept())
    made._zeroconf = Stuck()  # type: ignore[assignment]
    async with asyncio.timeout(5):
        await made.close()


def test_what_is_told_is_of_ready_versions_alone() -> None:
    told = advert_of(SAID, "i", [model("a", 1, 2), model("b", 1, state=State.LOADING, device="edgetpu"), model("c")])
    assert (told.models, told.devices) == (1, ("cpu",))
    assert told.models_hash == advert_of(SAID, "i", [model("a", 2, 1)]).models_hash


def test_a_server_keeps_its_id_and_makes_another_of_garbage() -> None:
    kept = Kept()
    first = own_id(kept)
    assert own_id(kept) == first
    assert own_id(Kept()) != first
    garbage = Kept(**{announce.ID_KEY: b"\xffnonsense"})
    assert own_id(garbage) == garbage.kept[announce.ID_KEY].decode()
