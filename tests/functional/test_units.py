"""The units, without systemd running: that it understands them, how much they forbid, and what installs them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from itertools import combinations
from pathlib import Path

import pytest

SYSTEMD = Path(__file__).resolve().parents[2] / "systemd"
SERVICES = ("edge.service", "edge@cam1.service", "edge-sync.service")
SOCKETS = ("edge.socket", "edge@cam1.socket")
DROP_INS = tuple(sorted(path.stem for path in (SYSTEMD / "edge.service.d").iterdir()))
MOST = 2.0
"""Of 10, where 10 is a service that may do everything."""
STUBS = ("sysinit", "basic", "shutdown", "network", "network-online", "multi-user", "sockets")


def choices() -> list[tuple[str, tuple[str, ...]]]:
    """Every service with every set of drop-ins that it may have."""
    sets = [each for size in range(len(DROP_INS) + 1) for each in combinations(DROP_INS, size)]
    return [(unit, each) for unit in SERVICES for each in sets if unit != "edge-sync.service" or not each]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A file system with the units, the programs that they start, and stubs of systemd's own targets."""
    units = tmp_path / "etc/systemd/system"
    units.mkdir(parents=True)
    for each in (*SYSTEMD.glob("*.service"), *SYSTEMD.glob("*.socket")):
        shutil.copy(each, units)
    for name in STUBS:
        (units / f"{name}.target").write_text(f"[Unit]\nDescription={name}\nDefaultDependencies=no\n")
    for program in ("opt/edge/bin/edge", "opt/edge/bin/edge-sync", "bin/sh"):
        path = tmp_path / program
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
    return tmp_path


def add(tree: Path, unit: str, drop_ins: tuple[str, ...]) -> None:
    place = tree / f"etc/systemd/system/{re.sub('@.*', '@.service', unit)}.d"
    for each in drop_ins:
        place.mkdir(exist_ok=True)
        shutil.copy(SYSTEMD / f"edge.service.d/{each}.conf", place)


def verified(systemd_analyze: str, tree: Path, unit: str) -> list[str]:
    """What systemd finds wrong with it."""
    done = subprocess.run(
        [systemd_analyze, "verify", "--man=no", f"--root={tree}", unit], capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 1), done.stderr
    return done.stderr.splitlines() or ([] if done.returncode == 0 else [str(done)])


@pytest.mark.parametrize(("unit", "drop_ins"), [*choices(), *((each, ()) for each in SOCKETS)])
def test_systemd_understands_every_unit_with_every_drop_in(
    systemd_analyze: str, tree: Path, unit: str, drop_ins: tuple[str, ...]
) -> None:
    add(tree, unit, drop_ins)
    assert verified(systemd_analyze, tree, unit) == []


def test_what_systemd_does_not_understand_is_found(systemd_analyze: str, tree: Path) -> None:
    path = tree / "etc/systemd/system/edge.service"
    path.write_text(path.read_text().replace("WatchdogSec=45", "WatchdogSec=soon"))
    assert any("soon" in line for line in verified(systemd_analyze, tree, "edge.service"))


def exposure(systemd_analyze: str, tree: Path, unit: str) -> float:
    command = [systemd_analyze, "security", "--no-pager", "--offline=true", f"--root={tree}", unit]
    done = subprocess.run([*command, f"--threshold={MOST * 10:.0f}"], capture_output=True, text=True, check=False)
    found = re.findall(r"Overall exposure level for .*: ([0-9.]+)", done.stdout)
    assert len(found) == 1, done
    assert (float(found[0]) <= MOST) == (done.returncode == 0), done.stderr
    return float(found[0])


@pytest.mark.parametrize(("unit", "drop_ins"), choices())
def test_every_service_may_do_little_with_every_drop_in(
    systemd_analyze: str, tree: Path, unit: str, drop_ins: tuple[str, ...]
) -> None:
    add(tree, unit, drop_ins)
    assert exposure(systemd_analyze, tree, unit) <= MOST


def test_a_service_that_may_do_more_is_found(systemd_analyze: str, tree: Path) -> None:
    path = tree / "etc/systemd/system/edge.service"
    path.write_text(path.read_text().replace("CapabilityBoundingSet=\n", "").replace("ProtectSystem=strict\n", ""))
    assert exposure(systemd_analyze, tree, "edge.service") > MOST


# -- what no tool knows


def settings(name: str) -> list[str]:
    """The lines of a unit that say something."""
    return [line for line in (SYSTEMD / name).read_text().splitlines() if line and line[0] not in "#["]


UNITS = [str(path.relative_to(SYSTEMD)) for path in sorted(SYSTEMD.rglob("*")) if path.suffix in (".service", ".conf")]


@pytest.mark.parametrize("name", UNITS)
def test_nothing_hides_the_processor_from_the_runtimes(name: str) -> None:
    assert not any(line.startswith("ProcSubset") for line in settings(name))


@pytest.mark.parametrize("name", ["edge.service", "edge@.service"])
def test_a_server_may_lower_the_priority_of_what_it_tries_and_outlives_it(name: str) -> None:
    found = settings(name)
    last = max(at for at, line in enumerate(found) if line.startswith("SystemCallFilter=~"))
    allowed = {call for line in found[last + 1 :] if line.startswith("SystemCallFilter=") for call in line[17:].split()}
    assert {"setpriority", "sched_setscheduler", "setrlimit"} <= allowed
    assert "OOMPolicy=continue" in found


def test_the_second_server_differs_from_the_first_by_its_places_alone() -> None:
    differ = {line.partition("=")[0] for line in set(settings("edge.service")) ^ set(settings("edge@.service"))}
    assert differ == {
        *("Description", "Requires", "After", "ExecStart", "Environment", "StateDirectory", "RuntimeDirectory", "Also")
    }


def test_what_the_agent_writes_is_one_mount_so_that_links_can_be_made() -> None:
    assert [line for line in settings("edge-sync.service") if line.startswith("ReadWritePaths")] == [
        "ReadWritePaths=/var/lib/edge"
    ]
    assert not any(line.startswith("StateDirectory") for line in settings("edge-sync.service"))


def test_every_group_that_a_unit_names_is_made() -> None:
    made = {line.split()[1] for line in settings("sysusers.d/edge.conf") if line[0] in "gu"}
    named = {
        group
        for name in UNITS
        for line in settings(name)
        if line.startswith(("User=", "Group=", "SupplementaryGroups="))
        for group in line.partition("=")[2].split()
    }
    assert named <= made


def test_both_states_of_a_coral_are_given_to_its_group() -> None:
    rules = settings("udev/60-edge-coral.rules")
    ids = [re.findall(r'id[VP]\w+}=="(\w+)"', line) for line in rules]
    assert ids == [["1a6e", "089a"], ["18d1", "9302"], []]
    assert all('GROUP:="coral"' in line for line in rules)


# -- the installer


PYTHON = """#!/bin/sh
# Stands in for Python: makes what looks like a virtual environment, and what pip would put into it.
set -eu
case "$1 ${2:-}" in
    "-c "*) ;;
    "-m venv") mkdir -p "$3/bin"; echo home > "$3/pyvenv.cfg"; cp "$0" "$3/bin/python" ;;
    "- "*) echo "numpy==1" ;;
    "-m pip") for name in edge edge-sync; do printf '#!%s\\n' "$0" > "${0%/*}/$name"; done ;;
    *) exit 9 ;;
esac
"""


def install(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [str(SYSTEMD / "install"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)


@pytest.fixture
def staged(tmp_path: Path, systemd_analyze: str) -> tuple[Path, Path]:
    """A file system to install into, and what stands in for Python."""
    if os.geteuid() != 0 or shutil.which("systemd-sysusers") is None:
        pytest.skip("not root, or no systemd-sysusers: nothing was installed")
    root, python = tmp_path / "root", tmp_path / "python"
    (root / "etc").mkdir(parents=True)
    python.write_text(PYTHON)
    python.chmod(0o755)
    assert systemd_analyze
    return root, python


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir() or path.is_symlink()}


def test_what_is_installed_has_the_prefix_everywhere_and_starts_with_the_machine(staged: tuple[Path, Path]) -> None:
    root, python = staged
    done = install("--root", root, "--prefix", "/opt/other-edge", "--python", python, "--coral")
    assert done.returncode == 0, done.stderr
    units = root / "usr/local/lib/systemd/system"
    assert "ExecStart=/opt/other-edge/bin/edge serve" in (units / "edge.service").read_text()
    assert not any("/opt/edge" in path.read_text() for path in units.rglob("*.service"))
    assert {path.name for path in units.rglob("*.conf")} == {"coral.conf"}
    assert (units / "edge@.service.d/coral.conf").exists()
    assert (root / "opt/other-edge/bin/edge").read_text() == "#!/opt/other-edge/bin/python\n"
    assert os.readlink(root / "usr/local/bin/edge") == "/opt/other-edge/bin/edge"
    assert re.search(r"^edge-sync:", (root / "etc/passwd").read_text(), re.MULTILINE)
    assert (root / "etc/systemd/system/sockets.target.wants/edge.socket").is_symlink()
    assert (root / "var/lib/edge/models").stat().st_mode & 0o7777 == 0o750


def test_to_install_again_is_to_change_nothing_and_to_keep_what_a_person_wrote(staged: tuple[Path, Path]) -> None:
    root, python = staged
    assert install("--root", root, "--python", python, "--gpu").returncode == 0
    (root / "etc/edge/edge.toml").write_text("mine")
    before = files(root)
    assert install("--root", root, "--python", python).returncode == 0
    assert files(root) == before
    assert (root / "etc/edge/edge.toml").read_text() == "mine"


def test_to_uninstall_leaves_what_is_a_persons_and_nothing_else(staged: tuple[Path, Path]) -> None:
    root, python = staged
    assert install("--root", root, "--python", python, "--coral", "--gpu").returncode == 0
    done = install("--root", root, "--uninstall")
    assert done.returncode == 0, done.stderr
    left = {path for path in files(root) if not re.match(r"etc/(passwd|group|shadow|gshadow|\.pwd)", path)}
    assert left == {"etc/edge/edge.toml", "etc/edge/edge-sync.toml"}
    assert (root / "var/lib/edge/models").is_dir()


def test_a_directory_of_somebody_else_is_neither_installed_into_nor_removed(staged: tuple[Path, Path]) -> None:
    root, python = staged
    (root / "opt/mine").mkdir(parents=True)
    (root / "opt/mine/precious").write_text("")
    for more in ("--python", str(python)), ("--uninstall",):
        done = install("--root", root, "--prefix", "/opt/mine", *more)
        assert done.returncode == 1
        assert "virtual environment" in done.stderr
    assert (root / "opt/mine/precious").exists()


@pytest.mark.parametrize("name", ["a|b", "a*[b]$", r"a\b"])
def test_the_root_may_have_any_name(name: str, staged: tuple[Path, Path]) -> None:
    _, python = staged
    root = python.parent / name
    (root / "etc").mkdir(parents=True)
    done = install("--root", root, "--python", python)
    assert done.returncode == 0, done.stderr
    assert (root / "opt/edge/bin/edge").read_text() == "#!/opt/edge/bin/python\n"
    assert "ExecStart=/opt/edge/bin/edge serve" in (root / "usr/local/lib/systemd/system/edge.service").read_text()
    assert install("--root", root, "--uninstall").returncode == 0
    assert not (root / "opt/edge").exists()


def test_a_root_with_a_line_break_in_its_name_is_refused(tmp_path: Path) -> None:
    done = install("--dry-run", "--root", f"{tmp_path}/a\nb")
    assert (done.returncode, "want a path without line breaks" in done.stderr) == (2, True)


@pytest.mark.parametrize("begun", ["", 'mkdir -p "$3/bin"; echo > "$3/bin/activate"; '])
@pytest.mark.parametrize("then", ["install", "uninstall"])
def test_an_installer_that_was_killed_leaves_what_is_taken_up_again_or_taken_away(
    begun: str, then: str, staged: tuple[Path, Path]
) -> None:
    root, python = staged
    python.write_text(PYTHON.replace('"-m venv") ', f'"-m venv") {begun}kill -9 "$PPID"; exit 9; '))
    assert install("--root", root, "--python", python).returncode == -9
    assert (root / "opt/edge").is_dir()
    python.write_text(PYTHON)
    done = install("--root", root, *(("--python", python) if then == "install" else ("--uninstall",)))
    assert done.returncode == 0, done.stderr
    assert (root / "opt/edge/bin/edge").exists() == (then == "install")
    assert {path.name for path in root.glob("opt/edge/.*")} == set()


@pytest.mark.parametrize("more", [(), ("--uninstall",)])
def test_a_dry_run_says_what_it_would_do_and_does_nothing(tmp_path: Path, more: tuple[str, ...]) -> None:
    done = install("--dry-run", "--root", tmp_path, "--prefix", "/opt/x", *more)
    assert done.returncode == 0, done.stderr
    assert "edge.service" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("prefix", ["relative", "/", "/opt/", "/opt/../etc", "/opt/a b", "/opt/a;b", "/opt/a|b", ""])
def test_a_prefix_that_is_no_plain_path_is_refused(prefix: str) -> None:
    done = install("--dry-run", "--prefix", prefix)
    assert (done.returncode, "want an absolute path" in done.stderr) == (2, True)


@pytest.mark.parametrize("option", ["--what", "--prefix"])
def test_an_option_that_is_none_is_2(option: str) -> None:
    assert install(option).returncode == 2
