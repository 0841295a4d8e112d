"""Programs of the system, as fixtures: what asks for one has it installed before the first test, or is skipped.

And byte code is kept, whatever the environment says: else each of hundreds of processes compiles all that it imports.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

from tests import system

sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    if session.config.option.collectonly or session.testsfailed:
        return
    wanted = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    plugins = session.config.pluginmanager
    reporter, capture = plugins.get_plugin("terminalreporter"), plugins.get_plugin("capturemanager")

    def say(line: str) -> None:
        with capture.global_and_fixture_disabled() if capture is not None else nullcontext():
            # Processes that run tests side by side have no reporter, and only one of them installs.
            reporter.write_line(line) if reporter is not None else print(line, file=sys.stderr, flush=True)

    system.TOOLS.parent.mkdir(exist_ok=True)
    with open(system.TOOLS.parent / "installing", "w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        system.provide([name for name in system.PROGRAMS if name in wanted], say)


def _program(name: str) -> str:
    program = system.PROGRAMS[name]
    if program.path is None:
        pytest.skip(f"no {name} ({' or '.join(program.commands)}): nothing was tested where {program.why}")
    return program.path


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium."""
    return _program("chromium")


@pytest.fixture(scope="session")
def cc() -> str:
    """The path of a C compiler."""
    return _program("cc")


@pytest.fixture(scope="session")
def fake_library(cc: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in for the Edge TPU's library, compiled."""
    library = tmp_path_factory.mktemp("delegate") / "libfake.so"
    source = Path(__file__).parent / "data" / "fake_delegate.c"
    subprocess.run([cc, "-Wall", "-Werror", "-O1", "-shared", "-fPIC", "-o", library, source], check=True)
    return library


@pytest.fixture(scope="session")
def openssl() -> str:
    """The path of the program `openssl`."""
    return _program("openssl")


@pytest.fixture(scope="session")
def mosquitto() -> str:
    """The path of a Mosquitto broker."""
    return _program("mosquitto")


@pytest.fixture(scope="session")
def mosquitto_pub() -> str:
    """The path of `mosquitto_pub`; `mosquitto_sub` and `mosquitto_rr` lie beside it."""
    return _program("mosquitto_pub")


@pytest.fixture(scope="session")
def avahi_browse() -> str:
    """The path of `avahi-browse`."""
    return _program("avahi_browse")


@pytest.fixture(scope="session")
def avahi_daemon() -> str:
    """The path of an Avahi daemon."""
    return _program("avahi_daemon")


@pytest.fixture(scope="session")
def dbus_daemon() -> str:
    """The path of a D-Bus daemon, for Avahi's to hang on."""
    return _program("dbus_daemon")


@pytest.fixture(scope="session")
def promtool() -> str:
    """The path of Prometheus' checker."""
    return _program("promtool")


@pytest.fixture(scope="session")
def qemu_aarch64() -> str:
    """The path of an emulator of arm64 for programs."""
    return _program("qemu_aarch64")


@pytest.fixture(scope="session")
def ip() -> str:
    """The path of iproute2's `ip`."""
    return _program("ip")


@pytest.fixture(scope="session")
def systemd_analyze() -> str:
    """The path of `systemd-analyze`."""
    return _program("systemd_analyze")


@pytest.fixture(scope="session")
def systemd_nspawn() -> str:
    """The path of `systemd-nspawn`."""
    return _program("systemd_nspawn")


@pytest.fixture(scope="session")
def debootstrap() -> str:
    """The path of `debootstrap`."""
    return _program("debootstrap")


@pytest.fixture(scope="session")
def buildah() -> str:
    """The path of `buildah`."""
    return _program("buildah")


@pytest.fixture(scope="session")
def bash() -> str:
    """The path of the shell bash."""
    return _program("bash")


@pytest.fixture(scope="session")
def zsh() -> str:
    """The path of the shell zsh."""
    return _program("zsh")


@pytest.fixture(scope="session")
def fish() -> str:
    """The path of the shell fish."""
    return _program("fish")
