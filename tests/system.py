"""Programs of the system that some tests need: found, or installed where this user may.

Rule 1: only what a test that is about to run needs is installed, and a line says what and why.
Rule 2: an installation that is refused, fails or takes too long ends no run: what needs the program is skipped, by name.
Rule 3: `EDGE_TEST_INSTALL=0` forbids it. Rule 4: a package that would start a service of this machine is not installed: it
is unpacked under `.tools/system`, which no one else sees, and which needs no privilege.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

FETCH_LIMIT_S = 300.0  # all downloads together; ending one does no harm
UNPACK_LIMIT_S = 180.0  # one program's; ending this one is what `dpkg --configure -a` mends
KILL_AFTER_S = 5.0
BOUNDED = ("timeout", f"--kill-after={KILL_AFTER_S}")
SUDO_LIMIT_S = 5.0
TOOLS = Path(__file__).parents[1] / ".tools" / "system"
SBIN = "/usr/local/sbin:/usr/sbin:/sbin"
"""Not on every user's PATH."""
APT = ("-y", "-q", "--no-install-recommends", "-oAcquire::Retries=0", "-oAcquire::http::Timeout=20")


@dataclass(frozen=True)
class Program:
    """`commands` are names of one and the same, the first that is there is taken; `packages` are Debian's.

    service: whether a package would start a service, and is unpacked instead.
    """

    name: str
    commands: tuple[str, ...]
    packages: tuple[str, ...]
    why: str
    service: bool = False

    @property
    def path(self) -> str | None:
        where = os.pathsep.join(
            (os.environ.get("PATH", os.defpath), *((str(TOOLS / "run"), SBIN) if self.service else ()))
        )
        return next(filter(None, (shutil.which(command, path=where) for command in self.commands)), None)


PROGRAMS = {
    program.name: program
    for program in (
        Program("chromium", ("chromium", "google-chrome"), ("chromium",), "the page is tried in a browser"),
        Program("cc", ("gcc", "cc", "clang"), ("gcc", "libc6-dev"), "the Edge TPU's stand-in is compiled"),
        Program("openssl", ("openssl",), ("openssl",), "certificates are made for the tests of TLS"),
        Program("mosquitto", ("mosquitto",), ("mosquitto",), "MQTT is spoken with a real broker", service=True),
        Program(
            "mosquitto_pub",
            ("mosquitto_pub",),
            ("mosquitto-clients",),
            "MQTT is spoken from the command line",
            service=True,
        ),
        Program("avahi_browse", ("avahi-browse",), ("avahi-utils",), "Avahi looks for the server", service=True),
        Program("avahi_daemon", ("avahi-daemon",), ("avahi-daemon",), "Avahi looks for the server", service=True),
        Program("dbus_daemon", ("dbus-daemon",), ("dbus",), "Avahi looks for the server", service=True),
        Program("promtool", ("promtool",), ("prometheus",), "Prometheus reads metrics and alerts", service=True),
        Program(
            "qemu_aarch64",
            ("qemu-aarch64-static",),
            ("qemu-user-static",),
            "the server is run as on arm64",
            service=True,
        ),
        Program("bash", ("bash",), ("bash",), "commands are completed"),
        Program("zsh", ("zsh",), ("zsh",), "commands are completed"),
        Program("fish", ("fish",), ("fish",), "commands are completed"),
        Program("ip", ("ip",), ("iproute2",), "hosts on a network of their own find each other"),
        Program("systemd_analyze", ("systemd-analyze",), ("systemd",), "units are checked"),
        Program("systemd_nspawn", ("systemd-nspawn",), ("systemd-container",), "units are booted"),
        Program("debootstrap", ("debootstrap",), ("debootstrap",), "a small Debian is made to boot units in"),
        Program("buildah", ("buildah",), ("buildah",), "the image is built"),
    )
}


class Refused(Exception):
    """What kept a program from being installed."""


def provide(names: Iterable[str], say: Callable[[str], object]) -> None:
    """Install those of the programs that are missing, within FETCH_LIMIT_S and UNPACK_LIMIT_S for each. Raises nothing."""
    end = time.monotonic() + FETCH_LIMIT_S
    for program in [PROGRAMS[name] for name in names]:
        if program.path is None:
            _provide(program, end, say)


def _provide(program: Program, end: float, say: Callable[[str], object]) -> None:
    began = time.monotonic()
    try:
        _check_allowed()
        prefix = [] if program.service else _privilege()
    except Refused as why:
        say(f"{program.name} is missing and is not installed ({why}): where {program.why}, tests are skipped")
        return
    how, done = (
        (f"unpacking {program.name} into .tools", "unpacked")
        if program.service
        else (f"installing {program.name}", "installed")
    )
    say(f"{how} with apt-get, as {program.why} (EDGE_TEST_INSTALL=0 forbids it)")
    try:
        if program.service:
            _unpack(program, end)
        else:
            _install(program, prefix, end)
        say(f"{done} {program.name} in {time.monotonic() - began:.0f} s")
    except Refused as why:
        say(f"{program.name} could not be installed ({why}): where {program.why}, tests are skipped")


def _check_allowed() -> None:
    """Raises Refused."""
    if os.environ.get("EDGE_TEST_INSTALL") == "0":
        raise Refused("EDGE_TEST_INSTALL=0")
    if shutil.which("apt-get") is None:
        raise Refused("there is no apt-get")


def _privilege() -> list[str]:
    """What goes before `apt-get` where it changes the system. Raises Refused."""
    if os.geteuid() == 0:
        return []
    try:
        subprocess.run(
            ["sudo", "-n", "true"], check=True, timeout=SUDO_LIMIT_S, stdin=subprocess.DEVNULL, capture_output=True
        )
    except (OSError, subprocess.SubprocessError):
        raise Refused("neither root nor sudo without a password") from None
    return ["sudo", "-n"]


def _install(program: Program, prefix: list[str], end: float) -> None:
    fetch = (*APT, "--download-only", "install", *program.packages)
    try:
        _apt(prefix, end - time.monotonic(), *fetch)
    except Refused:  # the lists of packages are old, or there are none
        _apt(prefix, end - time.monotonic(), *APT, "update")
        _apt(prefix, end - time.monotonic(), *fetch)
    _apt(prefix, UNPACK_LIMIT_S, *APT, "--no-download", "install", *program.packages)
    if program.path is None:
        raise Refused(f"the package {program.packages[0]} brought none of {', '.join(program.commands)}")


def _unpack(program: Program, end: float) -> None:
    """The packages, and what they need that is not here; a script in `.tools/system/run` runs each command. Raises Refused."""
    fetched = TOOLS / "fetched" / program.name
    (fetched / "partial").mkdir(parents=True, exist_ok=True)
    # With a cache of its own: what another one holds already is not told.
    wanted = (*APT, f"-oDir::Cache::archives={fetched}", "--print-uris", "install", *program.packages)
    try:
        said = _apt([], end - time.monotonic(), *wanted)
    except Refused:
        with suppress(Refused):  # only who has the right to may renew the lists
            _apt(_privilege(), end - time.monotonic(), *APT, "update")
        said = _apt([], end - time.monotonic(), *wanted)
    packages = re.findall(r"^'[^']+' ([a-z0-9][a-z0-9.+-]+)_", said, re.MULTILINE)
    _apt([], end - time.monotonic(), *APT, "download", *packages, cwd=fetched)
    for file in sorted(fetched.glob("*.deb")):
        _run(["dpkg-deb", "-x", str(file), str(TOOLS)], UNPACK_LIMIT_S)
        file.unlink()
    libraries = ":".join(
        sorted({str(library.parent) for library in TOOLS.glob("usr/lib/**/*.so.*")} | {str(TOOLS / "lib")})
    )
    (TOOLS / "run").mkdir(exist_ok=True)
    for command in [each for place in ("bin", "sbin", "usr/bin", "usr/sbin") for each in TOOLS.glob(f"{place}/*")]:
        script = TOOLS / "run" / command.name
        script.write_text(f'#!/bin/sh\nLD_LIBRARY_PATH="{libraries}" exec "{command}" "$@"\n')
        script.chmod(0o755)
    if program.path is None:
        raise Refused(f"the package {program.packages[0]} brought none of {', '.join(program.commands)}")


def _apt(prefix: list[str], limit_s: float, *arguments: str, cwd: Path | None = None) -> str:
    """What it said. Raises Refused with the last of it."""
    if limit_s <= 0:
        raise Refused(f"downloads took more than {FETCH_LIMIT_S:.0f} s")
    return _run(
        [*prefix, *BOUNDED, f"{limit_s:.1f}", "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", *arguments],
        limit_s,
        cwd,
    )


def _run(command: list[str], limit_s: float, cwd: Path | None = None) -> str:
    """Raises Refused with the last that the program said. `timeout` does the killing, as it has the right to."""
    program = "apt-get" if "apt-get" in command else command[0]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=limit_s + 2 * KILL_AFTER_S,
            text=True,
            errors="replace",
            check=False,
            cwd=cwd,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise Refused(str(error)) from None
    if done.returncode == 124:
        raise Refused(f"{program} took more than {limit_s:.0f} s")
    if done.returncode:
        said = [line for line in done.stdout.splitlines() if line.strip()]
        raise Refused(said[-1] if said else f"{program} left with {done.returncode}")
    return done.stdout
