"""`edge-sync withdraw`: what it prints, and its exit codes."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from sync.domain.rollout import Candidate
from tests.unit.sync.cli.edge_sync import Said, edge_sync
from tests.unit.sync.fleet.shop import Shop, tree


@pytest.fixture
def stocked(shop: Shop) -> Shop:
    """3 and 4 are named by nobody."""
    asyncio.run(shop.release(3, b"x" * 3072, patch=b"another patch"))
    asyncio.run(shop.release(4, b"y" * 1024))
    return shop


def said(shop: Shop, *words: str | Path) -> Said:
    return edge_sync("withdraw", *words, "--store", shop.directory, "--keys", shop.path / "keys")


def test_it_says_what_is_gone_and_what_gc_will_free(stocked: Shop) -> None:
    assert said(stocked, "detector", "3", "4", "--quiet") == (
        0,
        "detector@4: is withdrawn\n"
        "detector@3: is withdrawn\n"
        "detector: 1 patch is gone too; `edge-sync gc` frees 4.0 KiB when its --keep and --grace are over\n",
        "",
    )
    assert said(stocked, "detector", "3", "--quiet") == (0, "detector@3: had been withdrawn before\n", "")
    assert said(stocked, "detector", "--keep", "5").out == (
        "detector: nothing to withdraw: of 2 versions, 2 are named by rollouts\n"
    )


def test_a_dry_run_says_what_would_go_and_writes_nothing(stocked: Shop) -> None:
    before = tree(stocked.directory)
    told = said(stocked, "detector", "--keep", "1", "--dry-run")
    assert told.code == 0
    assert told.out.startswith("detector@3: would be withdrawn\ndetector: 1 patch would go too; `edge-sync gc` would free 3.0 KiB")  # fmt: skip
    assert tree(stocked.directory) == before


def test_progress_goes_to_stderr_in_lines_where_there_is_no_terminal(stocked: Shop) -> None:
    told = said(stocked, "detector", "3")
    assert told.errors == "rollouts: 2 of 2\nversions: 4 of 4\npatches: 2 of 2\n"


def test_as_json_it_is_all_there(stocked: Shop) -> None:
    told = said(stocked, "detector", "3", "--json")
    assert (told.code, told.errors) == (0, "")
    assert json.loads(told.out) == {
        "name": "detector",
        "dry_run": False,
        "withdrawn": [3],
        "withdrawn_before": [],
        "left": [4, 2, 1],
        "named": {"2": ["the candidate of group line-3"], "1": ["pinned on cam-1", "stable in group line-3"]},
        "patches": 1,
        "bytes": 3085,
    }


def test_what_is_named_is_2_what_was_never_there_3_and_both_ways_of_saying_it_at_once_2(stocked: Shop) -> None:
    told = said(stocked, "detector", "3", "1")
    assert (told.code, told.out) == (2, "")
    assert "edge-sync: detector@1 is pinned on cam-1, stable in group line-3\n" in told.errors
    assert said(stocked, "detector", "9").code == said(stocked, "gate", "1").code == 3
    for words in ((), ("3", "--keep", "1")):
        told = said(stocked, "detector", *words)
        assert told.code == 2
        assert "want either versions or --keep" in told.errors


def test_what_was_withdrawn_can_neither_be_rolled_out_nor_pinned(stocked: Shop) -> None:
    asyncio.run(stocked.roll_out(None, seq=2))
    assert said(stocked, "detector", "3").code == 0
    at = ("--store", stocked.directory, "--keys", stocked.path / "keys", "--group", "line-3")
    for words in (("start", "detector", "3"), ("pin", "cam-2", "detector", "3")):
        told = edge_sync("rollout", *words, *at)
        assert (told.code, told.errors) == (3, "edge-sync: detector@3: is not released\n")
    asyncio.run(stocked.roll_out(Candidate(4, "r-4", "running"), seq=3))
    assert edge_sync("rollout", "pin", "cam-2", "detector", "4", *at).code == 0
