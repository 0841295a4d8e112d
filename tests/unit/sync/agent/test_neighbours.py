"""Who may be asked: bounded, private, and nobody twice who did harm."""

from __future__ import annotations

import random

import pytest

from sync.agent.neighbours import (
    AGAIN_S,
    BAN_S,
    MAX_ASKED,
    MAX_BANNED,
    MAX_NEIGHBOURS,
    MAX_TRIED,
    Address,
    Neighbours,
    is_near,
)
from sync.domain.digests import digest_of
from sync.domain.ports import ReadStore
from sync.stores.peer import PeerStore
from tests.unit.sync.agent.world import Time

A, B = digest_of(b"a"), digest_of(b"b")


class World:
    def __init__(self) -> None:
        self.time = Time()
        self.table = Neighbours(lambda to: PeerStore(to.host, to.port), self.time, chance=random.Random(1))

    def asked(self, digest: str = A) -> set[str]:
        return {store.name.removeprefix("neighbour ") for store in self.table.having(digest)}  # type: ignore[arg-type]

    def store(self, host: str) -> ReadStore:
        (found,) = [each for each in self.table.having(A) if host in each.name]
        return found


@pytest.mark.parametrize("host", ["10.1.2.3", "192.168.0.7", "172.16.0.1", "169.254.1.1"])
def test_addresses_of_private_networks_are_near(host: str) -> None:
    assert is_near(host)


@pytest.mark.parametrize(
    "host",
    [
        "8.8.8.8",
        "127.0.0.1",
        "0.0.0.0",
        "224.0.0.251",
        "255.255.255.255",
        "localhost",
        "",
        "fd00::1",
        "10.1.2.3:80",
        "10.1",
    ],
)
def test_all_others_are_not_nor_this_machine_unless_it_is_looked_at(host: str) -> None:
    assert not is_near(host)
    assert is_near(host, loopback=True) == (host == "127.0.0.1")


def test_who_is_found_is_asked_at_the_first_address_that_is_near_and_who_goes_is_not() -> None:
    w = World()
    w.table.found("x", ["8.8.8.8", "10.0.0.1", "10.0.0.2"], 80)
    w.table.found("far", ["8.8.8.8"], 80)
    w.table.found("odd", ["10.0.0.3"], 0)
    w.table.found("big", ["10.0.0.3"], 65536)
    assert w.asked() == {"10.0.0.1:80"}
    w.table.found("x", ["10.0.0.9"], 81)
    assert w.asked() == {"10.0.0.9:81"}, "where it has moved to"
    w.table.gone("x")
    w.table.gone("never there")
    assert w.asked() == set()


def test_ten_thousand_who_say_that_they_are_there_fill_no_more_than_the_table() -> None:
    w = World()
    for number in range(10_000):
        w.table.found(f"fake-{number}", [f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"], 80)
    assert len(w.table) == MAX_NEIGHBOURS
    assert len(w.asked()) == MAX_ASKED
    everybody = set[str]().union(*(w.asked() for _ in range(200)))
    assert len(everybody) == MAX_NEIGHBOURS, "and nobody is everybody's first"


def test_one_address_under_many_names_is_asked_once() -> None:
    w = World()
    for name in "abc":
        w.table.found(name, ["10.0.0.1"], 80)
    assert [store.name for store in w.table.having(A)] == ["neighbour 10.0.0.1:80"]


def test_a_ban_is_of_the_address_whatever_it_calls_itself_and_ends() -> None:
    w = World()
    w.table.found("x", ["10.0.0.1"], 80)
    w.table.ban(w.store("10.0.0.1"), "want a, got b")
    assert len(w.table) == 0
    w.table.found("y", ["10.0.0.1"], 81)
    w.table.found("z", ["10.0.0.2"], 80)
    assert w.asked() == {"10.0.0.2:80"}
    w.time.seconds += BAN_S - 1
    assert w.asked(B) == {"10.0.0.2:80"}
    assert w.table.banned == 1
    w.time.seconds += 1
    assert w.table.banned == 0
    assert w.asked(B) == {"10.0.0.1:81", "10.0.0.2:80"}


def test_who_did_not_do_for_a_blob_is_asked_for_others_and_again_later() -> None:
    w = World()
    w.table.found("x", ["10.0.0.1"], 80)
    w.table.failed(w.store("10.0.0.1"), A, gone=False)
    assert (w.asked(A), w.asked(B)) == (set(), {"10.0.0.1:80"})
    w.time.seconds += AGAIN_S
    assert w.asked(A) == {"10.0.0.1:80"}


def test_who_could_not_be_reached_makes_room_for_another() -> None:
    w = World()
    for number in range(MAX_NEIGHBOURS):
        w.table.found(f"fake-{number}", [f"10.0.0.{number}"], 80)
    w.table.found("late", ["10.0.1.1"], 80)
    assert len(w.table) == MAX_NEIGHBOURS
    store = w.table.having(A)[0]
    w.table.failed(store, A, gone=True)
    w.table.found("late", ["10.0.1.1"], 80)
    assert "10.0.1.1:80" in set[str]().union(*(w.asked(B) for _ in range(200)))


def test_what_is_remembered_of_the_bad_has_a_bound() -> None:
    w = World()
    for number in range(2 * MAX_TRIED):
        host = f"10.1.{number >> 8}.{number & 255}"
        w.table.found("x", [host], 80)
        store = w.store(host)
        w.table.failed(store, digest_of(b"%d" % number), gone=False)
        w.table.ban(store, "test")
    assert len(w.table._tried) == MAX_TRIED
    assert len(w.table._banned) == MAX_BANNED
    assert len(w.table._asked) <= MAX_BANNED
    assert Address("10.1.0.0", 80) not in {address for address, _ in w.table._tried}
