"""Neighbours find each other on the loopback, and a network that is none costs nothing but them."""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Callable, Sequence

import pytest
from zeroconf import ServiceStateChange

from sync.agent import discovery
from sync.agent.discovery import MAX_PENDING, SERVICE, Discovery, own_hosts
from sync.agent.neighbours import Neighbours
from sync.stores.peer import PeerStore
from tests.unit.sync.agent.world import Time

HOSTS = ["127.0.0.1"]


class Table(Neighbours):
    """Tells when it changes."""

    def __init__(self) -> None:
        super().__init__(lambda to: PeerStore(to.host, to.port), Time(), loopback=True)
        self.changed = asyncio.Event()

    def found(self, name: str, hosts: Sequence[str], port: int) -> None:
        super().found(name, hosts, port)
        self.changed.set()

    def gone(self, name: str) -> None:
        super().gone(name)
        self.changed.set()

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not holds():
                self.changed.clear()
                await self.changed.wait()


async def test_who_shares_is_found_and_who_stops_is_forgotten() -> None:
    a, b = Table(), Table()
    sharing, asking = Discovery(a, HOSTS), Discovery(b, HOSTS)
    try:
        asking.start(None)
        sharing.start(4711)
        await b.until(lambda: len(b) == 1)
        (store,) = b.having("sha256:x")  # type: ignore[arg-type]
        assert store.name == "neighbour 127.0.0.1:4711"
        assert len(a) == 0, "nobody is their own neighbour, and who only asks announces nothing"
        await sharing.close()
        await b.until(lambda: len(b) == 0)
    finally:
        await sharing.close()
        await asking.close()


async def test_no_more_names_are_looked_into_than_the_queue_holds() -> None:
    table = Table()
    made = Discovery(table, HOSTS)
    for number in range(10_000):
        made._heard(SERVICE, f"fake-{number}.{SERVICE}", ServiceStateChange.Added)
    assert made._pending.qsize() == MAX_PENDING
    made._heard(SERVICE, "never-there", ServiceStateChange.Removed)
    await made.close()


async def test_a_network_that_lets_nobody_look_is_told_and_costs_nothing_else(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nowhere(**_: object) -> None:
        raise OSError(errno.ENETUNREACH, "Network is unreachable")

    monkeypatch.setattr(discovery, "AsyncZeroconf", nowhere)
    made = Discovery(Table(), HOSTS)
    with caplog.at_level(logging.WARNING):
        made.start(4711)
    assert "no neighbours are looked for" in caplog.text
    await made.close()


async def test_the_end_of_it_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "CLOSE_S", 0.05)

    class Stuck:
        async def async_close(self) -> None:
            await asyncio.Event().wait()

    made = Discovery(Table(), HOSTS)
    made._zeroconf = Stuck()  # type: ignore[assignment]
    async with asyncio.timeout(5):
        await made.close()


def test_the_loopback_is_looked_at_only_when_it_is_named() -> None:
    assert "127.0.0.1" in own_hosts(["lo"])
    assert own_hosts(["127.0.0.1"]) == ["127.0.0.1"]
    assert not any(host.startswith("127.") for host in own_hosts([]))
    assert own_hosts(["none0", "203.0.113.1"]) == []
