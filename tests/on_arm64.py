"""Runs Python programs as an arm64 device does, by qemu's user-mode emulation: no board, no container, no privileges.

    python tests/on_arm64.py litert -m edge version
    python tests/on_arm64.py tflite -m edge serve models/

In `.tools/arm64` it makes a root directory with Debian's Python 3.11 and what that links to, and for each runtime an
environment with the wheels that a device gets (`deploy/requirements.py`). Leaves with 77 when they cannot be made.

Rule 1: an environment's `bin/python3` is a script that calls qemu, and sys.executable is that script: children are
emulated as well, though the kernel here knows no arm64 programs. Rule 2: what the kernel says of processors is a
board's (`deploy/processors.py`), not this machine's. Rule 3: everything is made aside, and renamed into place; it is
made anew when what it is made of has changed. Rule 4: every download is bounded.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from deploy import processors, requirements
from tests.on_tflite_runtime import find_uv
from tests.system import PROGRAMS

ROOT = Path(__file__).parents[1]
PLACE = ROOT / ".tools" / "arm64"
SYSROOT = PLACE / "root"
PYTHON = "3.11"
PLATFORM = "aarch64-manylinux_2_36"  # Debian 12's C library
PACKAGES = (
    *("python3.11", "python3.11-minimal", "libpython3.11-stdlib", "libpython3.11-minimal", "libc6", "libgcc-s1"),
    *("libstdc++6", "zlib1g", "libbz2-1.0", "liblzma5", "libcrypt1", "libdb5.3", "libexpat1", "libffi8", "libssl3"),
    *("libncursesw6", "libtinfo6", "libreadline8", "libsqlite3-0", "libuuid1"),
)
FETCH_LIMIT_S = 300.0
UNAVAILABLE = 77


class Unavailable(Exception):
    """Why nothing can be run as on arm64 here."""


def main(arguments: list[str]) -> int:
    if not arguments or arguments[0] not in requirements.RUNTIMES:
        sys.exit(__doc__)
    try:
        python = environment(arguments[0])
    except Unavailable as why:
        print(f"nothing was run on arm64: {why}", file=sys.stderr)
        return UNAVAILABLE
    return subprocess.run([python, *arguments[1:]], check=False).returncode


def environment(runtime: str) -> Path:
    """Its interpreter. Raises Unavailable."""
    qemu = PROGRAMS["qemu_aarch64"].path
    if qemu is None:
        raise Unavailable("there is no qemu-aarch64-static")
    _sysroot()
    place, made_of = PLACE / runtime, _made_of(runtime, qemu)
    if _stamp(place) != made_of:
        part = _aside(place)
        site = part / "lib" / f"python{PYTHON}" / "site-packages"
        _fetch_wheels(runtime, part, site)
        (site / "project.pth").write_text(f"{ROOT}\n")
        (part / "pyvenv.cfg").write_text(f"home = {SYSROOT / 'usr' / 'bin'}\n")
        launcher = part / "bin" / "python3"
        launcher.parent.mkdir()
        launcher.write_text(_launcher(qemu))
        launcher.chmod(0o755)
        _finish(part, place, made_of)
    return place / "bin" / "python3"


def _launcher(qemu: str) -> str:
    python = SYSROOT / "usr" / "bin" / f"python{PYTHON}"
    return f'#!/bin/sh\nexec "{qemu}" -cpu {processors.EMULATED} -L "{SYSROOT}" -0 "$0" "{python}" "$@"\n'


def _made_of(runtime: str, qemu: str) -> str:
    pins, _ = requirements.constraints()
    return "\n".join([PLATFORM, _launcher(qemu), *requirements.requirements(runtime), "", *pins])


def _fetch_wheels(runtime: str, part: Path, site: Path) -> None:
    """Raises Unavailable."""
    uv = find_uv()
    if uv is None:
        raise Unavailable("uv is neither in UV nor on PATH, nor at .uv/bin/uv")
    requirements.write(runtime, part)
    _run(
        *(uv, "pip", "install", "--quiet", "--python", sys.executable, "--target", site, "--only-binary", ":all:"),
        *("--python-platform", PLATFORM, "--python-version", PYTHON),
        *("--constraint", part / "constraints.txt", "--requirement", part / "requirements.txt"),
    )


def _sysroot() -> None:
    """Raises Unavailable."""
    made_of = "\n".join([*PACKAGES, Path(processors.__file__).read_text()])
    if _stamp(SYSROOT) == made_of:
        return
    for program in ("apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            raise Unavailable(f"there is no {program}")
    part = _aside(SYSROOT)
    _fetch_packages(PLACE / "packages")
    for package in sorted((PLACE / "packages").glob("*.deb")):
        _run("dpkg-deb", "-x", package, part)
    shutil.rmtree(PLACE / "packages")
    processors.describe(part)
    _finish(part, SYSROOT, made_of)


def _fetch_packages(place: Path) -> None:
    """From where this machine has its own, checked as those are, into lists and a cache that are not the machine's. Raises
    Unavailable."""
    shutil.rmtree(place, ignore_errors=True)
    (place / "lists" / "partial").mkdir(parents=True)
    (place / "archives" / "partial").mkdir(parents=True)
    (place / "status").touch()
    (place / "apt.conf").write_text(
        'APT::Architecture "arm64"; APT::Architectures { "arm64"; }; APT::Sandbox::User "";\n'
        'Acquire::Retries "1"; Acquire::http::Timeout "20"; Acquire::Languages "none";\n'
        f'Dir::State "{place}"; Dir::State::status "{place / "status"}"; Dir::Cache "{place}";\n'
    )
    env = os.environ | {"APT_CONFIG": str(place / "apt.conf")}
    _run("apt-get", "-q", "update", env=env)
    _run("apt-get", "-q", "download", *PACKAGES, env=env, cwd=place)


def _aside(place: Path) -> Path:
    part = place.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    return part


def _finish(part: Path, place: Path, made_of: str) -> None:
    (part / "made-of").write_text(made_of)
    shutil.rmtree(place, ignore_errors=True)
    part.rename(place)


def _stamp(place: Path) -> str:
    stamp = place / "made-of"
    return stamp.read_text() if stamp.is_file() else ""


def _run(*command: str | Path, env: dict[str, str] | None = None, cwd: Path = ROOT) -> None:
    """Raises Unavailable with the last that it said."""
    try:
        subprocess.run(
            command,
            cwd=cwd,
            env=env,
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=FETCH_LIMIT_S,
            text=True,
            errors="replace",
        )
    except subprocess.CalledProcessError as error:
        said = error.stdout.strip().splitlines() or [""]
        raise Unavailable(f"{command[0]} {command[1]} left with {error.returncode}: {said[-1]}") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(str(error)) from None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
