"""The floor: what counts, what begins anew, and that no crash takes it away."""

from __future__ import annotations

import errno
import json
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from sync.domain.errors import DiskError, Reason, TrustError
from sync.domain.sealed import seal, unsealed
from sync.trust.floor import (
    MAX_FLOOR_BYTES,
    MAX_ROLES,
    MAX_SEEN_BYTES,
    MAX_VERSION,
    Family,
    Floor,
    FloorFile,
    check,
    raised,
)
from tests.fakes.sync.files import FaultyFiles, PowerCut, Survival
from tests.unit.sync.trust.world import ROLLOUT, World, reads, refused

PATH = Path("/agent/floor.json")
KEYS = ("a", "b", "c")


def floor(
    versions: Mapping[str, int],
    keys: Mapping[str, tuple[str, ...]] | None = None,
    *,
    threshold: int = 1,
    root: int = 1,
    time: float = 100.0,
    provisioned: str = "sha256:1",
) -> Floor:
    """Families by the first part of the roles' names."""
    keys = keys or {}
    families: dict[str, dict[str, int]] = {}
    for role, version in versions.items():
        families.setdefault(role.partition(".")[0], {})[role] = version
    made = {name: Family(keys.get(name, (name,)), threshold, each) for name, each in families.items()}
    return Floor(time=time, provisioned=provisioned, root=root, families=made)


def refuses(before: Floor, seen: Floor) -> bool:
    try:
        check(before, seen)
    except TrustError as error:
        return error.reason is Reason.TRUST_ROLLBACK
    return False


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", "releases", "releases.bin-0a"])
def test_a_role_may_stay_and_grow_and_not_go_back(role: str) -> None:
    assert not refuses(floor({role: 7}), floor({role: 7}))
    assert not refuses(floor({role: 7}), floor({role: 8}))
    assert refuses(floor({role: 7}), floor({role: 6}))


def test_a_message_says_what_was_wanted_and_what_came() -> None:
    with pytest.raises(TrustError, match="timestamp: want version 7 or later, got 1"):
        check(floor({"timestamp": 7}), floor({"timestamp": 1}))
    with pytest.raises(TrustError, match="root: want version 3 or later, got 2"):
        check(floor({}, root=3), floor({}, root=2))


@pytest.mark.parametrize(
    ("threshold", "after", "anew"),
    [
        (1, ("a", "b", "c", "spare"), False),
        (1, ("a", "b"), True),
        (2, ("a", "b", "x"), False),
        (2, ("a", "x", "y"), True),
        (3, ("x", "y", "z"), True),
    ],
)
def test_a_role_begins_anew_when_those_that_are_left_could_not_sign(
    threshold: int, after: tuple[str, ...], anew: bool
) -> None:
    before = floor({"timestamp": 7}, {"timestamp": KEYS}, threshold=threshold)
    seen = floor({"timestamp": 1}, {"timestamp": after}, threshold=threshold)
    assert refuses(before, seen) is not anew


def test_new_keys_of_the_snapshot_begin_anew_what_it_names_and_nothing_else() -> None:
    before = floor({"timestamp": 7, "snapshot": 7, "targets": 7, "releases.bin-0": 7})
    keys = {"snapshot": ("new",)}
    assert not refuses(before, floor({"timestamp": 7, "snapshot": 1, "targets": 1, "releases.bin-0": 1}, keys))
    assert refuses(before, floor({"timestamp": 6, "snapshot": 1, "targets": 1, "releases.bin-0": 1}, keys))
    fresh = raised(before, floor({"timestamp": 7, "snapshot": 1, "targets": 1}, keys))
    assert "releases" not in fresh.families
    assert fresh.families["targets"].versions == {"targets": 1}


def test_the_root_never_goes_back_but_with_another_provisioned_one() -> None:
    before = floor({"timestamp": 7}, root=5)
    assert refuses(before, floor({"timestamp": 1}, {"timestamp": ("old",)}, root=4))
    assert not refuses(before, floor({"timestamp": 1}, {"timestamp": ("other",)}, root=1, provisioned="sha256:2"))


def test_what_a_snapshot_no_longer_names_is_remembered_within_a_bound() -> None:
    before = floor({"releases.bin-0": 7, "releases.bin-1": 7})
    fresh = raised(before, floor({"releases.bin-1": 8}))
    assert fresh.families["releases"].versions == {"releases.bin-0": 7, "releases.bin-1": 8}
    many = floor({f"releases.bin-{number}": 1 for number in range(MAX_ROLES)})
    fresh = raised(before, many)
    assert len(fresh.families["releases"].versions) == MAX_ROLES
    assert len(msgspec.json.encode(fresh)) < MAX_FLOOR_BYTES


def test_names_that_would_make_a_floor_too_large_to_be_read_again_are_refused_and_old_ones_forgotten() -> None:
    long = floor({f"releases.{'x' * 60}-{number}": 1 for number in range(MAX_ROLES - 1)})
    with pytest.raises(TrustError, match=f"want names of roles that take at most {MAX_SEEN_BYTES} bytes in all, got"):
        check(floor({}), long)
    before = floor({f"releases.{'x' * 300}-{number}": 1 for number in range(1500)})
    fresh = raised(before, floor({f"releases.{'y' * 300}-{number}": 1 for number in range(1500)}))
    assert len(fresh.families["releases"].versions) == 1500
    assert all("y" in role for role in fresh.families["releases"].versions)


def test_the_time_only_grows() -> None:
    assert raised(floor({}, time=100.0), floor({}, time=50.0)).time == 100.0
    assert raised(floor({}, time=100.0), floor({}, time=150.0)).time == 150.0


def test_a_version_that_json_cannot_hold_is_refused() -> None:
    check(floor({}), floor({"timestamp": MAX_VERSION}))
    with pytest.raises(TrustError, match="want a version up to"):
        check(floor({}), floor({"timestamp": MAX_VERSION + 1}))


def test_what_is_written_is_read_again() -> None:
    files = disk()
    written = raised(Floor(), floor({"timestamp": 7, "releases.bin-0": 2}, root=3))
    FloorFile(files, PATH).write(written)
    again = FloorFile(files, PATH)
    assert again.load() == written
    assert again.problem == ""
    assert FloorFile(disk(), PATH).load() == Floor(), "nothing was seen before the first"


@pytest.mark.parametrize("survival", Survival)
def test_a_power_cut_at_any_operation_leaves_the_old_floor_or_the_new_one(survival: Survival) -> None:
    old, new = floor({"timestamp": 7}), floor({"timestamp": 8}, time=200.0)
    cuts = 0
    for cut_at in range(100):
        files = disk()
        FloorFile(files, PATH).write(old)
        files.count, files.cut_at = 0, cut_at
        try:
            FloorFile(files, PATH).write(new)
        except PowerCut:
            cuts += 1
        else:
            break
        files.crash(survival, seed=cut_at)
        after = FloorFile(files, PATH)
        assert after.load() in (old, new), after.problem
        for second in range(10):  # and again while the next refresh writes it
            files.count, files.cut_at = 0, second
            try:
                FloorFile(files, PATH).write(new)
            except PowerCut:
                files.crash(survival, seed=second)
                assert FloorFile(files, PATH).load() in (old, new)
    assert cuts >= 4
    files.crash(survival)
    assert FloorFile(files, PATH).load() == new, "once written it stays"


@pytest.mark.parametrize("forgotten", ["sync", "sync_directory"])
def test_without_either_sync_a_power_cut_would_take_it(forgotten: str) -> None:
    """That the test above can fail."""
    old, new = floor({"timestamp": 7}), floor({"timestamp": 8})
    lost = []
    for survival in Survival:
        files = disk()
        FloorFile(files, PATH).write(old)
        files.forget = {forgotten}
        FloorFile(files, PATH).write(new)
        files.crash(survival, seed=1)
        lost.append(FloorFile(files, PATH).load() != new)
    assert any(lost)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_a_disk_that_fails_at_any_operation_is_told_and_leaves_the_old_floor_or_the_new_one(code: int) -> None:
    old, new = floor({"timestamp": 7}), floor({"timestamp": 8})
    for number in range(4):
        files = disk()
        FloorFile(files, PATH).write(old)
        files.count, files.errors = 0, {number: code}
        with pytest.raises(DiskError, match=r"floor\.json: cannot be written"):
            FloorFile(files, PATH).write(new)
        assert FloorFile(files, PATH).load() in (old, new)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 300,
        b"{}x",
        seal(b'{"format": "edge-floor/9"}'),
        seal(b'{"format": "edge-floor/1", "time": 1e300}'),
        seal(b'{"format": "edge-floor/1", "time": -1}'),
        seal(b'{"format": "edge-floor/1", "root": "1"}'),
        b"[" * 5000,
    ],
)
def test_a_floor_that_cannot_be_read_is_none_and_that_is_told(content: bytes) -> None:
    files = disk()
    if content:
        files.write_at(PATH, 0, content)
    else:
        files.write_at(PATH, 0, b" ")
    file = FloorFile(files, PATH)
    assert file.load() == Floor()
    assert "older metadata than was seen before would have been taken" in file.problem


def test_a_bit_that_flips_in_the_floor_is_found_whichever_it_is() -> None:
    files = disk()
    FloorFile(files, PATH).write(floor({"timestamp": 7, "snapshot": 3}))
    for at in range(8 * len(files.read(PATH))):
        files.flip(PATH, at // 8, 1 << at % 8)
        file = FloorFile(files, PATH)
        assert file.load() == Floor()
        assert file.problem
        files.flip(PATH, at // 8, 1 << at % 8)


def test_a_floor_that_is_too_long_is_not_read() -> None:
    files = disk()
    files.write_at(PATH, 0, b" " * (MAX_FLOOR_BYTES + 1))
    file = FloorFile(files, PATH)
    assert file.load() == Floor()
    assert f"want at most {MAX_FLOOR_BYTES} bytes" in file.problem


async def test_a_damaged_floor_costs_a_protection_not_the_updates_and_is_made_anew(world: World) -> None:
    old = world.keep()
    await world.publish("rollouts", ROLLOUT, b"rollout 2")
    await reads(world.device()[0])
    path = world.path / "device" / "floor.json"
    path.write_bytes(b"\0" * 100)
    client, _ = world.device()
    assert await reads(client) == b"rollout 2"
    assert "floor.json" in client.problem
    await client.refresh()
    assert "floor.json" in client.problem, "until somebody has had the time to read it"
    assert json.loads(unsealed(path.read_bytes()))["families"]["timestamp"]["versions"] == {"timestamp": 4}
    world.restore(old)
    path.write_bytes(b"\0" * 100)
    assert await refused(world.device()[0]) is Reason.TRUST_ROLLBACK, "ngclient's cache still holds"
    assert await refused(client) is Reason.TRUST_ROLLBACK


async def test_a_floor_that_cannot_be_written_is_no_good_refresh_and_is_again_when_it_can(world: World) -> None:
    files = world.files = disk()
    files.make(world.path / "device")
    client, _ = world.device()
    files.errors = dict.fromkeys(range(files.count, files.count + 100), errno.ENOSPC)
    with pytest.raises(DiskError, match=r"floor\.json: cannot be written"):
        await client.refresh()
    with pytest.raises(TrustError, match="nothing was refreshed yet"):
        await client.fetch(ROLLOUT, max_bytes=100)
    files.errors = {}
    assert await reads(client) == b"rollout 1"


def disk() -> FaultyFiles:
    files = FaultyFiles()
    files.make(PATH.parent)
    return files
