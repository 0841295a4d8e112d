"""Who on the local network may have blobs: `sync.agent.peerfetch.Neighbourhood`.

Rule 1: whoever says that they are there is asked, and nobody is believed: a neighbour can cost time, and nothing else.
Rule 2: who gave bytes of another digest is banned by their address, whatever they call themselves next. Rule 3: who did not do
for a blob is not asked for it again before AGAIN_S have passed, and who could not be reached loses their place.
Rule 4: everything that somebody else can fill has a bound. Rule 5: only addresses of private networks.
"""

from __future__ import annotations

import ipaddress
import logging
import random
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple

from sync.domain.digests import Digest
from sync.domain.ports import Clock, ReadStore

log = logging.getLogger(__name__)

MAX_NEIGHBOURS = 64
MAX_BANNED = 256
MAX_ASKED = 8
"""Neighbours that are asked for one blob before the store is."""
MAX_TRIED = 1024
"""Failures that are remembered."""
BAN_S = 3600.0
AGAIN_S = 3600.0


class Address(NamedTuple):
    host: str
    port: int


class Neighbours:
    """opened: an address → a store. loopback: whether neighbours may be on this machine."""

    def __init__(
        self,
        opened: Callable[[Address], ReadStore],
        clock: Clock,
        *,
        loopback: bool = False,
        chance: random.Random | None = None,
    ) -> None:
        self._opened, self._clock, self._loopback = opened, clock, loopback
        self._chance = chance or random.Random()
        self._known: dict[str, Address] = {}
        self._banned: OrderedDict[str, float] = OrderedDict()
        self._tried: OrderedDict[tuple[Address, Digest], float] = OrderedDict()
        self._asked: OrderedDict[str, Address] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    @property
    def banned(self) -> int:
        """Addresses that are not asked now."""
        now = self._clock.monotonic()
        return sum(self._is_banned(host, now) for host in self._banned)

    def found(self, name: str, hosts: Sequence[str], port: int) -> None:
        """Somebody says that they are there, by the first address that may be asked."""
        host = next((each for each in hosts if is_near(each, loopback=self._loopback)), None)
        if host is None or not 0 < port < 65536:
            return
        if name in self._known or len(self._known) < MAX_NEIGHBOURS:
            self._known[name] = Address(host, port)

    def gone(self, name: str) -> None:
        self._known.pop(name, None)

    def having(self, digest: Digest) -> Sequence[ReadStore]:
        """Who may be asked for a blob, in no order, so that nobody is everybody's first."""
        now = self._clock.monotonic()
        addresses = [
            each
            for each in dict.fromkeys(self._known.values())
            if not self._is_banned(each.host, now) and now >= self._tried.get((each, digest), now)
        ]
        chosen = self._chance.sample(addresses, min(len(addresses), MAX_ASKED))
        stores = {address: self._opened(address) for address in chosen}
        for address, store in stores.items():
            self._asked[store.name] = address
            self._asked.move_to_end(store.name)
        while len(self._asked) > MAX_BANNED:
            self._asked.popitem(last=False)
        return list(stores.values())

    def ban(self, store: ReadStore, why: str) -> None:
        """For BAN_S, with everybody at the same address."""
        address = self._asked.get(store.name)
        if address is None:
            return
        log.warning("%s is not asked for %g s: %s", store.name, BAN_S, why)
        self._banned[address.host] = self._clock.monotonic() + BAN_S
        self._banned.move_to_end(address.host)
        while len(self._banned) > MAX_BANNED:
            self._banned.popitem(last=False)
        self._forget(lambda each: each.host == address.host)

    def failed(self, store: ReadStore, digest: Digest, *, gone: bool) -> None:
        """It did not do for this blob; gone: for it could not be reached."""
        address = self._asked.get(store.name)
        if address is None:
            return
        self._tried[address, digest] = self._clock.monotonic() + AGAIN_S
        self._tried.move_to_end((address, digest))
        while len(self._tried) > MAX_TRIED:
            self._tried.popitem(last=False)
        if gone:
            self._forget(lambda each: each == address)

    def _forget(self, fits: Callable[[Address], bool]) -> None:
        for name in [name for name, address in self._known.items() if fits(address)]:
            del self._known[name]

    def _is_banned(self, host: str, now: float) -> bool:
        return now < self._banned.get(host, now)


def is_near(host: str, *, loopback: bool = False) -> bool:
    """Whether an address is of a private IPv4 network, or, if `loopback`, of this machine."""
    try:
        address = ipaddress.IPv4Address(host)
    except ValueError:
        return False
    if address.is_loopback:
        return loopback
    return address.is_private and not (address.is_multicast or address.is_unspecified or address.is_reserved)
