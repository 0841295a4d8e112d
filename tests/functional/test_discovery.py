"""Servers that find each other on a network: a real server on one host, whoever looks on another."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.functional.networks import Host, two_hosts
from tests.functional.repository import Repository
from tests.functional.server import Running, serving
from tests.waiting import until_blocking

SERVICE = "_edge-infer._tcp"
WATCH = """
import asyncio, sys
from zeroconf import ServiceStateChange
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf
async def look(zeroconf, kind, name):
    info = AsyncServiceInfo(kind, name)
    if await info.async_request(zeroconf, 3000):
        print("told", name.partition(".")[0], info.decoded_properties["mhash"], flush=True)
def hear(zeroconf, service_type, name, state_change):
    if state_change is ServiceStateChange.Removed:
        print("gone", name.partition(".")[0], flush=True)
    else:
        tasks.append(asyncio.ensure_future(look(zeroconf, service_type, name)))
tasks = []
async def main():
    async with AsyncZeroconf(interfaces=[sys.argv[1]]) as zeroconf:
        AsyncServiceBrowser(zeroconf.zeroconf, ["_edge-infer._tcp.local."], handlers=[hear])
        print("watching", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
asyncio.run(main())
"""
ENDS_WITHIN_S = 10.0


@pytest.fixture(scope="module")
def hosts(ip: str) -> Iterator[tuple[Host, Host]]:
    with two_hosts(ip) as made:
        yield made


def environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("EDGE_")}


def edge(host: Host, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*host.enter, sys.executable, "-m", "edge", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment())


@contextmanager
def watching(host: Host, log: Path) -> Iterator[Path]:
    """What a browser of services on that host is told, line by line. Ended by the end of its input."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*host.enter, sys.executable, "-c", WATCH, host.address], stdin=subprocess.PIPE, stdout=file, stderr=file
        )
    assert process.stdin is not None
    try:
        until_blocking(lambda: "watching" in log.read_text(), log.read_text)
        yield log
        process.stdin.close()
        process.wait(ENDS_WITHIN_S)
    finally:
        process.stdin.close()
        if process.poll() is None:
            process.kill()
            process.wait()


def hashes(log: Path) -> list[str]:
    return [line.split()[2] for line in log.read_text().splitlines() if line.startswith("told cam-1 ")]


@pytest.mark.slow
def test_a_server_is_found_from_another_host_until_it_says_goodbye(hosts: tuple[Host, Host], tmp_path: Path) -> None:
    there, here = hosts
    models = Repository(tmp_path / "models")
    models.put("half", 1)
    assert edge(here, "discover", "--timeout", "1").returncode == 4
    with watching(here, tmp_path / "watched") as log:
        options = ("--host", "0.0.0.0", "--set", "advertise.node=cam-1")
        with serving(tmp_path, models.path, *options, ready=False, enter=there.enter) as running:
            until_blocking(lambda: hashes(log), log.read_text)
            done = edge(here, "discover", "--model", "half", "--json")
            assert done.returncode == 0, done.stderr
            (node,) = json.loads(done.stdout)
            assert node["url"] == f"http://{there.address}:{running.port}"
            assert (node["name"], node["ready"], node["models"]) == ("cam-1", True, ["half"])
            assert node["mhash"] == hashes(log)[-1]
            assert edge(here, "discover", "--model", "none").returncode == 3
            assert asked_from(here) == "[1.0]"
            assert "zeroconf" in maps(running)
            models.put("half", 2)
            until_blocking(lambda: len(set(hashes(log))) == 2, lambda: log.read_text() + running.log.read_text())
            assert "gone" not in log.read_text()
            stopping = time.monotonic()
            running.process.terminate()
            until_blocking(lambda: "gone cam-1" in log.read_text(), log.read_text)
            assert time.monotonic() - stopping < 5, "a goodbye, and not the end of its time to live"
            assert running.process.wait(ENDS_WITHIN_S) == 0


def asked_from(host: Host) -> str:
    """What whoever has the model makes of 1, when the client library on that host has found them."""
    code = """
import numpy as np
from edge.client import Client
with Client.discover(model="half") as client:
    print(client.predict("half", np.ones(1, np.float32)).only.tolist())
"""
    command = [*host.enter, sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.strip()


def test_a_server_on_loopback_tells_nobody(hosts: tuple[Host, Host], tmp_path: Path) -> None:
    there, here = hosts
    models = Repository(tmp_path / "models")
    models.put("half", 1)
    with serving(tmp_path, models.path, ready=False, enter=there.enter) as running:
        until_blocking(lambda: "ready on cpu" in running.log.read_text(), running.log.read_text)
        assert edge(here, "discover", "--timeout", "1.5").returncode == 4
        assert "zeroconf" not in maps(running), "what is not announced does not pay for it"


def maps(running: Running) -> str:
    """The files that the server has loaded code from."""
    return Path(f"/proc/{running.process.pid}/maps").read_text()


def test_a_server_on_a_network_that_is_none_serves_all_the_same(tmp_path: Path) -> None:
    models = Repository(tmp_path / "models")
    models.put("half", 1)
    options = ("--set", "advertise.interfaces=none0", "--set", "advertise.node=alone")
    with serving(tmp_path, models.path, *options) as running:
        until_blocking(lambda: "the server is not announced" in running.log.read_text(), running.log.read_text)
        assert running.json("/v1/models/half:predict", {"instances": [1.0]}) == {"predictions": [1.0]}


DBUS = """<busconfig><type>system</type><listen>unix:path={socket}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_type="method_call"/>
<allow send_destination="*"/><allow receive_sender="*"/></policy></busconfig>"""
AVAHI = (
    "[server]\nuse-ipv4=yes\nuse-ipv6=no\nallow-interfaces=lan0\nhost-name=looking\n[wide-area]\nenable-wide-area=no\n"
)


@contextmanager
def avahi(host: Host, daemon: str, bus: str, path: Path) -> Iterator[dict[str, str]]:
    """An Avahi on that host, on a bus of its own; the environment that its tools find it by."""
    socket, log = path / "bus", path / "avahi.log"
    (path / "bus.conf").write_text(DBUS.format(socket=socket))
    (path / "avahi.conf").write_text(AVAHI)
    named = environment() | {"DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={socket}"}
    processes = []
    # /run is its own: `ip netns exec` has left the mounts of this machine, and Avahi's place there may be taken.
    inside = 'mount -t tmpfs none /run && mkdir -p /run/avahi-daemon && exec "$@"'
    flags = ("--no-drop-root", "--no-chroot", "--no-rlimits", "--no-proc-title", "-f", str(path / "avahi.conf"))
    try:
        with log.open("wb") as file:
            bus_command = [bus, f"--config-file={path / 'bus.conf'}", "--nofork", "--nopidfile"]
            processes.append(subprocess.Popen(bus_command, stdout=file, stderr=file))
            until_blocking(lambda: socket.exists() or processes[0].poll() is not None, within_s=10)
            command = [*host.enter, "sh", "-c", inside, "sh", daemon, *flags]
            processes.append(subprocess.Popen(command, env=named, stdout=file, stderr=file))
        try:
            until_blocking(
                lambda: "startup complete" in log.read_text() or any(p.poll() is not None for p in processes),
                log.read_text,
                within_s=20,
            )
        except TimeoutError as error:
            pytest.skip(f"avahi-daemon does not start here: nothing was tested with Avahi ({error})")
        if "startup complete" not in log.read_text():
            pytest.skip(f"avahi-daemon does not start here: nothing was tested with Avahi ({log.read_text()[-300:]})")
        yield named
    finally:
        for process in reversed(processes):
            process.terminate()
            try:
                process.wait(ENDS_WITHIN_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.mark.slow
def test_avahi_sees_the_server_as_it_is(
    hosts: tuple[Host, Host], avahi_daemon: str, avahi_browse: str, dbus_daemon: str, tmp_path: Path
) -> None:
    there, here = hosts
    models = Repository(tmp_path / "models")
    models.put("half", 1)
    options = ("--host", "0.0.0.0", "--set", "advertise.node=cam-2", "--set", "advertise.http=true")
    with (
        avahi(here, avahi_daemon, dbus_daemon, tmp_path) as named,
        serving(tmp_path, models.path, *options, ready=False, enter=there.enter) as running,
    ):

        def browse(service: str) -> list[list[str]]:
            command = [*here.enter, avahi_browse, "--parsable", "--resolve", "--terminate", service]
            done = subprocess.run(command, env=named, capture_output=True, text=True, timeout=30, check=True)
            return [row for line in done.stdout.splitlines() if (row := line.split(";"))[0] == "="]

        until_blocking(lambda: "announced as" in running.log.read_text(), running.log.read_text)
        until_blocking(lambda: browse(SERVICE), (tmp_path / "avahi.log").read_text)
        rows = browse(SERVICE)
        assert rows[0][3] == "cam-2"
        assert rows[0][7:9] == [there.address, str(running.port)]
        said = dict(entry.split("=", 1) for entry in shlex.split(rows[0][9]))
        assert {
            "txtvers": "1",
            "api": "v1,v2",
            "path": "/",
            "tls": "0",
            "auth": "none",
            "nmodels": "1",
        }.items() <= said.items()
        (page,) = [row for row in browse("_http._tcp") if row[3] == "cam-2"]
        assert shlex.split(page[9]) == ["path=/"]
