"""The parts that decide: mounts, permissions, and what a crash leads to."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

import msgspec
import pytest

from sync.agent.mounts import in_memory, mount_of, parse_mounts
from sync.agent.view import View
from sync.app import assemble
from sync.config import load_config
from sync.doctor import disk
from sync.doctor.access import ENTER, READ, WRITE, Who, check_access, kept_from, may
from sync.doctor.broker import check_broker
from sync.doctor.crash import AFTER, after_a_crash
from sync.doctor.disk import check_outbox, check_places, check_room
from sync.doctor.examine import check_network
from sync.doctor.finding import Level
from sync.doctor.store import check_clock
from sync.domain.errors import OperatorError, Reason, TrustError, Unreachable
from sync.domain.journal import Journal, ModelState, Phase, Watched
from sync.domain.situation import SeenBroker, Situation
from tests.unit.sync.agent.test_status import state_in
from tests.unit.sync.agent.world import release

MOUNTINFO = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:25 / /run rw,nosuid - tmpfs tmpfs rw,size=100k
31 22 254:0 /lib /var/lib/edge/models rw,relatime - ext4 /dev/vda rw
32 22 8:1 / /mnt/a\\040b ro,relatime - vfat /dev/sda ro
33 22 8:2 / /mnt/c rw,relatime - ext4 /dev/sdb ro
34 33 8:3 / /mnt/c rw,relatime master:1 propagate_from:2 - xfs /dev/sdc rw
nonsense
"""


@pytest.mark.parametrize(
    ("path", "number", "kind", "read_only"),
    [
        ("/var/lib/edge/sync", 22, "ext4", False),
        ("/var/lib/edge/models/m", 31, "ext4", False),
        ("/var/lib/edge/models2", 22, "ext4", False),
        ("/run/edge", 30, "tmpfs", False),
        ("/mnt/a b/c", 32, "vfat", True),
        ("/mnt/c", 34, "xfs", False),
    ],
)
def test_a_path_is_on_the_mount_that_is_nearest_above_it(path: str, number: int, kind: str, read_only: bool) -> None:
    mount = mount_of(PurePosixPath(path), MOUNTINFO)
    assert mount is not None
    assert (mount.number, mount.kind, mount.read_only) == (number, kind, read_only)


def test_what_this_kernel_says_of_its_mounts_makes_sense() -> None:
    text = Path("/proc/self/mountinfo").read_text()
    assert len(list(parse_mounts(text))) == len(text.splitlines())
    assert mount_of(PurePosixPath("/"), text) is not None
    assert mount_of(PurePosixPath("/"), "") is None


@pytest.mark.parametrize(
    ("state_dir", "level", "text"),
    [
        ("/var/lib/edge/sync", Level.FAIL, "files cannot be linked between them"),
        ("/run/edge", Level.FAIL, "/var/lib/edge/models on /var/lib/edge/models"),
        ("/var/lib/edge/models/.sync", Level.OK, "all on /var/lib/edge/models (ext4)"),
    ],
)
def test_one_device_that_is_mounted_twice_is_no_one_file_system(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, state_dir: str, level: Level, text: str
) -> None:
    (tmp_path / "mountinfo").write_text(MOUNTINFO)
    monkeypatch.setattr(disk, "MOUNTINFO", tmp_path / "mountinfo")
    monkeypatch.setattr(disk, "nearest", lambda path: path)
    found = check_places(load_config(None, {}, {"paths.state_dir": state_dir}))
    assert (found.level, text in found.text) == (level, True), found


@pytest.mark.parametrize(
    ("kind", "options", "level", "text"),
    [
        ("tmpfs", "rw", Level.FAIL, "is a tmpfs"),
        ("ext4", "ro", Level.FAIL, "read-only"),
        ("ext4", "rw", Level.OK, "ext4"),
    ],
)
def test_a_disk_that_forgets_or_may_not_be_written_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str, options: str, level: Level, text: str
) -> None:
    (tmp_path / "mountinfo").write_text(f"22 1 254:0 / / {options} - {kind} x {options}\n")
    monkeypatch.setattr(disk, "MOUNTINFO", tmp_path / "mountinfo")
    found = check_places(load_config(None, {}, {}))
    assert (found.level, text in found.text) == (level, True), found


def test_room_is_asked_for_a_version_as_large_as_the_largest_here_beyond_what_is_kept_free(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = load_config(None, {}, {"paths.state_dir": str(tmp_path)})

    def free(count: int, files: int = 10) -> None:
        fake = os.statvfs_result(
            (4096, 4096, (1 << 30) // 4096, count // 4096, count // 4096, 100, files, files, 0, 255)
        )
        monkeypatch.setattr(os, "statvfs", lambda path: fake)

    file = release(1).files[0]
    large = msgspec.structs.replace(release(1), files=(msgspec.structs.replace(file, size=100 << 20),))
    journal = Journal(models={"m": ModelState(active=large)})
    for count, level in ((60 << 20, Level.FAIL), (100 << 20, Level.WARN), (200 << 20, Level.OK)):
        free(count)
        assert check_room(config, journal).level is level, count
    free(100 << 20)
    assert check_room(config, None).level is Level.OK
    free(200 << 20, files=0)
    assert "no file can be made" in check_room(config, None).text


def stat_of(mode: int, uid: int, gid: int) -> os.stat_result:
    return os.stat_result((mode, 0, 0, 1, uid, gid, 0, 0, 0, 0))


@pytest.mark.parametrize(
    ("mode", "want", "owner", "member", "other"),
    [
        (0o750, READ | ENTER, True, True, False),
        (0o750, WRITE, True, False, False),
        (0o640, READ, True, True, False),
        (0o077, READ, False, True, True),
        (0o707, READ, True, False, True),
        (0o660, READ | WRITE, True, True, False),
    ],
)
def test_the_first_class_that_fits_decides(mode: int, want: int, owner: bool, member: bool, other: bool) -> None:
    found = stat_of(mode, 1, 10)
    assert may(Who(1, frozenset({10})), found, want) is owner
    assert may(Who(2, frozenset({9, 10})), found, want) is member
    assert may(Who(3, frozenset({11})), found, want) is other
    assert may(Who(0, frozenset()), found, want)


@pytest.fixture
def place() -> Iterator[Path]:
    """Below nothing that keeps others out."""
    made = Path(tempfile.mkdtemp())
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


def test_what_is_above_keeps_out_too_and_is_named(place: Path) -> None:
    (place / "a").mkdir(mode=0o700)
    (place / "a/file").touch()
    (place / "a/file").chmod(0o644)
    stranger = Who(61_003, frozenset({61_003}))
    assert re.fullmatch(
        rf"user 61003 may not enter {place}/a \(drwx------, \w+, group \d+\)",
        kept_from(stranger, place / "a/file", READ),
    )
    (place / "a").chmod(0o711)
    assert kept_from(stranger, place / "a/file", READ) == ""
    assert "may not read and write" in kept_from(stranger, place / "a/file", READ | WRITE)


@pytest.mark.skipif(os.geteuid() != 0, reason="not root: nothing was tested of directories of others")
@pytest.mark.parametrize(
    ("group", "mode", "level"), [(61_000, 0o750, Level.OK), (61_009, 0o750, Level.FAIL), (61_000, 0o700, Level.FAIL)]
)
def test_a_server_that_may_not_read_the_models_is_found_out(place: Path, group: int, mode: int, level: Level) -> None:
    for name in ("state", "models"):
        (place / name).mkdir()
        os.chown(place / name, 61_001, group)
        (place / name).chmod(mode)
    (place / "admin.sock").touch()
    os.chown(place / "admin.sock", 61_002, 61_000)
    flags = {"state_dir": "state", "models_dir": "models", "admin_uds": "admin.sock"}
    config = load_config(None, {}, {f"paths.{key}": str(place / name) for key, name in flags.items()})
    found = [
        each for each in check_access(config, View(Journal(), 0.0)) if "the server" in each.text or "61002" in each.text
    ]
    assert [each.level for each in found] == [level], found


def test_every_phase_says_who_serves_after_a_crash() -> None:
    assert AFTER.keys() == set(Phase)
    for phase in Phase:
        for first in (False, True):
            text = after_a_crash(state_in(phase, first=first))
            assert re.search(r"version 1[67] serves|nothing serves", text), text
            assert "None" not in text


def test_the_crash_that_ends_an_update_is_told_before_it_happens() -> None:
    staging = state_in(Phase.STAGING)
    assert "crash 1 of 3" in after_a_crash(staging)
    assert "crash 3 of 3, and the version is given up" in after_a_crash(msgspec.structs.replace(staging, tries=2))
    watched = state_in(Phase.PROBATION, watched=Watched(deaths=1))
    assert "one more death of the server, and version 16 serves again" in after_a_crash(watched)


@pytest.mark.parametrize(
    ("reason", "floor", "level"),
    [
        (None, 0.0, Level.OK),
        (Reason.CLOCK_SUSPECT, 0.0, Level.FAIL),
        (Reason.NET_UNREACHABLE, 0.0, Level.WARN),
        (Reason.NET_UNREACHABLE, 999_000.0, Level.OK),
        (Reason.NET_UNREACHABLE, 1_010_000.0, Level.FAIL),
        (None, 1_000_100.0, Level.OK),
    ],
)
def test_the_clock_is_held_against_all_that_is_signed(reason: Reason | None, floor: float, level: Level) -> None:
    error = (
        None if reason is None else Unreachable("x") if reason is Reason.NET_UNREACHABLE else TrustError("x", reason)
    )
    assert check_clock(error, floor, 1_000_000.0).level is level


def test_the_hours_and_the_rate_of_downloads_are_told() -> None:
    noon = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)
    config = load_config(None, {}, {"network.window": "22:00-05:00", "network.limit_Bps": "2048"})
    text = check_network(config, noon).text
    assert text == (
        "downloads take at most 2.0 KiB a second, in the window 22:00-05:00: by this clock it is 12:00 UTC, and it opens in 10 h"
    )
    assert check_network(config, noon.replace(hour=23)).text.endswith("it is open")
    assert "at any time" in check_network(load_config(None, {}, {}), noon).text


def test_an_agent_in_memory_wants_it_to_be_said(tmp_path: Path) -> None:
    (tmp_path / "mountinfo").write_text("22 1 0:1 / / rw - tmpfs x rw\n")
    assert in_memory(tmp_path / "not/there", tmp_path / "mountinfo") == "tmpfs"
    assert in_memory(tmp_path, tmp_path / "none") == ""
    memory = Path("/dev/shm")
    if in_memory(memory) == "":
        pytest.skip("no file system in memory: nothing was tested of an agent on one")
    flags = {"paths.state_dir": str(memory / "edge-none"), "paths.models_dir": str(memory / "edge-none")}
    with pytest.raises(OperatorError, match="is on a tmpfs: want it on a disk"):
        assemble(load_config(None, {}, {**flags, "store.url": str(tmp_path)}))
    assert not (memory / "edge-none").exists()
    said = check_places(load_config(None, {}, {**flags, "paths.ephemeral": "true"}))
    assert (said.level, "with the power go the models" in said.text) == (Level.WARN, True)


def seen(**fields: object) -> View:
    broker = SeenBroker("broker:1883", **fields)  # type: ignore[arg-type]
    return View(Journal(), 0.0, Situation(broker=broker), running=True)


@pytest.mark.parametrize(
    ("settings", "view", "level", "text"),
    [
        ({"mqtt.host": ""}, None, Level.OK, "off"),
        ({}, None, Level.OK, "which the agent connects to when it runs"),
        ({}, View(Journal(), 0.0, None), Level.OK, "which the agent connects to when it runs"),
        ({}, seen(), Level.WARN, "broker:8883: the agent is not connected"),
        ({}, seen(connected=True), Level.OK, "the agent is connected"),
        ({}, seen(connected=True, garbage=3, why="x: \x1b"), Level.OK, "3 messages were ignored, the last: x: �"),
        ({"mqtt.key_file": "k.pem"}, None, Level.FAIL, "a key_file wants a cert_file"),
    ],
)
def test_what_keeps_the_agent_from_its_broker_is_said_and_fails_only_where_it_does_not_start(
    settings: dict[str, str], view: View | None, level: Level, text: str
) -> None:
    given = {"device.id": "cam-7", "mqtt.host": "broker", "mqtt.tls": "true", **settings}
    found = check_broker(load_config(None, {}, given), view)
    assert (found.level, text in found.text) == (level, True), found.text


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({}, "report.url and mqtt.host are empty: no reports are sent"),
        ({"mqtt.host": "hub"}, "empty; reports go to the broker at hub"),
        ({"mqtt.host": "hub", "report.url": "http://c/"}, "empty; reports go to http://c/"),
    ],
)
def test_it_is_said_where_reports_go(settings: dict[str, str], text: str, tmp_path: Path) -> None:
    given = {"device.id": "cam-7", "paths.state_dir": str(tmp_path), **settings}
    found = check_outbox(load_config(None, {}, given))
    assert (found.level, found.text) == (Level.OK, text)
