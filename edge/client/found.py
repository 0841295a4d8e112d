"""One server that was heard of: what it announces, and what it says when it is asked.

Rule 1: anybody may announce anything. What is announced names an address, a port and whether TLS is spoken there; it never
names a scheme, a host by name, or a path that is not plain. Rule 2: nobody is believed to serve: they are asked over HTTP.
Rule 3: a token is shown to nobody but a server with TLS whose certificate is trusted.
"""

from __future__ import annotations

import asyncio
import ipaddress
from dataclasses import dataclass, replace
from os import PathLike
from typing import TYPE_CHECKING

from edge.client.attempts import ONCE
from edge.client.errors import ClientError, Unauthenticated
from edge.domain.advert import SERVICE, Advert, from_txt

if TYPE_CHECKING:
    from zeroconf import ServiceInfo

MAX_ADDRESSES = 8
"""Of one service, that are tried."""
MAX_MODELS = 10_000
ASK_S = 2.0
"""For each question to one address."""
NODE_S = 6.0
"""For all of them together: who announces addresses where nobody answers keeps no worker from the others for longer."""
MAX_ANSWER_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Node:
    """One server. `url` is where it answered, empty where it did not, and then `problem` says why. `models` are the names
    of those that answer, None where it would not tell without a token; `ready`: all that it should serve answer."""

    name: str
    advert: Advert
    addresses: tuple[str, ...]
    port: int
    url: str = ""
    ready: bool = False
    models: tuple[str, ...] | None = None
    problem: str = ""

    @property
    def id(self) -> str:
        return self.advert.id

    @property
    def tls(self) -> bool:
        return self.advert.tls

    def has(self, model: str) -> bool:
        return self.models is not None and model in self.models


def node_of(name: str, info: ServiceInfo, *, loopback: bool, ipv6: bool = False) -> Node:
    """What somebody announces, IPv4 first. loopback: whether they may be on this machine's loopback. Raises ValueError."""
    advert = from_txt(info.properties)
    addresses = [address for address in info.parsed_scoped_addresses() if _usable(address, loopback, ipv6)]
    if not addresses or not info.port:
        raise ValueError(f"{name[:80]!r}: want an address and a port, got none that can be used")
    addresses.sort(key=lambda address: ":" in address)
    label = "".join(char if char.isprintable() else "�" for char in name.removesuffix(f".{SERVICE}")[:63])
    return Node(label, advert, tuple(dict.fromkeys(addresses))[:MAX_ADDRESSES], info.port)


def _usable(address: str, loopback: bool, ipv6: bool) -> bool:
    ip = ipaddress.ip_address(address)
    if ip.is_multicast or ip.is_unspecified or ip.is_reserved or (ip.version == 6 and not ipv6):
        return False
    return loopback or not ip.is_loopback


async def asked(node: Node, token: str | None, ca_file: str | PathLike[str] | None) -> Node:
    """The node with what it says when it is asked, at the first of its addresses that answers; or why none did."""
    try:
        async with asyncio.timeout(NODE_S):
            return await _asked(node, token, ca_file)
    except TimeoutError:
        return replace(node, problem=f"none of its addresses answered within {NODE_S:g} s")


async def _asked(node: Node, token: str | None, ca_file: str | PathLike[str] | None) -> Node:
    problem = ""
    for address in node.addresses:
        host = f"[{address}]" if ":" in address else address
        prefix = node.advert.path.rstrip("/")
        url = f"{'https' if node.tls else 'http'}://{host}:{node.port}{prefix}"
        try:
            return await _asked_at(replace(node, url=url), token, ca_file)
        except (ClientError, ValueError, OSError) as error:
            problem = problem or str(error)[:200]
    return replace(node, problem=problem)


async def _asked_at(node: Node, token: str | None, ca_file: str | PathLike[str] | None) -> Node:
    from edge.client.async_client import AsyncClient

    shown, trusted = (token, ca_file) if node.tls else (None, None)
    async with AsyncClient(
        node.url, token=shown, ca_file=trusted, timeout_s=ASK_S, retries=ONCE, max_answer_bytes=MAX_ANSWER_BYTES
    ) as client:
        ready = await client.ready()
        try:
            rows = await client.models()
        except Unauthenticated:
            if shown is None:
                why = "it asks for a token" if node.tls or not token else "it asks for a token, without TLS"
                return replace(node, ready=ready, problem=why)
            raise
        names = sorted({row.name for row in rows[:MAX_MODELS] if row.state == "READY"})
        return replace(node, ready=ready, models=tuple(names))
