"""Frames on one chunk, told by the page faults of calls at every depth."""

from __future__ import annotations

import resource
from collections.abc import Callable

from edge.cli.stack import on_one_chunk

CALLS = 300
DEPTHS = 150


def leaf() -> None:
    pass


def calls_at(depth: int) -> int:
    """Page faults of CALLS calls, so deep."""
    if depth:
        return calls_at(depth - 1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(CALLS):
        (lambda a, b, c, d: leaf())(1, 2, 3, 4)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def worst(calls: Callable[[int], int]) -> int:
    return max(calls(depth) for depth in range(DEPTHS))


def test_no_depth_of_calls_maps_memory_again_and_again() -> None:
    assert on_one_chunk(worst)(calls_at) < CALLS // 10


def test_a_function_is_called_as_before() -> None:
    @on_one_chunk
    def add(a: int, *more: int, scale: int = 1) -> int:
        """Sums."""
        return scale * (a + sum(more))

    assert (add(1, 2, 3, scale=2), add.__name__, add.__doc__) == (12, "add", "Sums.")
