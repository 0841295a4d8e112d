"""On which networks a server is announced, and under which addresses. Pure: what there is comes in as a list.

Rule 1: nobody is told of an address that the server does not answer on, unless the configuration names it.
Rule 2: the loopback and the bridges of containers count only where they are named.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

OF_CONTAINERS = ("docker*", "veth*", "br-*", "virbr*", "podman*", "cni*")
"""Interfaces of containers and virtual machines on this host: who hears them is on this host, too."""


class Interface(NamedTuple):
    """One address of one interface."""

    name: str
    address: str


class Places(NamedTuple):
    """`on`: this machine's addresses on the networks to speak in; `addresses`: what is announced there. Each once."""

    on: tuple[str, ...]
    addresses: tuple[str, ...]


NOWHERE = Places((), ())


def places(
    there: Sequence[Interface],
    *,
    host: str,
    interfaces: Sequence[str] = (),
    addresses: Sequence[str] = (),
    ipv6: bool = False,
) -> Places:
    """Where to announce a server that listens on the address `host`. NOWHERE where nothing is left.

    interfaces: names, patterns of names (`eth*`) or addresses; addresses: to be announced in place of the interfaces' own.
    """
    usable = [each for each in there if ipv6 or _ip(each.address).version == 4]
    if interfaces:
        usable = [each for each in usable if _named(each, interfaces)]
    elif any(each.address in addresses for each in usable):
        usable = [each for each in usable if each.address in addresses]
    else:
        usable = [each for each in usable if _by_default(each)]
    told = [address for address in addresses if ipv6 or _ip(address).version == 4]
    if not addresses:
        told = [each.address for each in usable if _answers(host, each.address)]
        usable = [each for each in usable if each.address in told]
    if not usable or not told:
        return NOWHERE
    return Places(tuple(dict.fromkeys(each.address for each in usable)), tuple(dict.fromkeys(told)))


def _ip(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.ip_address(address)


def _named(each: Interface, interfaces: Sequence[str]) -> bool:
    return any(each.address == name or fnmatchcase(each.name, name) for name in interfaces)


def is_of_containers(name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in OF_CONTAINERS)


def _by_default(each: Interface) -> bool:
    return not _ip(each.address).is_loopback and not is_of_containers(each.name)


def _answers(host: str, address: str) -> bool:
    """An unspecified address stands for all of its own family: the other one is not listened on."""
    listening, own = _ip(host), _ip(address)
    return listening == own or (listening.is_unspecified and listening.version == own.version)
