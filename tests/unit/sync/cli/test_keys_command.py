"""`edge-sync keys`: what programs are told."""

from __future__ import annotations

import json
from pathlib import Path

from tests.unit.sync.cli.edge_sync import edge_sync


def test_keys_are_made_rotated_and_shown_for_programs_too(tmp_path: Path) -> None:
    store = ("--store", tmp_path / "store", "--keys", tmp_path / "keys", "--json")
    said = edge_sync("keys", "init", *store, "--root", tmp_path / "root.json")
    assert json.loads(said.out) == {"store": str(tmp_path / "store"), "root": str(tmp_path / "root.json")}
    assert json.loads(edge_sync("keys", "rotate", "deltas", *store).out)["rotated"] == "deltas"
    rows = {row["role"]: row for row in json.loads(edge_sync("keys", "show", *store).out)}
    assert (rows["root"]["here"], rows["root"]["threshold"], rows["deltas"]["here"]) == (3, 2, 2)
    assert edge_sync("verify", tmp_path / "store", "--root", tmp_path / "root.json").code == 0
