"""Sizes that runs are padded to: what may be said of them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

MAX_BATCH_SIZE = 65_536
MAX_SIZES = 64


def check_batch_sizes(sizes: Sequence[int], max_batch_size: int = 0) -> None:
    """Raises ValueError unless they ascend, each from 1 to MAX_BATCH_SIZE, up to `max_batch_size` where that is more than 0."""
    ascend = all(before < after for before, after in pairwise(sizes))
    if len(sizes) > MAX_SIZES or not ascend or not all(1 <= size <= MAX_BATCH_SIZE for size in sizes):
        raise ValueError(f"want at most {MAX_SIZES} integers from 1 to {MAX_BATCH_SIZE} that ascend, got {list(sizes)}")
    if max_batch_size and sizes and sizes[-1] != max_batch_size:
        raise ValueError(f"want the last one to be max_batch_size ({max_batch_size}), got {list(sizes)}")
