"""`edge-sync verify`: what it prints, and its exit codes."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from sync.domain.rollout import PINS_FORMAT, Pin, Pins, encode
from sync.stores.condense import condense
from tests.unit.sync.cli.edge_sync import edge_sync
from tests.unit.sync.fleet.shop import NEW, Shop, flip


def test_a_whole_store_is_0_and_says_what_was_walked(shop: Shop) -> None:
    said = edge_sync("verify", shop.directory, "--root", shop.path / "root.json")
    assert said.code == 0
    assert said.out == f"{shop.directory}: 11 roles, 5 documents, 3 blobs, 2.2 KiB: no fault\n"
    assert "documents: 5 of 5" in said.errors


def test_a_fault_is_5_and_says_where(shop: Shop) -> None:
    flip(shop.blob(NEW))
    said = edge_sync("verify", shop.directory, "--quiet")
    assert said.code == 5
    assert said.out.startswith("FAULT  models/detector/2/manifest.json: model.tflite (blobs/sha256/")
    assert said.out.endswith(": 1 fault\n")
    assert said.errors == "note: the store's own first root was believed; `--root` proves that it is yours\n"


def test_json_has_all_of_it_and_nothing_else(shop: Shop) -> None:
    flip(shop.blob(NEW))
    said = edge_sync("verify", shop.directory, "--json", "--soon", "2d")
    assert (said.code, said.errors) == (5, "")
    told = json.loads(said.out)
    assert (told["ok"], told["fault_count"], told["documents"], told["blobs"]) == (False, 1, 5, 2)
    assert [fault["reason"] for fault in told["faults"]] == ["hash_mismatch"]
    assert [(each["role"], each["left_s"] > 80000) for each in told["warnings"]] == [("timestamp", True)]


def test_a_condensed_copy_of_something_else_is_5_and_is_named(tmp_path: Path) -> None:
    store, keys, root = tmp_path / "store", tmp_path / "keys", tmp_path / "root.json"
    assert edge_sync("keys", "init", "--store", store, "--keys", keys, "--root", root).code == 0
    assert edge_sync("verify", store, "--root", root).code == 0
    (store / "metadata/1.releases.json.z1").write_bytes(condense(b"{}"))
    said = edge_sync("verify", store, "--root", root)
    assert said.code == 5
    assert said.out.startswith("FAULT  metadata/1.releases.json.z1: want metadata/1.releases.json, condensed")


def test_files_may_be_left_out(shop: Shop) -> None:
    flip(shop.blob(NEW))
    assert edge_sync("verify", shop.directory, "--no-blobs").code == 0


def test_another_stores_root_is_5(shop: Shop, tmp_path: Path) -> None:
    other = Shop(tmp_path / "other")
    asyncio.run(other.create())
    (tmp_path / "other.json").write_bytes(other.root)
    said = edge_sync("verify", shop.directory, "--root", tmp_path / "other.json")
    assert said.code == 5
    assert "timestamp was signed by 0/1 keys that count; are --root and --keys those of this store?" in said.out


def test_a_root_that_is_none_is_2_and_no_fault_of_the_store(shop: Shop, tmp_path: Path) -> None:
    file = tmp_path / "other.json"
    for content in (b"LICENSE", b'{"signed": {"_type": "timestamp"}}', b"[]", b"null"):
        file.write_bytes(content)
        said = edge_sync("verify", shop.directory, "--root", file)
        wanted = f"edge-sync: {file}: want a root document, as `edge-sync keys init` makes it\n"
        assert (said.code, said.out, said.errors) == (2, "", wanted)


def test_an_address_that_lacks_its_beginning_is_told_so() -> None:
    said = edge_sync("verify", "127.0.0.1:8000")
    assert (said.code, said.errors) == (
        3,
        "edge-sync: 127.0.0.1:8000: no such directory; a URL begins with https:// or http://\n",
    )
    said = edge_sync("verify", "ftp://models.example/")
    assert (said.code, "want a directory, https://, http:// or s3://bucket/prefix, got ftp" in said.errors) == (2, True)


def test_what_is_not_there_is_3_what_does_not_answer_4_and_what_makes_no_sense_2(tmp_path: Path) -> None:
    assert edge_sync("verify", tmp_path).code == 3
    assert edge_sync("verify", "http://127.0.0.1:9").code == 4
    said = edge_sync("verify", tmp_path, "--soon", "12")
    assert said.code == 2
    assert "want a duration as 90s, 15m, 12h, 1h30m or 7d, got '12'" in said.errors
    assert edge_sync("verify", tmp_path, "--root", tmp_path / "none.json").code == 2


def test_nothing_that_a_store_says_moves_the_cursor(shop: Shop) -> None:
    pins = Pins(PINS_FORMAT, 2, {"cam\x1b[2J\x07": {"gate": Pin(3, 2)}})
    asyncio.run(shop.sign("rollouts", shop.pins_name, encode(pins)))
    said = edge_sync("verify", shop.directory, "--quiet")
    assert said.code == 5
    assert "\x1b" not in said.out
    assert "cam�[2J�: wants gate@3, which nobody has released" in said.out
