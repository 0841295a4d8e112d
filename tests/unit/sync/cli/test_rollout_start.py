"""`edge-sync rollout start`: what makes no sense is told before anything is signed."""

from __future__ import annotations

import asyncio

import pytest

from sync.domain.layout import rollout_name
from sync.domain.rollout import parse_rollout
from tests.unit.sync.cli.edge_sync import Said, edge_sync
from tests.unit.sync.fleet.shop import GROUP, MODEL, Shop, tree


def started(shop: Shop, ratio: str) -> Said:
    return edge_sync(
        *("rollout", "start", MODEL, "2", "--group", GROUP, "--percent", "20", "--max-p99-ratio", ratio),
        *("--store", shop.directory, "--keys", shop.path / "keys"),
    )


@pytest.mark.parametrize("ratio", ["0.9", "0.999", "1e-9", "-1", "1e7", "inf", "nan", "much"])
def test_a_ratio_that_would_roll_back_everything_or_makes_no_sense_is_refused(shop: Shop, ratio: str) -> None:
    before = tree(shop.directory)
    said = started(shop, ratio)
    assert said.code == 2
    assert f"Invalid value for '--max-p99-ratio': want 0, or 1 to 1e+06, got {ratio}" in said.errors
    assert tree(shop.directory) == before


@pytest.mark.parametrize("ratio", ["0", "1", "1.0", "2.5", "1e6"])
def test_a_ratio_from_one_on_is_signed_and_so_is_none_at_all(shop: Shop, ratio: str) -> None:
    said = started(shop, ratio)
    assert (said.code, said.errors) == (0, "")
    assert asyncio.run(signed_ratio(shop)) == float(ratio)


async def signed_ratio(shop: Shop) -> float:
    repository = shop.repository()
    await repository.open()
    data = await repository.read("rollouts", rollout_name(GROUP))
    assert data is not None
    return parse_rollout(data).models[MODEL].probation.max_p99_ratio
