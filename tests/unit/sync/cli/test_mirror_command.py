"""`edge-sync mirror`: what it prints, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.sync.cli.edge_sync import edge_sync
from tests.unit.sync.fleet.shop import NEW, OLD, Shop, flip


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_copy_is_0_and_verifies(shop: Shop, tmp_path: Path) -> None:
    said = edge_sync("mirror", shop.directory, tmp_path / "stick", "--root", tmp_path / "root.json")
    assert said.code == 0
    assert said.out.startswith(f"{tmp_path / 'stick'}: at version 6: copied 3 files (2.2 KiB), 5 documents, ")
    assert "files: 2.2 KiB of 2.2 KiB" in said.errors
    assert edge_sync("verify", tmp_path / "stick", "--root", tmp_path / "root.json").code == 0


def test_json_says_what_was_copied(shop: Shop, tmp_path: Path) -> None:
    edge_sync("mirror", shop.directory, tmp_path / "stick")
    said = edge_sync("mirror", shop.directory, tmp_path / "stick", "--json")
    assert (said.code, said.errors) == (0, "")
    told = json.loads(said.out)
    assert told["copied"] == {"blobs": 0, "bytes": 0, "documents": 0, "metadata": 0}
    assert (told["ok"], told["current"], told["smooth"], told["blobs_there"]) == (True, True, True, 3)


def test_what_is_wrong_at_the_source_is_5_and_named(shop: Shop, tmp_path: Path) -> None:
    flip(shop.blob(NEW))
    said = edge_sync("mirror", shop.directory, tmp_path / "stick", "--quiet")
    assert said.code == 5
    assert shop.blob(NEW).name in said.out
    assert said.out.endswith(f"stays at what it was: 1 fault at {shop.directory}\n")


def test_what_the_mirror_has_is_read_where_that_is_asked_for(shop: Shop, tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    edge_sync("mirror", shop.directory, stick)
    flip(stick / "blobs/sha256" / shop.blob(OLD).name)
    said = edge_sync("mirror", shop.directory, stick, "--check", "--work", tmp_path / "work")
    assert "copied 1 files" in said.out
    assert (tmp_path / "work").is_dir()


def test_a_target_that_nobody_can_write_to_is_2_and_a_source_that_is_not_there_3(shop: Shop, tmp_path: Path) -> None:
    assert edge_sync("mirror", shop.directory, "http://127.0.0.1:9/").code == 2
    assert edge_sync("mirror", tmp_path / "none", tmp_path / "stick").code == 3
    assert edge_sync("mirror", "http://127.0.0.1:9/", tmp_path / "stick").code == 4
