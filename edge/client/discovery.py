"""Servers of the local network, by DNS-SD over multicast DNS: heard of, looked into, and asked by `edge.client.found`.

Rule: everything that somebody else can fill has a bound, and everything ends with the time that the caller gives.
Sources: RFC 6762 (multicast DNS), RFC 6763 (DNS-SD)
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass
from os import PathLike
from time import monotonic
from typing import Any

from edge.client.errors import NotFound, Unreachable
from edge.client.found import Node, asked, node_of
from edge.client.turns import Turns
from edge.domain.advert import SERVICE

MAX_NAMES = 4096
"""Services that are looked into in one search."""
WORKERS = 128
"""Services that are looked into at once, with a connection each."""
FIRST_S = 0.5
"""For a first look. Who needs longer waits for their second until all had one: hundreds that never answer hide nobody."""
RESOLVE_S = 3.0
CLOSE_S = 1.0


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

    heard = Turns(MAX_NAMES)
    found: asyncio.Queue[Node] = asyncio.Queue()

    def hear(zeroconf: object, service_type: str, name: str, state_change: object) -> None:
        heard.hear(name)

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


async def _look(zeroconf: Any, heard: Turns, found: asyncio.Queue[Node], search: Search) -> None:
    """One after the other; who cannot be looked into is nobody."""
    from zeroconf import Error

    while True:
        name, is_first = await heard.next()
        try:
            async with asyncio.timeout(FIRST_S if is_first else None):
                node = await _looked_into(zeroconf, name, search)
        except TimeoutError:
            if is_first:
                heard.again(name)
        except (OSError, Error, ValueError):
            continue
        else:
            if node is not None:
                found.put_nowait(node)


async def _looked_into(zeroconf: Any, name: str, search: Search) -> Node | None:
    """None where nobody says where it is. Raises OSError, zeroconf.Error, ValueError."""
    from zeroconf import DNSQuestionType
    from zeroconf.asyncio import AsyncServiceInfo

    info = AsyncServiceInfo(SERVICE, name)
    if not await info.async_request(zeroconf.zeroconf, RESOLVE_S * 1000, DNSQuestionType.QM):
        return None
    node = node_of(name, info, loopback=_names_loopback(search.interfaces), ipv6=search.ipv6)
    return await asked(node, search.token, search.ca_file)


def _names_loopback(interfaces: Sequence[str]) -> bool:
    return any(name == "lo" or name.startswith("127.") or name == "::1" for name in interfaces)
