"""From the operator's directory to a device: by a patch where the device has what it begins with, else whole."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from sync.agent.clock import SystemClock
from sync.agent.download import Downloader
from sync.agent.fetch import BlobFetch
from sync.agent.files import OsFiles
from sync.agent.places import Places
from sync.agent.staging import Staging
from sync.domain.deltas import Patch, parse_deltas
from sync.domain.digests import digest_of
from sync.domain.journal import FileRef, Installed
from sync.domain.layout import blob_path, deltas_name, manifest_name
from sync.domain.release import parse_manifest
from sync.fleet.publish import Published, Wanted, publish
from sync.trust.documents import SignedDocuments
from tests.tflite_models import picking
from tests.unit.sync.trust.world import World

pytest.importorskip("bsdiff4")
FILE = "model.tflite"


class Fleet:
    """An operator with a store, and versions of a model whose weights change a little each time."""

    def __init__(self, path: Path) -> None:
        self.path, self.world = path, World.now_by_the_clock(path)
        self.models: dict[int, bytes] = {}

    async def publish(self, version: int, model: bytes, **wanted: object) -> Published:
        directory = self.path / f"given-{version}"
        directory.mkdir(exist_ok=True)
        (directory / FILE).write_bytes(model)
        self.models[version] = model
        return await publish(
            await self.world.opened(),
            self.world.store,
            Wanted("m", version, directory, **wanted),  # type: ignore[arg-type]  # what a test says
        )


class Offered:
    def __init__(self, documents: SignedDocuments) -> None:
        self._documents = documents

    async def of(self, model: str, version: int) -> Sequence[Patch]:
        return await self._documents.patches(model, version)


class Device:
    def __init__(self, fleet: Fleet, name: str) -> None:
        self.fleet, self.files = fleet, OsFiles()
        client, self.store = fleet.world.device(name)
        self.documents = SignedDocuments(client)
        state = fleet.path / name / "state"
        self.places = Places(state, fleet.path / name / "models")
        downloader = Downloader(self.files, self.places, SystemClock())
        self.fetch = BlobFetch(self.files, self.places, downloader, lambda digest, share: [self.store])
        self.staging = Staging(self.files, self.places, self.fetch, Offered(self.documents))

    async def bring(self, version: int, *bases: Installed) -> Installed:
        """The blobs that were asked for are in `blobs` then."""
        await self.documents.refresh()
        manifest, digest = await self.documents.release("m", version)
        (variant,) = manifest.variants
        files = tuple(FileRef(file.path, file.digest, file.size) for file in variant.files)
        release = Installed(version, digest, variant.id, files)
        self.store.taken()
        await self.staging.bring("m", release, list(bases), min_rate_Bps=0)
        self.blobs = [path for path, _ in self.store.asked if path.startswith("blobs/")]
        assert (self.places.version("m", version) / FILE).read_bytes() == self.fleet.models[version]
        return release


def weights(seed: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.random.default_rng(seed).normal(0, 1, 20_000)


@pytest.fixture
async def fleet(tmp_path: Path) -> Fleet:
    """Version 2 differs from version 1 in a hundredth of its weights."""
    made = Fleet(tmp_path)
    await made.world.create()
    first = weights(1)
    await made.publish(1, picking(first.tolist()))
    first[::100] += 0.01
    await made.publish(2, picking(first.tolist()))
    return made


async def test_a_device_with_the_base_fetches_the_patch_and_one_without_it_the_whole_file(fleet: Fleet) -> None:
    old, fresh = Device(fleet, "old"), Device(fleet, "fresh")
    first = await old.bring(1)
    await old.bring(2, first)
    await fresh.bring(2)
    (patch,) = parse_deltas(await signed(fleet, "deltas", deltas_name("m", 2))).patches
    assert old.blobs == [blob_path(patch.digest)]
    assert old.fetch.bytes_delta == patch.size < 0.05 * len(fleet.models[2])
    assert fresh.blobs == [blob_path(digest_of(fleet.models[2]))]
    assert (fresh.fetch.bytes_full, fresh.fetch.bytes_delta) == (len(fleet.models[2]), 0)


@pytest.mark.parametrize("fault", ["patch gone", "patch damaged", "base gone", "base damaged"])
async def test_on_any_doubt_the_whole_file_is_fetched(fleet: Fleet, fault: str) -> None:
    device = Device(fleet, "old")
    first = await device.bring(1)
    (patch,) = parse_deltas(await signed(fleet, "deltas", deltas_name("m", 2))).patches
    base, objects = device.places.blob(first.files[0].digest), fleet.world.store.objects
    damaged = bytearray(objects[blob_path(patch.digest)] if fault == "patch damaged" else base.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    if fault == "patch gone":
        del objects[blob_path(patch.digest)]
    elif fault == "patch damaged":
        objects[blob_path(patch.digest)] = bytes(damaged)
    else:
        base.unlink()
        if fault == "base damaged":
            base.write_bytes(bytes(damaged))
    await device.bring(2, first)
    assert device.blobs[-1] == blob_path(digest_of(fleet.models[2]))


async def test_what_is_printed_is_what_a_device_fetches(fleet: Fleet) -> None:
    third = weights(1)
    third[::50] -= 0.01
    published = await fleet.publish(3, picking(third.tolist()))
    for base in (1, 2):
        device = Device(fleet, f"from-{base}")
        await device.bring(3, await device.bring(base))
        assert published.fetched[str(base)] == device.fetch.bytes_delta
    assert published.fetched["nothing"] == len(fleet.models[3])


async def test_a_model_that_has_nothing_of_the_last_one_is_published_without_a_patch(fleet: Fleet) -> None:
    published = await fleet.publish(3, picking(weights(9).tolist()))
    assert await (await fleet.world.opened()).read("deltas", deltas_name("m", 3)) is None
    assert published.fetched["2"] == published.fetched["nothing"]


async def test_each_variant_of_a_version_has_its_patches(fleet: Fleet) -> None:
    first = weights(1)
    await fleet.publish(1, picking(first.tolist()), variant="other")
    first[::100] += 0.02
    await fleet.publish(2, picking(first.tolist()), variant="other")
    patches = parse_deltas(await signed(fleet, "deltas", deltas_name("m", 2))).patches
    assert {patch.variant for patch in patches} == {"cpu", "other"}
    manifest = parse_manifest(await signed(fleet, "releases", manifest_name("m", 2)))
    assert {file.digest for each in manifest.variants for file in each.files} == {patch.target for patch in patches}


async def test_a_base_that_was_removed_from_the_store_hinders_no_publishing(fleet: Fleet) -> None:
    del fleet.world.store.objects[blob_path(digest_of(fleet.models[2]))]
    third = weights(1)
    third[5] = 0
    published = await fleet.publish(3, picking(third.tolist()))
    assert published.fetched["2"] == published.fetched["nothing"] > published.fetched["1"]


async def signed(fleet: Fleet, role: str, name: str) -> bytes:
    data = await (await fleet.world.opened()).read(role, name)
    assert data is not None
    return data
