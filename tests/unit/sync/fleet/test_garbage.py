"""What is deleted was needed by nobody: not by the state in force, not by a slow device, not by a publisher at work."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from sync.domain.deltas import FORMAT as DELTAS_FORMAT
from sync.domain.digests import digest_of
from sync.domain.errors import Conflict, HashMismatch, Missing, TrustError
from sync.domain.layout import TIMESTAMP, deltas_name, manifest_name, rollout_name
from sync.domain.ports import ReadStore
from sync.domain.rollout import Candidate
from sync.fleet.garbage import Garbage, find, sweep
from sync.fleet.sign import Repository, Transaction
from sync.fleet.verify import verify
from sync.stores.directory import DirectoryStore
from tests.fakes.sync.mortal import MortalStore
from tests.fakes.sync.store import Died
from tests.unit.sync.fleet.history import KEEP, History
from tests.unit.sync.fleet.shop import GROUP, MODEL, NEW, OLD, Shop, flip, tree


@pytest.fixture
def history(shop: Shop) -> History:
    return History(shop)


def kinds(garbage: Garbage) -> set[str]:
    return {one.kind for one in garbage.unneeded}


async def test_of_a_young_store_nothing_goes(history: History) -> None:
    before = tree(history.shop.directory)
    garbage = await history.swept()
    assert garbage.unneeded == []
    assert tree(history.shop.directory) == before


async def test_what_nothing_names_goes_when_the_grace_is_over_and_no_sooner(history: History) -> None:
    stray = await history.shop.put_blob(b"what nothing names")
    await history.live(6)
    garbage = await history.swept()
    assert (garbage.unneeded, garbage.young, garbage.young_size) == ([], 1, 18)
    await history.live(2)
    garbage = await history.swept()
    assert [(one.kind, one.path, one.size) for one in garbage.unneeded] == [("file", stray, 18)]
    assert not (history.shop.directory / stray).exists()


async def test_what_was_superseded_goes_with_all_that_it_named_when_the_time_is_over(history: History) -> None:
    shop = history.shop
    old = shop.target(rollout_name(GROUP))
    await shop.roll_out(None, stable=2, seq=2)
    await shop.sign("releases", manifest_name(MODEL, 1), None)
    await shop.sign("deltas", deltas_name(MODEL, 2), None)
    await shop.sign("rollouts", shop.pins_name, None)
    await history.live(36)
    assert "document" not in kinds(await history.swept())
    assert old.exists()
    await history.live(3)
    garbage = await history.swept()
    assert old.relative_to(shop.directory).as_posix() in {one.path for one in garbage.unneeded}
    assert kinds(garbage) == {"metadata", "document", "file"}
    assert not shop.blob(OLD).exists()
    assert shop.blob(NEW).exists()
    order = [one.kind for one in garbage.unneeded]
    assert order == sorted(order, key=["metadata", "document", "file"].index), "what names goes first"


async def test_metadata_does_not_pile_up(history: History) -> None:
    counts = []
    for _ in range(3):
        await history.live(40)
        await history.swept()
        counts.append(len(list((history.shop.directory / "metadata").iterdir())))
    assert counts[2] < counts[1] * 1.1, counts


async def test_no_root_ever_goes(history: History) -> None:
    for _ in range(3):
        await history.shop.rotate("root")
        await history.live(40)
        await history.swept()
    roots = sorted(path.name for path in (history.shop.directory / "metadata").glob("*.root.json"))
    assert roots == ["1.root.json", "2.root.json", "3.root.json", "4.root.json"]


async def test_a_device_that_slept_while_it_polled_reads_on_for_as_long_as_was_promised(history: History) -> None:
    shop = history.shop
    slow = shop.now, DirectoryStore(shop.directory), (shop.directory / TIMESTAMP).read_bytes()
    await shop.roll_out(None, stable=2, seq=2)
    await shop.sign("rollouts", shop.pins_name, None)
    await shop.sign("releases", manifest_name(MODEL, 1), None)
    await history.live(29)
    await history.swept()
    assert await still_reads(*slow)
    await history.live(10)
    await history.swept()
    assert not await still_reads(*slow)


async def still_reads(then: datetime, store: ReadStore, timestamp: bytes) -> bool:
    """Whether all that a timestamp of an earlier day stands for can be had."""
    place = Path(store.name).with_name("earlier")
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(store.name, place)
    (place / TIMESTAMP).write_bytes(timestamp)
    done = await verify(DirectoryStore(place), now=then)
    return done.ok


async def test_what_a_dead_publisher_left_stays_for_the_grace_and_goes_then(history: History) -> None:
    shop = history.shop
    for writes in range(1, 6):
        await shop.put_blob(b"never signed %d" % writes)
        repository = Repository(MortalStore(shop.directory, writes), shop.keys, now=lambda: shop.now)
        await repository.open()
        change = Transaction()
        change.put("rollouts", "rollouts/line-9.json", b"%d" % writes)
        change.put("releases", manifest_name("gate", writes), b"%d" % writes)
        with pytest.raises(Died):
            await repository.commit(change)
    history.dated()
    await history.live(5)
    assert (await history.swept()).unneeded == []
    await history.live(40)
    await history.swept()
    left = tree(shop.directory)
    assert not [path for path in left if "line-9" in path or "/gate/" in path]
    assert len([path for path in left if path.startswith("blobs/")]) == 3


async def test_a_snapshot_that_was_never_in_force_does_not_end_the_time_of_the_one_that_is(history: History) -> None:
    """Its publisher died before the timestamp, and the one before it was in force for days after that."""
    shop = history.shop
    repository = Repository(MortalStore(shop.directory, 1), shop.keys, now=lambda: shop.now)
    await repository.open()
    with pytest.raises(Died):
        await repository.commit(Transaction(renew={"snapshot"}))
    history.wait(hours=20)
    earlier = shop.now, DirectoryStore(shop.directory), (shop.directory / TIMESTAMP).read_bytes()
    history.wait(days=4)
    await shop.roll_out(None, stable=2, seq=2)
    await history.live(27)
    await history.swept()
    assert await still_reads(*earlier)


async def test_newer_metadata_than_what_is_in_force_stays_with_all_that_it_names(history: History) -> None:
    """Somebody has put an older timestamp in its place: what is newer must be there when that is undone."""
    shop = history.shop
    older = (shop.directory / TIMESTAMP).read_bytes()
    await shop.release(3, b"newest " * 50)
    await history.live(20)
    newer = (shop.directory / TIMESTAMP).read_bytes()
    (shop.directory / TIMESTAMP).write_bytes(older)
    shop.date(shop.now, [shop.directory / TIMESTAMP])
    garbage = await history.find()
    await sweep(shop.store, garbage)
    (shop.directory / TIMESTAMP).write_bytes(newer)
    assert (await verify(shop.store, now=shop.now)).ok


async def test_a_snapshot_nested_without_end_names_nothing(history: History) -> None:
    shop = history.shop
    await shop.release(3, b"newest " * 50)
    path = "metadata/999.snapshot.json"
    (shop.directory / path).write_bytes(b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}")
    assert path not in {one.path for one in (await history.find()).unneeded}


async def test_a_file_that_is_named_in_a_form_of_tomorrow_stays(history: History) -> None:
    shop = history.shop
    patch = b"a patch of another kind"
    path = await shop.put_blob(patch)
    document = {
        "format": DELTAS_FORMAT,
        "patches": [{"variant": "cpu", "path": "model.tflite", "from": digest_of(OLD), "to": digest_of(NEW),
                     "digest": digest_of(patch), "size": len(patch), "format": "bsdiff99"}],
    }  # fmt: skip
    await shop.sign("deltas", deltas_name(MODEL, 2), json.dumps(document).encode())
    await history.live(50)
    await history.swept()
    assert (shop.directory / path).exists()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda shop: flip(shop.metadata("releases.bin-0")),
        lambda shop: shop.metadata("deltas").unlink(),
        lambda shop: flip(shop.metadata("timestamp")),
        lambda shop: flip(shop.target(manifest_name(MODEL, 1))),
        lambda shop: shop.target(deltas_name(MODEL, 2)).unlink(),
    ],
)  # fmt: skip
async def test_of_a_store_that_is_not_whole_nothing_goes(history: History, spoil: Callable[[Shop], None]) -> None:
    await history.shop.put_blob(b"what nothing names")
    await history.live(20)
    spoil(history.shop)
    with pytest.raises((TrustError, HashMismatch, Missing)):
        await history.find()


async def test_another_root_than_the_stores_proves_nothing(history: History, tmp_path: Path) -> None:
    other = Shop(tmp_path / "other")
    await other.create()
    with pytest.raises(TrustError, match="nothing is deleted"):
        await find(history.shop.store, now=history.shop.now, first_root=other.root)


async def test_what_is_not_ours_is_left_alone(history: History) -> None:
    shop = history.shop
    for name in ("index.html", "blobs/README", "blobs/sha256/short", "metadata/notes.txt", "metadata/0.x.json", "targets/a"):  # fmt: skip
        (shop.directory / name).write_bytes(b"somebody's")
    await history.live(60)
    garbage = await history.swept()
    assert garbage.unknown == 5
    assert (shop.directory / "targets/a").exists()


async def test_a_clock_that_is_years_ahead_deletes_nothing(history: History) -> None:
    await history.shop.put_blob(b"what nothing names")
    history.dated()
    now = history.shop.now + timedelta(days=3650)
    garbage = await find(history.shop.store, now=now, first_root=history.shop.root)
    assert garbage.unneeded == []


async def test_who_publishes_meanwhile_ends_the_sweep(history: History) -> None:
    await history.shop.put_blob(b"what nothing names")
    await history.live(20)
    garbage = await history.find()
    await history.shop.refresh()
    with pytest.raises(Conflict, match="0 objects are gone, try again"):
        await sweep(history.shop.store, garbage)


async def test_a_file_that_a_publisher_wants_again_is_new(history: History) -> None:
    shop = history.shop
    path = await shop.put_blob(b"once more")
    await history.live(20)
    garbage = await history.find()
    assert [one.path for one in garbage.unneeded] == [path]
    await shop.put_blob(b"once more")
    await sweep(shop.store, garbage)
    assert garbage.deleted == 0
    assert (shop.directory / path).exists()


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_happened_before_nothing_goes_that_somebody_may_read(history: History, seed: int) -> None:
    chance, shop = random.Random(seed), history.shop
    seen = [(shop.now, shop.store, (shop.directory / TIMESTAMP).read_bytes())]
    version, seq = 3, 2
    for _ in range(16):
        match chance.choice(["release", "roll", "pause", "retire", "rotate", "wait", "wait", "die"]):
            case "release":
                await shop.release(version, b"%d " % version * 40)
                version += 1
            case "roll":
                seq += 1
                await shop.roll_out(Candidate(2, f"r-{seq}", "running"), seq=seq)
            case "retire":
                await shop.sign("releases", manifest_name(MODEL, chance.randrange(3, version + 1)), None)
            case "rotate":
                await shop.rotate(chance.choice(["rollouts", "root"]))
            case "die":
                await shop.put_blob(b"left %d" % chance.randrange(100))
                repository = Repository(
                    MortalStore(shop.directory, chance.randrange(4)), shop.keys, now=lambda: shop.now
                )
                await repository.open()
                with pytest.raises(Died):
                    await repository.commit(Transaction(renew={"rollouts", "deltas"}))
            case _:
                await history.live(chance.randrange(1, 9))
        history.dated()
        seen.append((shop.now, shop.store, (shop.directory / TIMESTAMP).read_bytes()))
        await history.swept()
    fresh = [each for each in seen if each[0] > shop.now - KEEP]
    assert fresh
    assert all([await still_reads(*each) for each in fresh])


async def test_an_empty_place_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(Missing):
        await find(DirectoryStore(tmp_path), now=Shop(tmp_path).now)
