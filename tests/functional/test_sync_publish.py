"""What `publish` promises while others are at work on the same store, and after others were."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path, PosixPath

import pytest

from sync.domain.digests import digest_of
from sync.domain.errors import OperatorError
from sync.domain.layout import TIMESTAMP, blob_path, manifest_name, rollout_name
from sync.domain.ports import WriteStore
from sync.domain.release import Manifest, parse_manifest
from sync.domain.rollout import ModelRollout, Rollout, encode
from sync.fleet.publish import Published, Wanted, publish
from sync.fleet.verify import verify
from sync.fleet.withdraw import withdraw
from tests.fakes.sync.mortal import MortalStore
from tests.tflite_models import picking
from tests.unit.sync.trust.world import World

LABELS = blob_path(digest_of(b"cat\ndog\n"))


class Rewritten(PosixPath):
    """A directory whose labels somebody writes anew all the time."""

    def read_bytes(self) -> bytes:
        data = super().read_bytes()
        if self.name == "labels.txt":
            self.write_bytes(data + b"bird\n")
        return data


class Operator:
    """Who publishes versions of a model, each with other weights."""

    def __init__(self, path: Path) -> None:
        self.path, self.world = path, World.now_by_the_clock(path)

    async def publish(self, version: int, *, store: WriteStore | None = None, min_counter: int | None = None) -> Published:  # fmt: skip
        directory = self.path / f"given-{version}"
        directory.mkdir(exist_ok=True)
        (directory / "model.tflite").write_bytes(model(version))
        (directory / "labels.txt").write_bytes(b"cat\ndog\n")
        return await publish(
            await self.world.opened(store=store),
            store or self.world.store,
            Wanted("m", version, directory, min_counter=min_counter),
        )

    async def withdraw(self, *versions: int) -> None:
        await withdraw(await self.world.opened(), "m", versions)

    async def manifest(self, version: int) -> Manifest | None:
        data = await (await self.world.opened()).read("releases", manifest_name("m", version))
        return None if data is None else parse_manifest(data)


def model(version: int) -> bytes:
    return picking((10.0 * version, 11.0, 12.0))


@pytest.fixture
async def operator(tmp_path: Path) -> Operator:
    made = Operator(tmp_path)
    await made.world.create()
    await made.publish(1)
    return made


@pytest.mark.parametrize("taken", [lambda path: path.startswith("blobs/"), lambda path: path == LABELS])
async def test_files_that_were_taken_for_garbage_before_they_were_signed_are_put_back(
    operator: Operator, taken: Callable[[str], bool]
) -> None:
    """The sweep deletes what it found unnamed a moment ago, and the publisher found there, or has just put there."""
    objects = operator.world.store.objects
    swept: list[str] = []

    async def sweep(path: str) -> None:
        if path.startswith("targets/") and not swept:
            swept.extend(each for each in objects if taken(each))
            for each in swept:
                del objects[each]

    store = MortalStore(operator.world.store, after=sweep)
    await operator.publish(2, store=store)
    assert LABELS in swept
    for data in (model(2), b"cat\ndog\n"):
        assert objects[blob_path(digest_of(data))] == data
    put_back = [path for path in store.written[store.written.index(TIMESTAMP) :] if path.startswith("blobs/")]
    assert sorted(put_back) == sorted({*swept} & {blob_path(digest_of(data)) for data in (model(2), b"cat\ndog\n")})


async def test_what_is_signed_is_what_is_put_into_the_store_also_of_files_that_change_meanwhile(
    operator: Operator,
) -> None:
    directory = Rewritten(operator.path / "given-1")
    (directory / "labels.txt").write_bytes(b"one\ntwo\n")
    await publish(await operator.world.opened(), operator.world.store, Wanted("m", 2, directory))
    found = await verify(operator.world.store, now=operator.world.now)
    assert not found.faults.found


async def test_a_number_that_was_withdrawn_is_not_published_again_whatever_its_content(operator: Operator) -> None:
    await operator.publish(2)
    await operator.withdraw(2)
    before = dict(operator.world.store.objects)
    for content in (2, 3):
        (operator.path / "given-2" / "model.tflite").write_bytes(model(content))
        with pytest.raises(OperatorError, match="m@2: was withdrawn; want a version that was never published"):
            await operator.publish(2)
    assert operator.world.store.objects == before
    await operator.publish(3)
    assert (await verify(operator.world.store, now=operator.world.now)).ok


async def test_what_a_withdrawn_version_has_forbidden_stays_forbidden(operator: Operator) -> None:
    await operator.publish(7, min_counter=5)
    await operator.withdraw(7, 1)
    await operator.publish(8)
    found = await operator.manifest(8)
    assert found is not None
    assert (found.release_counter, found.min_counter) == (8, 5)
    await operator.publish(3)
    found = await operator.manifest(3)
    assert found is not None
    assert (found.release_counter, found.min_counter) == (3, 0), "as if the later ones were still there"


async def test_patches_are_made_from_what_rollouts_name_and_where_nobody_can_read_that_from_the_newest(
    operator: Operator, caplog: pytest.LogCaptureFixture
) -> None:
    for version in (2, 3, 4):
        await operator.publish(version)
    stable = Rollout("edge-rollout/1", "g", 1, {"m": ModelRollout(1)})
    await operator.world.publish("rollouts", rollout_name("g"), encode(stable))
    assert list((await operator.publish(5)).fetched) == ["nothing", "1", "4", "3"]
    await operator.world.publish("rollouts", rollout_name("g"), b"in a form of tomorrow")
    assert list((await operator.publish(6)).fetched) == ["nothing", "5", "4", "3"]
    assert "what rollouts name cannot be read" in caplog.text
