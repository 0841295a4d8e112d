"""Who is there on the local network, by DNS-SD over multicast DNS.

Rule 1: what is announced is that somebody shares blobs, at an address and a port: no name of a device, a model or a fleet.
Rule 2: a network without multicast, or full of liars, costs neighbours, and nothing else. Rule 3: no more names are looked into
at a time than MAX_PENDING, and no more at once than RESOLVERS.

Sources: RFC 6762 (multicast DNS), RFC 6763 (DNS-SD)
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import socket
from collections.abc import Sequence
from typing import Any

import ifaddr
from zeroconf import Error, IPVersion, ServiceStateChange
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from sync.agent.neighbours import Neighbours, is_near

log = logging.getLogger(__name__)

SERVICE = "_edge-blobs._tcp.local."
MAX_PENDING = 64
RESOLVERS = 4
RESOLVE_MS = 2000
CLOSE_S = 1.0


class Discovery:
    """neighbours: told of everybody who comes and goes. hosts: addresses of this machine on the networks that are looked at."""

    def __init__(self, neighbours: Neighbours, hosts: Sequence[str]) -> None:
        self._neighbours, self._hosts = neighbours, list(hosts)
        self._pending: asyncio.Queue[str] = asyncio.Queue(MAX_PENDING)
        self._zeroconf: AsyncZeroconf | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._name = f"{secrets.token_hex(8)}.{SERVICE}"

    def start(self, port: int | None) -> None:
        """Look, and, unless `port` is None, announce that blobs are shared there. Failures are logged."""
        try:
            self._zeroconf = AsyncZeroconf(interfaces=self._hosts, ip_version=IPVersion.V4Only)
            AsyncServiceBrowser(self._zeroconf.zeroconf, [SERVICE], handlers=[self._heard])
        except (OSError, Error) as error:
            log.warning("no neighbours are looked for: %s", error)
            return
        self._tasks = [asyncio.ensure_future(self._resolve()) for _ in range(RESOLVERS)]
        if port is not None:
            self._tasks.append(asyncio.ensure_future(self._announce(port)))

    async def close(self) -> None:
        """Within about CLOSE_S, whatever the network does."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._zeroconf is not None:
            with contextlib.suppress(TimeoutError, OSError, Error):
                async with asyncio.timeout(CLOSE_S):
                    await self._zeroconf.async_close()
            self._zeroconf = None

    def _heard(self, service_type: str, name: str, state_change: ServiceStateChange, **_: Any) -> None:
        if name == self._name:
            return
        if state_change is ServiceStateChange.Removed:
            self._neighbours.gone(name)
        else:
            with contextlib.suppress(asyncio.QueueFull):
                self._pending.put_nowait(name)

    async def _resolve(self) -> None:
        while True:
            name = await self._pending.get()
            assert self._zeroconf is not None
            try:
                info = AsyncServiceInfo(SERVICE, name)
                if await info.async_request(self._zeroconf.zeroconf, RESOLVE_MS):
                    self._neighbours.found(name, info.parsed_addresses(IPVersion.V4Only), info.port or 0)
            except (OSError, Error, ValueError) as error:
                log.info("%s: cannot be looked into: %s", name[:80], error)

    async def _announce(self, port: int) -> None:
        assert self._zeroconf is not None
        info = AsyncServiceInfo(
            SERVICE,
            self._name,
            addresses=[socket.inet_aton(host) for host in self._hosts],
            port=port,
            properties={"v": "1"},
            server=f"{self._name.partition('.')[0]}.local.",
        )
        try:
            await (await self._zeroconf.async_register_service(info))
        except (OSError, Error) as error:
            log.warning("nobody is told that blobs are shared here: %s", error)


def own_hosts(interfaces: Sequence[str]) -> list[str]:
    """This machine's private IPv4 addresses: on all interfaces but the loopback, or on those that are named or have an address named.

    Blocks. In order, each once.
    """
    found = []
    for adapter in ifaddr.get_adapters():
        for each in adapter.ips:
            if not isinstance(each.ip, str):
                continue
            named = not interfaces or each.ip in interfaces or adapter.name in interfaces
            if named and is_near(each.ip, loopback=bool(interfaces)):
                found.append(each.ip)
    return list(dict.fromkeys(found))
