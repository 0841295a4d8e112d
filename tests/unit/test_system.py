"""What the tests may install of the system, and what becomes of those that need it, with an `apt-get` of our own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import system
from tests.system import Program, provide

ROOT = Path(__file__).parents[2]
TOOL = Program("tool", ("tool", "tool-2"), ("tool-package", "tool-headers"), "tools are tried")
OTHER = Program("other", ("other",), ("other-package",), "others are tried")
DAEMON = Program("daemon", ("daemond",), ("daemon-package",), "daemons are tried", service=True)
GOOD = """
case "$*" in
*--no-download*tool-package*) ln -s /bin/true "$BIN/tool-2";;
*--no-download*other-package*) ln -s /bin/true "$BIN/other";;
esac
"""


class Machine:
    """A PATH with nothing on it but what a test puts there. `asked` is what `apt-get` was given, without options."""

    def __init__(self, place: Path) -> None:
        self.bin, self.log = place / "bin", place / "log"
        self.bin.mkdir()
        for program in ("timeout", "env", "ln", "sleep"):
            found = shutil.which(program)
            assert found, program
            (self.bin / program).symlink_to(found)
        self.said: list[str] = []

    def put(self, name: str, script: str) -> None:
        path = self.bin / name
        path.write_text(f'#!/bin/sh\nBIN={self.bin}\necho "{name} $*" >> {self.log}\n{script}\n')
        path.chmod(0o755)

    @property
    def asked(self) -> list[str]:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [" ".join(word for word in line.split() if word not in system.APT) for line in lines]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine(tmp_path)
    monkeypatch.setenv("PATH", str(machine.bin))
    monkeypatch.delenv("EDGE_TEST_INSTALL", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(system, "PROGRAMS", {"tool": TOOL, "other": OTHER})
    return machine


def test_what_is_there_costs_nothing_and_nothing_is_said(machine: Machine) -> None:
    machine.put("apt-get", "exit 1")
    machine.put("tool", "")
    began = time.perf_counter()
    provide(["tool"], machine.said.append)
    assert time.perf_counter() - began < 0.05
    assert (machine.said, machine.asked) == ([], [])


def test_root_has_what_is_missing_fetched_and_then_installed(machine: Machine) -> None:
    machine.put("apt-get", GOOD)
    provide(["tool", "other"], machine.said.append)
    assert machine.asked == [
        "apt-get --download-only install tool-package tool-headers",
        "apt-get --no-download install tool-package tool-headers",
        "apt-get --download-only install other-package",
        "apt-get --no-download install other-package",
    ]
    assert machine.said[0] == "installing tool with apt-get, as tools are tried (EDGE_TEST_INSTALL=0 forbids it)"
    assert machine.said[1].startswith("installed tool in ")
    assert TOOL.path == str(machine.bin / "tool-2")
    assert len(machine.said) == 4


def test_old_lists_of_packages_are_renewed_once(machine: Machine) -> None:
    machine.put(
        "apt-get", f'case "$*" in *update*) touch=1; : > $BIN/fresh;; esac; [ -e $BIN/fresh ] || exit 100\n{GOOD}'
    )
    provide(["tool"], machine.said.append)
    assert [line.split()[1] for line in machine.asked] == [
        "--download-only",
        "update",
        "--download-only",
        "--no-download",
    ]
    assert TOOL.path


def test_a_user_with_sudo_that_asks_no_password_uses_it(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    machine.put("apt-get", GOOD)
    machine.put("sudo", '[ "$1" = -n ] || exit 1; shift; [ "$1" = true ] || exec "$@"')
    provide(["tool"], machine.said.append)
    assert machine.asked[0] == "sudo -n true"
    assert all(
        "timeout" in line and "apt-get" in line
        for line in machine.asked
        if line.startswith("sudo") and "install" in line
    )
    assert TOOL.path


@pytest.mark.parametrize(
    ("forbid", "why"),
    [
        (lambda m, p: p.setenv("EDGE_TEST_INSTALL", "0"), "EDGE_TEST_INSTALL=0"),
        (lambda m, p: (m.bin / "apt-get").unlink(), "there is no apt-get"),
        (lambda m, p: p.setattr(os, "geteuid", lambda: 1000), "neither root nor sudo without a password"),
        (
            lambda m, p: (p.setattr(os, "geteuid", lambda: 1000), m.put("sudo", "echo a password is required; exit 1")),
            "neither root nor sudo without a password",
        ),
    ],
)
def test_where_nothing_may_be_installed_each_that_is_missing_is_named(
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
    forbid: Callable[[Machine, pytest.MonkeyPatch], object],
    why: str,
) -> None:
    machine.put("apt-get", GOOD)
    forbid(machine, monkeypatch)
    provide(["tool", "other"], machine.said.append)
    assert not any("apt-get" in line for line in machine.asked)
    assert machine.said == [
        f"tool is missing and is not installed ({why}): where tools are tried, tests are skipped",
        f"other is missing and is not installed ({why}): where others are tried, tests are skipped",
    ]


@pytest.mark.parametrize(
    ("script", "why"),
    [
        (
            "echo reading; echo 'E: Unable to locate package tool-package' >&2; exit 100",
            "E: Unable to locate package tool-package",
        ),
        ("exit 3", "apt-get left with 3"),
        ("", "the package tool-package brought none of tool, tool-2"),
        ("printf '\\377'; exit 1", "�"),
    ],
)
def test_one_that_cannot_be_installed_is_named_and_the_next_still_is(machine: Machine, script: str, why: str) -> None:
    machine.put("apt-get", f'case "$*" in *other*) ;; *) {script or ":"};; esac\n{GOOD.replace("tool-2", "elsewhere")}')
    provide(["tool", "other"], machine.said.append)
    assert machine.said[1] == f"tool could not be installed ({why}): where tools are tried, tests are skipped"
    assert OTHER.path


def test_a_download_that_does_not_end_is_ended(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "FETCH_LIMIT_S", 0.2)
    machine.put("apt-get", "exec sleep 60")
    began = time.perf_counter()
    provide(["tool", "other"], machine.said.append)
    assert time.perf_counter() - began < 10
    assert [line for line in machine.said if line.endswith("skipped")] == [
        "tool could not be installed (downloads took more than 0 s): where tools are tried, tests are skipped",
        "other could not be installed (downloads took more than 0 s): where others are tried, tests are skipped",
    ]
    assert machine.asked == ["apt-get --download-only install tool-package tool-headers"]


def test_what_would_start_a_service_is_unpacked_for_the_tests_alone_and_by_any_user(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(system, "PROGRAMS", {"daemon": DAEMON})
    monkeypatch.setattr(system, "TOOLS", tmp_path / "tools")
    machine.put(
        "apt-get",
        """case "$*" in
        *print-uris*) echo "'http://there/daemon-package.deb' daemon-package_1_all.deb 9 SHA256:00"
                      echo "'http://there/libdaemon1.deb' libdaemon1_1_all.deb 9 SHA256:00";;
        *download*daemon-package*libdaemon1*) : > a.deb;;
        *) exit 1;;
        esac""",
    )
    machine.put("dpkg-deb", """/bin/mkdir -p "$3/usr/sbin"; ln -s /bin/echo "$3/usr/sbin/daemond" """)
    provide(["daemon"], machine.said.append)
    assert machine.said[0].startswith("unpacking daemon into .tools with apt-get, as daemons are tried")
    assert machine.said[1].startswith("unpacked daemon in ")
    path = DAEMON.path
    assert path == str(tmp_path / "tools" / "run" / "daemond")
    assert subprocess.run([path, "it", "runs"], capture_output=True, text=True, check=True).stdout == "it runs\n"


def run(machine: Machine, *arguments: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    environment = {"PATH": str(machine.bin), "EDGE_TEST_INSTALL": "0"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize("processes", ["-n0", "-n2"])
def test_a_run_without_the_program_says_so_skips_what_needs_it_and_passes(machine: Machine, processes: str) -> None:
    code, said = run(machine, processes, "tests/unit/backends/test_edgetpu.py")
    assert code == 0, said
    assert "cc is missing and is not installed (EDGE_TEST_INSTALL=0): where the Edge TPU's stand-in" in said
    assert "no cc (gcc or cc or clang): nothing was tested where the Edge TPU's stand-in is compiled" in said


@pytest.mark.parametrize("arguments", [["tests/unit/test_status_table.py"], ["--collect-only", "tests/unit/backends"]])
def test_a_run_that_needs_no_program_looks_for_none(machine: Machine, arguments: list[str]) -> None:
    code, said = run(machine, *arguments)
    assert code == 0, said
    assert "is missing" not in said
