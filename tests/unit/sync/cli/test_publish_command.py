"""`edge-sync publish`: what it is asked for is what is published."""

from __future__ import annotations

from pathlib import Path

import pytest

from sync.domain.release import FORMAT, Manifest
from sync.fleet.publish import Published, Wanted
from tests.unit.sync.cli.edge_sync import edge_sync
from tests.unit.sync.fleet.shop import Shop


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
