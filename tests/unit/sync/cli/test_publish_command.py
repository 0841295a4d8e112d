"""`edge-sync publish`: what it is asked for is what is published."""

from __future__ import annotations

from pathlib import Path

import pytest

from sync.domain.release import FORMAT, Manifest
from sync.fleet.publish import Published, Wanted
from tests.unit.sync.cli.edge_sync import edge_sync
from tests.unit.sync.fleet.shop import Shop


@pytest.mark.parametrize("name", ["My Det", "", "-x", "é", "a" * 129, "a/b"])
def test_a_name_that_is_none_is_2_before_anything_is_tried(shop: Shop, tmp_path: Path, name: str) -> None:
    keys = ("--store", shop.directory, "--keys", shop.path / "keys")
    said = edge_sync("publish", tmp_path, "--name", name, "--version", "3", *keys)
    assert said.code == 2
    assert "Invalid value for '--name': want letters, digits" in said.errors


@pytest.mark.parametrize(("flags", "share"), [((), True), (("--private",), False)])
def test_a_version_is_shared_between_neighbours_unless_it_is_private(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, flags: tuple[str, ...], share: bool
) -> None:
    asked: list[Wanted] = []

    async def publish(repository: object, store: object, wanted: Wanted, *, dry_run: bool) -> Published:
        asked.append(wanted)
        return Published(Manifest(FORMAT, wanted.model, wanted.version, 1, (), share=wanted.share), True, 1)

    monkeypatch.setattr("sync.cli.publish.publish_version", publish)
    said = edge_sync(
        "publish", tmp_path, "--name", "m", "--version", "3", "--store", shop.directory, "--keys", shop.path / "keys", *flags
    )  # fmt: skip
    assert said.code == 0, said.errors
    assert [wanted.share for wanted in asked] == [share]


def test_inputs_and_outputs_that_differ_are_told_beside_those_that_were_wanted(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def tried(*_: object) -> dict[str, object]:
        image, scores = {"dtype": "uint8", "shape": [-1, 8, 8]}, {"dtype": "float32", "shape": [1, 10]}
        return {"signatures": {"a": {"inputs": {"image": image}, "outputs": {"scores": scores}}}, "peak_bytes": 1}

    monkeypatch.setattr("sync.fleet.publish.check", tried)
    (tmp_path / "model.tflite").write_bytes(b"model")
    keys = ("--store", shop.directory, "--keys", shop.path / "keys")
    said = edge_sync("publish", tmp_path, "--name", "detector", "--version", "3", *keys)
    assert said.code == 2
    assert (
        "those of version 2: want nothing → nothing, got image uint8 [?,8,8] → scores float32 [1,10]; `--breaking`"
        in said.errors
    )


def test_a_version_that_does_not_pass_its_check_is_5_as_of_edge_check(shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "model.tflite").write_bytes(b"no model")
    keys = ("--store", shop.directory, "--keys", shop.path / "keys")
    said = edge_sync("publish", tmp_path, "--name", "detector", "--version", "3", *keys)
    assert (said.code, said.errors.startswith(f"edge-sync: {tmp_path}: ")) == (5, True), said.errors
