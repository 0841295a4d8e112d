"""`edge-sync refresh`: once, and as a process that is told to stop."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.sync.cli.edge_sync import edge_sync
from tests.unit.sync.fleet.shop import Shop


def test_once_says_what_was_signed(shop: Shop) -> None:
    said = edge_sync("refresh", "--store", shop.directory, "--keys", shop.path / "keys")
    assert (said.code, said.out) == (0, f"{shop.directory}: signed anew: timestamp\n")


def test_offline_roles_are_signed_where_that_is_asked_for(shop: Shop) -> None:
    said = edge_sync("refresh", "--store", shop.directory, "--keys", shop.path / "keys", "--also", "releases", "--json")
    assert said.code == 0
    assert json.loads(said.out) == {"signed": ["releases", "timestamp"], "ending": {}}


@pytest.mark.parametrize("every", ["20h", "1s", "12", "soon"])
def test_a_pause_that_would_let_the_timestamp_end_or_makes_no_sense_is_2(shop: Shop, every: str) -> None:
    said = edge_sync("refresh", "--store", shop.directory, "--keys", shop.path / "keys", "--every", every)
    assert said.code == 2
    assert "want" in said.errors


def test_no_store_is_3_and_no_key_2_also_for_a_loop(shop: Shop, tmp_path: Path) -> None:
    more = ("--keys", shop.path / "keys", "--every", "12h")
    assert edge_sync("refresh", "--store", tmp_path / "none", *more).code == 3
    assert edge_sync("refresh", "--store", shop.directory, "--keys", tmp_path / "none", "--every", "12h").code == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_loop_ends_cleanly_when_it_is_told_to(shop: Shop, number: int) -> None:
    keys = str(shop.path / "keys")
    words = ["refresh", "--store", str(shop.directory), "--keys", keys, "--every", "12h", "--json"]
    with subprocess.Popen(
        [sys.executable, "-m", "sync", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            told = json.loads(process.stdout.readline())
            process.send_signal(number)
            out, errors = process.communicate(timeout=30)
        finally:
            process.kill()
    assert told["signed"] == ["timestamp"]
    assert (process.returncode, out, errors) == (0, "", "stopped\n")
