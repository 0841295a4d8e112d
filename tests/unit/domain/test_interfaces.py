"""Where a server is announced, and under which addresses."""

from __future__ import annotations

import pytest

from edge.domain.interfaces import NOWHERE, Interface, Places, places

LAN, WIFI, LO = Interface("eth0", "192.0.2.7"), Interface("wlan0", "198.51.100.7"), Interface("lo", "127.0.0.1")
SIX = Interface("eth0", "2001:db8::7")
THERE = [
    LO,
    Interface("docker0", "172.17.0.1"),
    LAN,
    SIX,
    WIFI,
    Interface("br-01ab", "172.18.0.1"),
    Interface("veth12", "203.0.113.1"),
    Interface("lo", "::1"),
]
ALL = "0.0.0.0"


def at(*addresses: str) -> Places:
    return Places(addresses, addresses)


def test_by_default_on_every_network_but_the_loopback_and_the_bridges_of_containers() -> None:
    assert places(THERE, host=ALL) == at(LAN.address, WIFI.address)


def test_only_addresses_that_are_listened_on_are_told() -> None:
    assert places(THERE, host=WIFI.address) == at(WIFI.address)
    assert places(THERE, host="127.0.0.1") == NOWHERE
    assert places(THERE, host=WIFI.address, interfaces=["eth0"]) == NOWHERE


@pytest.mark.parametrize("named", [["eth0"], ["eth*"], [LAN.address]])
def test_interfaces_are_named_by_name_by_pattern_or_by_address(named: list[str]) -> None:
    assert places(THERE, host=ALL, interfaces=named) == at(LAN.address)


def test_what_is_left_out_by_default_may_be_named() -> None:
    assert places(THERE, host="127.0.0.1", interfaces=["lo"]) == at("127.0.0.1")
    assert places(THERE, host=ALL, interfaces=["docker0"]) == at("172.17.0.1")


def test_addresses_that_are_named_are_told_as_they_are() -> None:
    assert places(THERE, host=ALL, addresses=["203.0.113.99"]) == Places((LAN.address, WIFI.address), ("203.0.113.99",))
    assert places(THERE, host="127.0.0.1", addresses=["127.0.0.1"]) == at("127.0.0.1")
    assert places(THERE, host=ALL, interfaces=["eth0"], addresses=["203.0.113.99"]) == Places(
        (LAN.address,), ("203.0.113.99",)
    )


def test_addresses_of_the_other_kind_are_told_only_where_they_are_asked_for_and_listened_on() -> None:
    assert places(THERE, host="::", ipv6=True) == at(SIX.address)
    assert places(THERE, host="::") == NOWHERE
    assert places(THERE, host=ALL, ipv6=True) == at(LAN.address, WIFI.address)


def test_a_machine_without_a_network_is_nowhere() -> None:
    assert places([LO], host=ALL) == NOWHERE
    assert places([], host=ALL, addresses=["203.0.113.99"]) == NOWHERE
