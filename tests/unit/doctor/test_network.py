"""Interfaces that carry multicast, as the kernel's files say."""

from __future__ import annotations

from edge.doctor.finding import Level
from edge.doctor.network import check_mdns, interfaces
from tests.unit.doctor.board import Board

UP, LOOPBACK, MULTICAST = 0x1, 0x8, 0x1000


def test_only_what_is_up_and_carries_multicast_to_other_machines_counts(board: Board) -> None:
    board.interface("lo", UP | LOOPBACK | MULTICAST)
    board.interface("wlan0", MULTICAST)
    board.interface("tun0", UP)
    for name in ("docker0", "podman1", "br-01ab"):
        board.interface(name, UP | MULTICAST)
    board.interface("end0", UP | MULTICAST)
    assert interfaces(board.machine()) == ["end0", "eth0"]


def test_without_such_an_interface_nobody_discovers_the_server(board: Board) -> None:
    board.interface("eth0", MULTICAST)
    assert check_mdns(board.machine()).level is Level.WARN


def test_a_container_on_a_bridge_is_told_so_and_one_with_an_address_of_its_own_is_not(board: Board) -> None:
    board.interface("eth0", UP | MULTICAST, index=2, link=7)
    found = check_mdns(board.machine())
    assert (found.level, "--network host" in found.do) == (Level.WARN, True)
    board.interface("eth0", UP | MULTICAST, index=2, link=7, kind="macvlan")
    assert "--network host" not in check_mdns(board.machine()).do
