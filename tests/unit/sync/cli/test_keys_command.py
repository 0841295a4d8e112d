"""`edge-sync keys`: what people and programs are told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.sync.cli.edge_sync import edge_sync


def test_keys_are_made_rotated_and_shown_for_programs_too(tmp_path: Path) -> None:
    store = ("--store", tmp_path / "store", "--keys", tmp_path / "keys", "--json")
    said = edge_sync("keys", "init", *store, "--root", tmp_path / "root.json")
    assert json.loads(said.out) == {"store": str(tmp_path / "store"), "root": str(tmp_path / "root.json")}
    assert json.loads(edge_sync("keys", "rotate", "deltas", *store).out)["rotated"] == "deltas"
    rows = {row["role"]: row for row in json.loads(edge_sync("keys", "show", *store).out)}
    assert (rows["root"]["here"], rows["root"]["threshold"], rows["deltas"]["here"]) == (3, 2, 2)
    assert edge_sync("verify", tmp_path / "store", "--root", tmp_path / "root.json").code == 0


def test_one_is_told_where_the_root_lies_that_devices_want(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = edge_sync("keys", "init", "--store", "store", "--keys", "keys")
    assert f"Devices want {tmp_path}/root.json." in said.out
    said = edge_sync("keys", "init", "--store", "store2", "--keys", "keys2")
    assert said == (2, "", f"edge-sync: {tmp_path}/root.json: is there already; with --root it goes elsewhere\n")


def test_a_key_that_was_put_away_is_asked_for_by_the_place_where_it_would_be(tmp_path: Path) -> None:
    store = ("--store", tmp_path / "store", "--keys", tmp_path / "keys")
    assert edge_sync("keys", "init", *store, "--root", tmp_path / "root.json").code == 0
    (tmp_path / "keys/offline").rename(tmp_path / "put-away")
    said = edge_sync("refresh", "--also", "releases", *store)
    wanted = f"want 1 private keys of the role releases, found 0 that are in force in {tmp_path}/keys/offline"
    assert said == (2, "", f"edge-sync: {wanted}\n")
