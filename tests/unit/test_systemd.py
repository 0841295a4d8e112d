"""What a service says to systemd and takes from it, over real sockets of a real kernel."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from edge import systemd
from edge.systemd import LEAST_PAUSE_S, MAX_OWED, MAX_SOCKETS, MAX_STATUS_CHARS, Given, Notifier, status, take, tend
from tests.inheriting import inheriting
from tests.waiting import until

PID = 4242


class Manager:
    """What systemd has of a service's notifications. `room`: messages that wait at most, as the kernel counts them."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.socket.setblocking(False)

    def heard(self) -> list[list[str]]:
        """Each message's assignments."""
        found = []
        with suppress(BlockingIOError):
            while True:
                found.append(self.socket.recv(65536).decode().split("\n"))
        return found


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    made = Manager(str(tmp_path / "notify") if request.param == "path" else f"@edge-test-{os.getpid()}")
    yield made
    made.socket.close()


def test_what_is_told_arrives_one_message_each(manager: Manager) -> None:
    notifier = Notifier(manager.address)
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notifier.ready("1 model ready")
    notifier.reloading()
    notifier.stopping(12.5, "stopping")
    notifier.close()
    ready, reloading, stopping = manager.heard()
    assert ready == ["READY=1", "STATUS=1 model ready"]
    assert reloading[0] == "RELOADING=1"
    name, _, stamp = reloading[1].partition("=")
    assert (name, before <= int(stamp) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000) == (
        "MONOTONIC_USEC",
        True,
    )
    assert stopping == ["STOPPING=1", "EXTEND_TIMEOUT_USEC=12500000", "STATUS=stopping"]


def test_a_status_is_one_line_and_not_long() -> None:
    assert status("m@1: no\nWATCHDOG=trigger\r\nMAINPID=1") == "STATUS=m@1: no WATCHDOG=trigger MAINPID=1"
    assert len(status("x" * 5000)) == len("STATUS=") + MAX_STATUS_CHARS


def test_what_the_manager_has_no_room_for_is_told_later_and_in_order(tmp_path: Path) -> None:
    manager = Manager(str(tmp_path / "notify"))
    room = int(Path("/proc/sys/net/unix/max_dgram_qlen").read_text())
    notifier = Notifier(manager.address)
    start = time.monotonic()
    for number in range(room + 10):
        notifier.tell(f"STATUS={number}")
    assert time.monotonic() - start < 1.0, "it waits for nobody"
    first = manager.heard()
    notifier.tell("READY=1")
    assert [*first, *manager.heard()] == [*([f"STATUS={number}"] for number in range(room + 10)), ["READY=1"]]
    notifier.close()
    manager.socket.close()


def test_a_manager_that_breathes_no_more_costs_no_memory(tmp_path: Path) -> None:
    manager = Manager(str(tmp_path / "notify"))
    notifier = Notifier(manager.address)
    for number in range(5000):
        notifier.tell(f"STATUS={number}")
    heard = len(manager.heard())
    notifier.tell("READY=1")
    assert len(manager.heard()) <= MAX_OWED < heard + MAX_OWED < 5000
    notifier.close()
    manager.socket.close()


@pytest.mark.parametrize("address", ["vsock:2:1234", "relative", "/" + "x" * 200, "/nul\0byte", "@" + "x" * 200])
def test_an_address_that_is_none_is_logged_and_nothing_is_told(address: str, caplog: pytest.LogCaptureFixture) -> None:
    notifier = Notifier(address)
    notifier.ready("1 model ready")
    assert not notifier.wanted
    assert "NOTIFY_SOCKET: want a path or @" in caplog.text


def test_a_manager_that_is_not_there_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    notifier = Notifier(str(tmp_path / "nobody"))
    notifier.ready("1 model ready")
    notifier.ready("1 model ready")
    assert caplog.text.count("systemd cannot be told") == 1
    notifier.close()


def test_without_systemd_nothing_is_given(caplog: pytest.LogCaptureFixture) -> None:
    given = take({"HOME": "/root"})
    assert (given.notifier.wanted, given.sockets, given.watchdog_s) == (False, {}, 0.0)
    assert caplog.text == ""


def test_what_was_taken_is_no_longer_in_the_environment() -> None:
    said = {"NOTIFY_SOCKET": "@x", "WATCHDOG_PID": "1", "WATCHDOG_USEC": "1", "LISTEN_PID": "1", "LISTEN_FDS": "1"}
    environment = {**said, "LISTEN_FDNAMES": "http", "HOME": "/root"}
    take(environment, PID)
    assert environment == {"HOME": "/root"}


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(PID)}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, 0.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "mine"}, 0.0),
        ({"WATCHDOG_USEC": "0"}, 0.0),
        ({"WATCHDOG_USEC": "-5"}, 0.0),
        ({"WATCHDOG_USEC": "٣"}, 0.0),
        ({"WATCHDOG_USEC": "9" * 400}, 0.0),
        ({"WATCHDOG_USEC": ""}, 0.0),
        ({}, 0.0),
    ],
)
def test_the_watchdogs_time_is_the_one_of_this_process(said: dict[str, str], seconds: float) -> None:
    assert take(said, PID).watchdog_s == seconds


# -- sockets, taken by a process of its own: descriptors have fixed numbers

CHILD = """
import json
from edge.systemd import take
given = take()
print(json.dumps({name: [[each.family.name, each.getblocking(), each.get_inheritable()] for each in sockets]
                  for name, sockets in given.sockets.items()}))
"""


def taken(*made: socket.socket | int, pid: str = "self", **variables: str) -> tuple[str, str]:
    """What a process that inherits these from descriptor 3 on prints and logs."""
    numbers = [each if isinstance(each, int) else each.fileno() for each in made]
    done = subprocess.run(
        inheriting(numbers, sys.executable, "-c", CHILD, pid=pid),
        pass_fds=numbers,
        env={"PATH": os.environ["PATH"], **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip(), done.stderr


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


def test_a_listening_socket_is_taken_by_its_name_and_no_child_inherits_it(
    listening: socket.socket, tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX) as other, socket.create_server(("127.0.0.1", 0)) as third:
        other.bind(str(tmp_path / "admin.sock"))
        other.listen()
        said, _ = taken(listening, other, third, LISTEN_FDNAMES="http:admin:http")
    assert (
        said == '{"http": [["AF_INET", false, false], ["AF_INET", false, false]], "admin": [["AF_UNIX", false, false]]}'
    )


def test_a_socket_without_a_name_is_unknown(listening: socket.socket) -> None:
    assert taken(listening)[0] == '{"unknown": [["AF_INET", false, false]]}'


@pytest.mark.parametrize("pid", ["1", "", "self1", "-1", "9" * 30])
def test_what_was_meant_for_another_process_is_not_taken(pid: str, listening: socket.socket) -> None:
    assert taken(listening, pid=pid)[0] == "{}"


@pytest.mark.parametrize("count", ["", "-1", "many", "1e3", "9" * 30])
def test_a_count_that_is_none_ends_nothing(count: str, listening: socket.socket) -> None:
    said, log = taken(listening, LISTEN_FDS=count)
    assert said == "{}"
    assert "LISTEN_FDS: want a whole number" in log


def test_what_does_not_listen_is_left_alone(listening: socket.socket, tmp_path: Path) -> None:
    packet = socket.SOCK_DGRAM
    with socket.socket() as idle, socket.socket(type=packet) as packets, (tmp_path / "file").open("wb") as file:
        said, log = taken(idle, packets, file.fileno(), listening, LISTEN_FDNAMES="a:b:c:http")
    assert said == '{"http": [["AF_INET", false, false]]}'
    assert log.count("want a listening stream socket") == 3


def test_more_sockets_than_anybody_has_are_not_looked_for(listening: socket.socket) -> None:
    said, log = taken(listening, LISTEN_FDS="100000", LISTEN_FDNAMES="http")
    assert said == '{"http": [["AF_INET", false, false]]}'
    assert f"LISTEN_FDS: want at most {MAX_SOCKETS}, got 100000" in log


# -- the watchdog


def tending(
    manager: Manager, told: Callable[[], str], hung: Callable[[], str] = lambda: "", *, watchdog_s: float = 0.06
) -> asyncio.Task[None]:
    async def work() -> None:
        notifier = Notifier(manager.address)
        try:
            await tend(Given(notifier, {}, watchdog_s), told, hung, tick_s=0.01)
        finally:
            notifier.close()

    return asyncio.create_task(work())


async def ended(work: asyncio.Task[None]) -> None:
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)


async def test_the_status_is_told_when_it_changes_and_the_watchdog_always(manager: Manager) -> None:
    said = "1 model loading"
    work = tending(manager, lambda: said)
    heard: list[list[str]] = []

    def hear(count: int) -> bool:
        heard.extend(manager.heard())
        return len(heard) >= count

    await until(lambda: hear(3))
    said = "1 model ready"
    await until(lambda: hear(20))
    await ended(work)
    assert heard[0] == ["STATUS=1 model loading", "WATCHDOG=1"]
    assert ["STATUS=1 model ready", "WATCHDOG=1"] in heard
    assert all(words == ["WATCHDOG=1"] for words in heard if len(words) == 1)
    assert sum(len(words) == 2 for words in heard) == 2


async def test_the_watchdog_hears_nothing_while_something_hangs(
    manager: Manager, caplog: pytest.LogCaptureFixture
) -> None:
    hung = ""
    work = tending(manager, lambda: "well", lambda: hung)
    await until(manager.heard)
    hung = "m@1: cpu: hangs"
    with caplog.at_level(logging.CRITICAL):
        await until(lambda: ["STATUS=m@1: cpu: hangs"] in manager.heard())
    start = asyncio.get_running_loop().time()
    await asyncio.sleep(0.1)  # ten times as long as it takes to be told again
    assert (manager.heard(), asyncio.get_running_loop().time() - start >= 0.1) == ([], True)
    assert caplog.messages == ["m@1: cpu: hangs; systemd's watchdog hears no more of this process"]
    hung = ""
    await until(lambda: ["STATUS=well", "WATCHDOG=1"] in manager.heard())
    await ended(work)


async def test_a_bug_in_what_is_told_is_logged_once_and_ends_nothing(
    manager: Manager, caplog: pytest.LogCaptureFixture
) -> None:
    told = iter(["well"])
    work = tending(manager, lambda: next(told))
    heard: list[list[str]] = []

    def hear() -> bool:
        heard.extend(manager.heard())
        return len(heard) > 5

    await until(hear)
    await ended(work)
    assert heard[:3] == [["STATUS=well", "WATCHDOG=1"], ["WATCHDOG=1"], ["WATCHDOG=1"]]
    assert caplog.text.count("what systemd is to be told cannot be had") == 1


async def test_where_no_watchdog_looks_nothing_is_told_but_the_status(manager: Manager) -> None:
    work = tending(manager, lambda: "well", watchdog_s=0.0)
    await asyncio.sleep(0.05)
    await ended(work)
    assert manager.heard() == [["STATUS=well"]]


async def test_a_watchdog_that_allows_next_to_no_time_keeps_no_core_busy(manager: Manager) -> None:
    begun = time.monotonic()
    work = tending(manager, lambda: "well", watchdog_s=1e-6)
    heard = 0
    for _ in range(20):
        await asyncio.sleep(0.01)
        heard += len(manager.heard())
    await ended(work)
    assert 0 < heard <= (time.monotonic() - begun) / LEAST_PAUSE_S + 1


async def test_where_nobody_listens_tending_is_over_at_once() -> None:
    await asyncio.wait_for(tend(Given(), lambda: "well"), 1.0)


def test_it_is_a_library_of_its_own() -> None:
    """What it imports of the server is nothing: the agent uses it too."""
    code = "import sys, edge.systemd; print(sorted(name for name in sys.modules if name.startswith('edge.')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['edge.systemd']"
    assert systemd.__doc__
