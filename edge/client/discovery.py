"""Servers of the local network, by DNS-SD over multicast DNS: heard of, looked into, asked.

Rule 1: anybody may announce anything. What is announced names an address, a port and whether TLS is spoken there; it never
names a scheme, a host by name, or a path that is not plain. Rule 2: nobody is believed to serve: they are asked over HTTP.
Rule 3: a token is shown to nobody but a server with TLS whose certificate is trusted. Rule 4: everything that somebody
else can fill has a bound, and everything ends with the time that the caller gives.
Sources: RFC 6762 (multicast DNS), RFC 6763 (DNS-SD)
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from time import monotonic
from typing import TYPE_CHECKING, Any

from edge.client.attempts import ONCE
from edge.client.errors import ClientError, NotFound, Unauthenticated, Unreachable
from edge.domain.advert import SERVICE, Advert, from_txt

if TYPE_CHECKING:
    from zeroconf import ServiceInfo

MAX_NAMES = 256
"""Services that are looked into in one search."""
MAX_ADDRESSES = 8
"""Of one service, that are tried."""
MAX_MODELS = 10_000
WORKERS = 32
RESOLVE_S = 3.0
ASK_S = 2.0
"""For each question to one address."""
NODE_S = 6.0
"""For all of them together: who announces addresses where nobody answers keeps no worker from the others for longer."""
MAX_ANSWER_BYTES = 1 << 20
CLOSE_S = 1.0


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


@dataclass(frozen=True, slots=True)
class Search:
    """interfaces: names or addresses of this machine's networks to look in, all if there are none; loopback is looked at
    only where it is named. ipv6: look for addresses of IPv6, too."""

    timeout_s: float = 3.0
    interfaces: Sequence[str] = ()
    ipv6: bool = False
    token: str | None = None
    ca_file: str | PathLike[str] | None = None


async def discover(
    *,
    timeout_s: float = 3.0,
    interfaces: Sequence[str] = (),
    ipv6: bool = False,
    token: str | None = None,
    ca_file: str | PathLike[str] | None = None,
) -> AsyncGenerator[Node, None]:
    """Every server that is heard of within `timeout_s` seconds, each once, as soon as it has been asked how it is.

    Close it (`contextlib.aclosing`) where you leave it early. Raises Unreachable where there is no network to look in.
    """
    search = Search(timeout_s, interfaces, ipv6, token, ca_file)
    end = monotonic() + timeout_s
    async with _browsing(search) as found:
        seen: set[str] = set()
        while (left_s := end - monotonic()) > 0:
            try:
                async with asyncio.timeout(left_s):
                    node = await found.get()
            except TimeoutError:
                return
            if node.id not in seen:
                # Who does not answer takes nobody's place: an address may be an old one, or a liar's.
                if node.url:
                    seen.add(node.id)
                yield node


def discover_all(
    timeout_s: float = 3.0,
    *,
    interfaces: Sequence[str] = (),
    ipv6: bool = False,
    token: str | None = None,
    ca_file: str | PathLike[str] | None = None,
) -> list[Node]:
    """All that `discover` finds; for callers that wait. Of those that never answered, each is named once."""

    async def gather() -> list[Node]:
        options: dict[str, Any] = {"interfaces": interfaces, "ipv6": ipv6, "token": token, "ca_file": ca_file}
        return one_of_each([node async for node in discover(timeout_s=timeout_s, **options)])

    result: list[Node] = _apart(gather())
    return result


def one_of_each(nodes: Sequence[Node]) -> list[Node]:
    """Sorted by name; of those with one id the one that answered, if any did."""
    best: dict[str, Node] = {}
    for node in nodes:
        if node.id not in best or (node.url and not best[node.id].url):
            best[node.id] = node
    return sorted(best.values(), key=lambda node: (node.name, node.id))


async def first(
    *,
    model: str | None,
    within_s: float,
    interfaces: Sequence[str] = (),
    token: str | None = None,
    ca_file: str | PathLike[str] | None = None,
) -> Node:
    """The first that answers, and has the model if one is named. Raises NotFound, Unreachable."""
    others: list[str] = []
    search = discover(timeout_s=within_s, interfaces=interfaces, token=token, ca_file=ca_file)
    async with contextlib.aclosing(search) as nodes:
        async for node in nodes:
            if node.url and (node.ready if model is None else node.has(model)):
                return node
            others.append(
                f"{node.name} ({node.problem or 'not ready' if model is None else node.problem or 'without it'})"
            )
    what = "server" if model is None else f"server with the model {model}"
    raise NotFound(f"no {what} was found within {within_s:g} s; there is {', '.join(others) or 'none at all'}")


def first_blocking(**options: Any) -> Node:
    node: Node = _apart(first(**options))
    return node


def _apart(work: Any) -> Any:
    """In a thread of its own: the caller's may have an event loop that runs."""
    done: list[Any] = []

    def run() -> None:
        try:
            done.append((asyncio.run(work), None))
        except BaseException as error:
            done.append((None, error))

    thread = threading.Thread(target=run, name="discovery", daemon=True)
    thread.start()
    thread.join()
    result, error = done[0]
    if error is not None:
        raise error
    return result


@contextlib.asynccontextmanager
async def _browsing(search: Search) -> AsyncIterator[asyncio.Queue[Node]]:
    """A queue of those who were asked how they are. Everything that was begun has ended when the block has."""
    from zeroconf import DNSQuestionType, Error, IPVersion
    from zeroconf.asyncio import AsyncServiceBrowser, AsyncZeroconf

    heard: asyncio.Queue[str] = asyncio.Queue()
    found: asyncio.Queue[Node] = asyncio.Queue()
    names: set[str] = set()

    def hear(zeroconf: object, service_type: str, name: str, state_change: object) -> None:
        if name not in names and len(names) < MAX_NAMES:
            names.add(name)
            heard.put_nowait(name)

    hosts = await asyncio.to_thread(_hosts, search)
    try:
        zeroconf = AsyncZeroconf(interfaces=hosts, ip_version=IPVersion.All if search.ipv6 else IPVersion.V4Only)
    except (OSError, Error, RuntimeError) as error:
        raise Unreachable(f"no network to look in: {error}") from None
    workers: list[asyncio.Task[None]] = []
    try:
        # An answer to us alone would go to any one of the sockets that this machine has on the port: Avahi's, say.
        asking = DNSQuestionType.QM
        browser = AsyncServiceBrowser(zeroconf.zeroconf, [SERVICE], handlers=[hear], question_type=asking)
        workers = [asyncio.ensure_future(_look(zeroconf, heard, found, search)) for _ in range(WORKERS)]
        yield found
        await browser.async_cancel()
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        with contextlib.suppress(TimeoutError, OSError, Error):
            async with asyncio.timeout(CLOSE_S):
                await zeroconf.async_close()


def _hosts(search: Search) -> Any:
    """What zeroconf calls interfaces. Blocks. Raises Unreachable."""
    import ifaddr
    from zeroconf import InterfaceChoice

    if not search.interfaces:
        return InterfaceChoice.All
    hosts = []
    for adapter in ifaddr.get_adapters():
        for each in adapter.ips:
            address = each.ip if isinstance(each.ip, str) else each.ip[0]
            if (isinstance(each.ip, str) or search.ipv6) and {adapter.name, address} & set(search.interfaces):
                hosts.append(address)
    if not hosts:
        raise Unreachable(f"no network to look in: {', '.join(search.interfaces)} has no address")
    return list(dict.fromkeys(hosts))


async def _look(zeroconf: Any, heard: asyncio.Queue[str], found: asyncio.Queue[Node], search: Search) -> None:
    """One after the other; who cannot be looked into is nobody."""
    from zeroconf import DNSQuestionType, Error
    from zeroconf.asyncio import AsyncServiceInfo

    while True:
        name = await heard.get()
        try:
            info = AsyncServiceInfo(SERVICE, name)
            if not await info.async_request(zeroconf.zeroconf, RESOLVE_S * 1000, DNSQuestionType.QM):
                continue
            node = node_of(name, info, loopback=_names_loopback(search.interfaces), ipv6=search.ipv6)
        except (OSError, Error, ValueError):
            continue
        try:
            async with asyncio.timeout(NODE_S):
                node = await _asked(node, search)
        except TimeoutError:
            node = replace(node, problem=f"none of its addresses answered within {NODE_S:g} s")
        found.put_nowait(node)


def _names_loopback(interfaces: Sequence[str]) -> bool:
    return any(name == "lo" or name.startswith("127.") or name == "::1" for name in interfaces)


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


async def _asked(node: Node, search: Search) -> Node:
    """The node with what it says when it is asked, at the first of its addresses that answers."""
    problem = ""
    for address in node.addresses:
        host = f"[{address}]" if ":" in address else address
        prefix = node.advert.path.rstrip("/")
        url = f"{'https' if node.tls else 'http'}://{host}:{node.port}{prefix}"
        try:
            return await _asked_at(replace(node, url=url), search)
        except (ClientError, ValueError, OSError) as error:
            problem = problem or str(error)[:200]
    return replace(node, problem=problem)


async def _asked_at(node: Node, search: Search) -> Node:
    from edge.client.async_client import AsyncClient

    token = search.token if node.tls else None
    ca_file = search.ca_file if node.tls else None
    async with AsyncClient(
        node.url, token=token, ca_file=ca_file, timeout_s=ASK_S, retries=ONCE, max_answer_bytes=MAX_ANSWER_BYTES
    ) as client:
        ready = await client.ready()
        try:
            rows = await client.models()
        except Unauthenticated:
            if token is None:
                why = "it asks for a token" if node.tls or not search.token else "it asks for a token, without TLS"
                return replace(node, ready=ready, problem=why)
            raise
        names = sorted({row.name for row in rows[:MAX_MODELS] if row.state == "READY"})
        return replace(node, ready=ready, models=tuple(names))
