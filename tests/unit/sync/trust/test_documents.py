"""From signed bytes to what the agent decides by."""

from __future__ import annotations

import pytest

from sync.domain.deltas import Deltas, Patch, encode_deltas
from sync.domain.digests import digest_of
from sync.domain.errors import DocumentError, Missing, NoRollout, Refused
from sync.domain.layout import deltas_name, manifest_name, rollout_name
from sync.domain.release import FORMAT, MAX_MANIFEST_BYTES, File, Manifest, Variant, encode_manifest
from sync.domain.rollout import (
    FORMAT as ROLLOUT_FORMAT,
)
from sync.domain.rollout import (
    PINS_FORMAT,
    ModelRollout,
    Pin,
    Pins,
    Rollout,
    encode,
    pin_bin,
)
from sync.trust.documents import SignedDocuments
from tests.unit.sync.trust.world import World

DIGEST = digest_of(b"model")
PATCH = Patch("cpu", "model.tflite", DIGEST, digest_of(b"new"), digest_of(b"patch"), 5)


def manifest(name: str = "detector", version: int = 17) -> Manifest:
    variant = Variant("cpu", (File("model.tflite", DIGEST, 5),), {"accel": ("cpu",)})
    return Manifest(FORMAT, name, version, version, (variant,))


def rollout(group: str = "line-3", pins_ref: str = "") -> Rollout:
    return Rollout(ROLLOUT_FORMAT, group, 118, {"detector": ModelRollout(stable=16)}, pins_ref=pins_ref)


async def documents(world: World) -> SignedDocuments:
    client, _ = world.device()
    found = SignedDocuments(client)
    await found.refresh()
    return found


async def test_each_document_is_read_as_what_it_is(world: World) -> None:
    data = encode_manifest(manifest())
    await world.publish("releases", manifest_name("detector", 17), data)
    await world.publish("rollouts", rollout_name("line-3"), encode(rollout()))
    await world.publish("deltas", deltas_name("detector", 17), encode_deltas(Deltas((PATCH,))))
    found = await documents(world)
    assert await found.rollout("line-3") == rollout()
    assert await found.release("detector", 17) == (manifest(), digest_of(data))
    assert await found.patches("detector", 17) == (PATCH,)


async def test_what_nobody_has_signed_is_missing_and_patches_are_none(world: World) -> None:
    found = await documents(world)
    with pytest.raises(NoRollout, match="ever rolled out to the group line-3"):
        await found.rollout("line-3")
    with pytest.raises(Missing):
        await found.release("detector", 17)
    assert await found.patches("detector", 17) == ()


async def test_pins_are_the_device_s_own(world: World) -> None:
    path = "rollouts/pins/<bin>.json"
    pins = Pins(PINS_FORMAT, 5, {"cam-1": {"detector": Pin(15, 5)}, "cam-2": {"detector": Pin(14, 4)}})
    await world.publish("rollouts", path.replace("<bin>", pin_bin("cam-1")), encode(pins))
    found = await documents(world)
    assert await found.pins(rollout(pins_ref=path), "cam-1") == {"detector": Pin(15, 5)}
    assert await found.pins(rollout(pins_ref=path), "cam-of-another-bin") == {}
    assert await found.pins(rollout(pins_ref="models/<bin>/1/manifest.json"), "cam-1") == {}, "nobody signed that"


async def test_a_document_of_something_else_is_refused_whoever_signed_it(world: World) -> None:
    await world.publish("releases", manifest_name("detector", 17), encode_manifest(manifest(version=16)))
    await world.publish("releases", manifest_name("other", 17), encode_manifest(manifest()))
    await world.publish("rollouts", rollout_name("line-3"), encode(rollout("line-4")))
    found = await documents(world)
    for model in ("detector", "other"):
        with pytest.raises(DocumentError, match=f"manifest: want that of {model}@17, got detector@1"):
            await found.release(model, 17)
    with pytest.raises(DocumentError, match="rollout: want that of group line-3, got line-4's"):
        await found.rollout("line-3")


async def test_a_document_beyond_its_bound_is_refused(world: World) -> None:
    await world.publish("releases", manifest_name("detector", 17), b" " * (MAX_MANIFEST_BYTES + 1))
    with pytest.raises(Refused, match="want at most"):
        await (await documents(world)).release("detector", 17)


async def test_patches_that_make_no_sense_are_none_since_the_whole_file_will_do(world: World) -> None:
    await world.publish("deltas", deltas_name("detector", 17), b"not json")
    assert await (await documents(world)).patches("detector", 17) == ()
