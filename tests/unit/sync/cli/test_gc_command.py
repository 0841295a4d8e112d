"""`edge-sync gc`: what it prints, and its exit codes."""

from __future__ import annotations

import asyncio
import json
import os
from datetime import timedelta
from pathlib import Path

from tests.unit.sync.cli.edge_sync import edge_sync
from tests.unit.sync.fleet.shop import NEW, Shop, flip, tree


def stray(shop: Shop) -> Path:
    """A file that nothing names, ten days old."""
    path = shop.directory / asyncio.run(shop.put_blob(b"x" * 2048))
    then = (shop.now - timedelta(days=10)).timestamp()
    os.utime(path, (then, then))
    return path


def test_a_dry_run_names_what_would_go_with_its_size_and_deletes_nothing(shop: Shop) -> None:
    path = stray(shop)
    before = tree(shop.directory)
    said = edge_sync("gc", "--store", shop.directory, "--dry-run", "--root", shop.path / "root.json")
    assert said.code == 0
    day = f"{shop.now - timedelta(days=10):%Y-%m-%d}"
    assert said.out.startswith(f"file         2.0 KiB  {day}  {path.relative_to(shop.directory)}\n1 of file (2.0 KiB) would go\n")  # fmt: skip
    assert tree(shop.directory) == before


def test_without_it_that_goes_and_nothing_else(shop: Shop) -> None:
    path = stray(shop)
    before = tree(shop.directory)
    said = edge_sync("gc", "--store", shop.directory, "--json")
    assert (said.code, said.errors) == (0, "")
    told = json.loads(said.out)
    assert (told["deleted"], told["bytes"], told["dry_run"]) == (1, 2048, False)
    assert before.keys() - tree(shop.directory).keys() == {path.relative_to(shop.directory).as_posix()}
    assert edge_sync("gc", "--store", shop.directory).out.startswith(f"{shop.directory}: nothing to delete; ")


def test_a_longer_grace_keeps_it(shop: Shop) -> None:
    path = stray(shop)
    assert edge_sync("gc", "--store", shop.directory, "--grace", "2w").code == 0
    assert path.exists()


def test_a_store_that_is_not_whole_is_5_and_a_grace_that_helps_nobody_2(shop: Shop) -> None:
    flip(shop.blob(NEW))
    assert edge_sync("gc", "--store", shop.directory).code == 0, "a damaged file is still needed"
    flip(shop.metadata("targets"))
    said = edge_sync("gc", "--store", shop.directory)
    assert said.code == 5
    assert "nothing is deleted" in said.errors
    said = edge_sync("gc", "--store", shop.directory, "--grace", "0")
    assert said.code == 2
    assert "want 1 h to" in said.errors
