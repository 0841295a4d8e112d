"""What a poll may cost on the wire, both ways, with all headers: of a store with a past, from a static web server.

The same that `python -m benchmarks.polls` measures; a server that does not pack is the harder one.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.polls import DEFAULT_BINS, MANY, MANY_BINS, Cost, Fleet, measure
from benchmarks.web import aiohttp_server

MARGIN = 0.95
"""Other servers' headers are some dozens of bytes longer."""
CHANGES = 60


async def measured(place: Path, count: int, bins: int, *, packed: bool) -> list[Cost]:
    fleet = Fleet(place, count, bins)
    await fleet.create()
    await fleet.age(CHANGES)
    async with aiohttp_server(fleet.directory, packed=packed) as port:
        return await measure(fleet, port)


@pytest.mark.parametrize(("count", "bins", "packed"), [(5, DEFAULT_BINS, False), (MANY, DEFAULT_BINS, False), (MANY, MANY_BINS, False), (MANY, MANY_BINS, True)])  # fmt: skip
async def test_no_poll_costs_more_than_its_aim(tmp_path: Path, count: int, bins: int, packed: bool) -> None:
    costs = await measured(tmp_path, count, bins, packed=packed)
    aims = {cost.what: cost.aim for cost in costs if cost.aim}
    assert aims == {"first poll": 8_000, "idle poll": 400, "phase change": 4_000}
    for cost in costs:
        print(cost)
        assert not cost.aim or cost.both <= cost.aim * MARGIN, cost
    assert [cost.requests for cost in costs] == [10, 1, 5, 3, 2]
