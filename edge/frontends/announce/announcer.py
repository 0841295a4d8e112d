"""Tells the local network of this server, by DNS-SD over multicast DNS.

Rule 1: never before the server can answer, and never fatal: what goes wrong is a warning, and is tried again. Rule 2: what
has changed (ready versions, addresses) is told no oftener than every UPDATE_S. Rule 3: at the end a goodbye, within CLOSE_S.
Rule 4: zeroconf is imported by who starts this, in a thread, and by nobody else.
Sources: RFC 6762 (multicast DNS), RFC 6763 (DNS-SD)
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import monotonic
from typing import TYPE_CHECKING

from edge.config.node import own_node_name
from edge.domain.advert import HTTP_SERVICE, SERVICE, Advert, models_hash, to_txt
from edge.domain.interfaces import NOWHERE, Interface, Places, places
from edge.domain.lifecycle import State
from edge.domain.ports import Catalog, Keepsakes, ModelStatus

if TYPE_CHECKING:
    from zeroconf import ServiceInfo
    from zeroconf.asyncio import AsyncZeroconf

log = logging.getLogger(__name__)

READY_POLL_S = 0.2
GRACE_S = 30.0
"""A server of which one model never loads is announced after so long all the same, if another answers."""
UPDATE_S = 5.0
"""More than a second: what is younger, caches do not let go of (RFC 6762, 10.2)."""
TELL_S = 30.0
"""One registration, or one change of it; names that are taken are tried with suffixes for as long."""
CLOSE_S = 1.0
ID_KEY = "advertised-id"


@dataclass(frozen=True, slots=True)
class Announcement:
    """node: its name, "" for one after the host; host: the address that the server listens on. interfaces, addresses: as in [advertise]. http: whether generic
    browsers of services are told of the page, too. mqtt: the prefix of the server's topics, empty for none."""

    node: str
    host: str
    port: int
    release: str
    tls: bool = False
    auth: str = "none"
    interfaces: Sequence[str] = ()
    addresses: Sequence[str] = ()
    ipv6: bool = False
    http: bool = False
    mqtt: str = ""


class Announcer:
    """`start` once, `close` once. interfaces: this machine's, as they are now; called in a thread."""

    def __init__(
        self,
        said: Announcement,
        catalog: Catalog,
        keepsakes: Keepsakes,
        interfaces: Callable[[], Sequence[Interface]] | None = None,
    ) -> None:
        self._said, self._catalog, self._keepsakes = said, catalog, keepsakes
        self._interfaces = interfaces or own_interfaces
        self._zeroconf: AsyncZeroconf | None = None
        self._services: list[ServiceInfo] = []
        self._told: tuple[Advert, Places] | None = None
        self._id = ""
        self._warned = ""
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(), name="announce")

    async def close(self) -> None:
        """Say goodbye. Within about CLOSE_S, whatever the network does."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._fall_silent()

    async def _run(self) -> None:
        try:
            await self._until_ready()
            self._id = await asyncio.to_thread(own_id, self._keepsakes)
            host = await asyncio.to_thread(_address_of, self._said.host, self._said.ipv6)
            self._said = replace(self._said, host=host, node=self._said.node or await asyncio.to_thread(own_node_name))
            while True:
                await self._keep_up()
                await asyncio.sleep(UPDATE_S)
        except Exception:  # a bug here must not take down what serves
            log.exception("the server is no longer announced")

    async def _until_ready(self) -> None:
        """Whoever finds the server may ask it at once."""
        enough = monotonic() + GRACE_S
        while not self._catalog.ready:
            if monotonic() > enough and ready_versions(self._catalog.models()):
                return
            await asyncio.sleep(READY_POLL_S)

    async def _keep_up(self) -> None:
        """Tell what has changed since it was last told, if anything."""
        said = self._said
        there = await asyncio.to_thread(self._interfaces)
        where = places(there, host=said.host, interfaces=said.interfaces, addresses=said.addresses, ipv6=said.ipv6)
        now = (advert_of(said, self._id, self._catalog.models()), where)
        if now == self._told:
            return
        from zeroconf import Error

        if where == NOWHERE:
            self._warn("the server is not announced: none of its interfaces has an address that it listens on")
            await self._fall_silent()
            return
        try:
            async with asyncio.timeout(TELL_S):
                await self._tell(*now)
        except (OSError, Error, RuntimeError, TimeoutError) as error:
            self._warn(f"the server is not announced: {str(error) or type(error).__name__}")
            await self._fall_silent()
        else:
            self._told, self._warned = now, ""

    async def _tell(self, advert: Advert, where: Places) -> None:
        if self._zeroconf is None:
            self._zeroconf = await _opened(where, ipv6=self._said.ipv6)
            for service in (SERVICE, HTTP_SERVICE) if self._said.http else (SERVICE,):
                info = self._service(f"{self._said.node}.{service}", service, advert, where)
                await (await self._zeroconf.async_register_service(info, allow_name_change=True))
                self._services.append(info)
            names = ", ".join(info.name for info in self._services)
            log.info("announced as %s at %s", names, ", ".join(where.addresses))
            return
        assert self._told is not None
        if where.on != self._told[1].on:
            await self._zeroconf.async_update_interfaces(list(where.on))
        self._services = [self._service(info.name, info.type, advert, where) for info in self._services]
        for info in self._services:
            await (await self._zeroconf.async_update_service(info))

    def _service(self, name: str, service: str, advert: Advert, where: Places) -> ServiceInfo:
        from zeroconf.asyncio import AsyncServiceInfo

        return AsyncServiceInfo(
            service,
            name,
            port=self._said.port,
            parsed_addresses=list(where.addresses),
            properties=to_txt(advert) if service == SERVICE else {"path": advert.path},
            # A name of our own: the machine's may be another responder's, or that of a machine of the same name.
            server=f"{self._said.node[:50]}-{advert.id[:8]}.local.",
        )

    async def _fall_silent(self) -> None:
        zeroconf, self._zeroconf, self._services, self._told = self._zeroconf, None, [], None
        if zeroconf is not None:
            with contextlib.suppress(TimeoutError, OSError, RuntimeError):
                async with asyncio.timeout(CLOSE_S):
                    await zeroconf.async_close()

    def _warn(self, text: str) -> None:
        """Once, however often it is tried again."""
        if text != self._warned:
            self._warned = text
            log.warning(text)


async def _opened(where: Places, *, ipv6: bool) -> AsyncZeroconf:
    await asyncio.to_thread(__import__, "zeroconf.asyncio")
    from zeroconf import IPVersion
    from zeroconf.asyncio import AsyncZeroconf

    return AsyncZeroconf(interfaces=list(where.on), ip_version=IPVersion.All if ipv6 else IPVersion.V4Only)


def ready_versions(models: Sequence[ModelStatus]) -> list[tuple[str, int]]:
    return [
        (model.name, version.id.version)
        for model in models
        for version in model.versions
        if version.state is State.READY
    ]


def advert_of(said: Announcement, own_id: str, models: Sequence[ModelStatus]) -> Advert:
    """What there is to tell now."""
    ready = ready_versions(models)
    devices = {_kind(version.device) for model in models for version in model.versions if version.state is State.READY}
    return Advert(
        id=own_id,
        release=said.release,
        tls=said.tls,
        auth=said.auth,
        devices=tuple(sorted(devices)),
        models=len({name for name, _ in ready}),
        models_hash=models_hash(ready),
        mqtt=said.mqtt,
    )


def _kind(device: str) -> str:
    """`cpu`, `edgetpu`: which one of its kind is nobody's business."""
    kind = device.partition(":")[0].lower()
    return "edgetpu" if kind in ("usb", "pci") else kind or "cpu"


def own_id(keepsakes: Keepsakes) -> str:
    """The same at every start, where there is a place to keep it. Blocks."""
    with contextlib.suppress(ValueError):
        return str(uuid.UUID((keepsakes.recall(ID_KEY) or b"").decode("ascii", "replace")))
    made = str(uuid.uuid4())
    keepsakes.keep(ID_KEY, made.encode())
    return made


def own_interfaces() -> list[Interface]:
    """Every address of every interface of this machine. Blocks."""
    import ifaddr

    return [
        Interface(adapter.name, each.ip if isinstance(each.ip, str) else each.ip[0])
        for adapter in ifaddr.get_adapters()
        for each in adapter.ips
    ]


def _address_of(host: str, ipv6: bool) -> str:
    """What the listener made of a name, IPv4 unless that is not wanted. Blocks."""
    import socket

    with contextlib.suppress(ValueError):
        return str(ipaddress.ip_address(host.strip("[]").partition("%")[0]))
    families = (socket.AF_INET6, socket.AF_INET) if ipv6 else (socket.AF_INET,)
    for family in families:
        with contextlib.suppress(OSError):
            return str(socket.getaddrinfo(host, None, family, socket.SOCK_STREAM)[0][4][0])
    return "127.0.0.1"
