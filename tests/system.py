"""Programs of the system that some tests need: found, or installed where this user may.

Rule 1: only what a test that is about to run needs is installed, and a line says what and why.
Rule 2: an installation that is refused, fails or takes too long ends no run: what needs the program is skipped, by name.
Rule 3: `EDGE_TEST_INSTALL=0` forbids it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

FETCH_LIMIT_S = 120.0  # all downloads together; ending one does no harm
UNPACK_LIMIT_S = 180.0  # one program's; ending this one is what `dpkg --configure -a` mends
KILL_AFTER_S = 5.0
SUDO_LIMIT_S = 5.0
APT = ("-y", "-q", "--no-install-recommends", "-oAcquire::Retries=0", "-oAcquire::http::Timeout=20")


@dataclass(frozen=True)
class Program:
    """`commands` are names of one and the same, the first that is there is taken; `packages` are Debian's."""

    name: str
    commands: tuple[str, ...]
    packages: tuple[str, ...]
    why: str

    @property
    def path(self) -> str | None:
        return next(filter(None, map(shutil.which, self.commands)), None)


PROGRAMS = {
    program.name: program
    for program in (
        Program("chromium", ("chromium", "google-chrome"), ("chromium",), "the page is tried in a browser"),
        Program("cc", ("gcc", "cc", "clang"), ("gcc", "libc6-dev"), "the Edge TPU's stand-in is compiled"),
        Program("openssl", ("openssl",), ("openssl",), "certificates are made for the tests of TLS"),
    )
}


class Refused(Exception):
    """What kept a program from being installed."""


def provide(names: Iterable[str], say: Callable[[str], object]) -> None:
    """Install those of the programs that are missing, within FETCH_LIMIT_S and UNPACK_LIMIT_S for each. Raises nothing."""
    missing = [PROGRAMS[name] for name in names if PROGRAMS[name].path is None]
    if not missing:
        return
    end = time.monotonic() + FETCH_LIMIT_S
    try:
        prefix = _privilege()
    except Refused as why:
        for program in missing:
            say(f"{program.name} is missing and is not installed ({why}): where {program.why}, tests are skipped")
        return
    for program in missing:
        began = time.monotonic()
        say(f"installing {program.name} with apt-get, as {program.why} (EDGE_TEST_INSTALL=0 forbids it)")
        try:
            _install(program, prefix, end)
            say(f"installed {program.name} in {time.monotonic() - began:.0f} s")
        except Refused as why:
            say(f"{program.name} could not be installed ({why}): where {program.why}, tests are skipped")


def _privilege() -> list[str]:
    """What goes before `apt-get`. Raises Refused."""
    if os.environ.get("EDGE_TEST_INSTALL") == "0":
        raise Refused("EDGE_TEST_INSTALL=0")
    if shutil.which("apt-get") is None:
        raise Refused("there is no apt-get")
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


def _apt(prefix: list[str], limit_s: float, *arguments: str) -> None:
    """Raises Refused with the last that apt-get said. `timeout` does the killing, as it has the right to."""
    if limit_s <= 0:
        raise Refused(f"downloads took more than {FETCH_LIMIT_S:.0f} s")
    bounded = ["timeout", f"--kill-after={KILL_AFTER_S}", f"{limit_s:.1f}"]
    command = [*prefix, *bounded, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", *arguments]
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
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise Refused(str(error)) from None
    if done.returncode == 124:
        raise Refused(f"apt-get took more than {limit_s:.0f} s")
    if done.returncode:
        said = [line for line in done.stdout.splitlines() if line.strip()]
        raise Refused(said[-1] if said else f"apt-get left with {done.returncode}")
