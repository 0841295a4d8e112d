"""Swaps under an open loop at half of the capacity: what clients see of them.

Rule: "during" is from the rename into place to the old version unloaded; "before" is as long, just before.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import psutil

from benchmarks.load import Ask, Seen, closed, open_loop
from benchmarks.rows.bench import CONNECTIONS, Bench, binary_ask, checked
from benchmarks.rows.publish import Published

SETTLE_S = 1.0
SAMPLES = 1000
MOST_SWAPS = 30
OPEN_CONNECTIONS = 64


@dataclass
class _Swaps:
    seen: Seen
    windows: list[tuple[float, float]]
    niceness: set[int]
    share: float


def failed(bench: Bench) -> Iterator[float]:
    swaps = _measure(bench)
    bench.notes.append(f"{len(swaps.seen.took)} requests, {len(swaps.windows)} swaps")
    yield swaps.seen.failed


def p99(bench: Bench) -> Iterator[float]:
    swaps = _measure(bench)
    checked(swaps.seen)
    due, took = np.array(swaps.seen.due), np.array(swaps.seen.took)
    during = np.concatenate([took[(due >= start) & (due < end)] for start, end in swaps.windows])
    before = np.concatenate([took[(due >= 2 * start - end) & (due < start)] for start, end in swaps.windows])
    bench.notes.append(
        f"{len(during)} samples in {len(swaps.windows)} swaps, {np.quantile(before, 0.99) * 1e3:.1f} ms before, "
        f"trial at nice {sorted(swaps.niceness)}"
    )
    yield float(np.quantile(during, 0.99) / np.quantile(before, 0.99))


def _measure(bench: Bench) -> _Swaps:
    small = bench.models["small"]
    with Published(bench.directory(), small) as published:
        port = published.running.port
        first = binary_ask(small, port)
        (answer,) = first.right
        named = b'"model_version":"%d"'
        assert named % 1 in answer
        ask = Ask(first.request, frozenset(answer.replace(named % 1, named % n) for n in range(1, MOST_SWAPS + 2)))
        capacity = checked(closed(port, ask, CONNECTIONS, bench.seconds)).per_s
        swaps = _Swaps(Seen(), [], set(), 0.5)
        control = threading.Thread(target=_swap_often, args=(published, swaps, capacity / 2))
        control.start()
        swaps.seen = open_loop(port, ask, OPEN_CONNECTIONS, capacity / 2, control.is_alive)
        control.join()
    return swaps


def _swap_often(published: Published, swaps: _Swaps, per_s: float) -> None:
    """Until the windows hold SAMPLES requests each; and five swaps at least."""
    watch = threading.Event()
    watcher = threading.Thread(target=_watch, args=(published.running.process.pid, swaps.niceness, watch))
    watcher.start()
    length = 0.0
    while len(swaps.windows) < 5 or (length * per_s < SAMPLES and len(swaps.windows) < MOST_SWAPS):
        _idle_look(published, max(SETTLE_S, 2 * length / max(1, len(swaps.windows))))
        window = published.swap()
        swaps.windows.append(window)
        length += window[1] - window[0]
    watch.set()
    watcher.join()


def _idle_look(published: Published, seconds: float) -> None:
    """Ask for the states as often as during a swap, so that the asking is on both sides of the ratio."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        published.states()
        time.sleep(0.05)


def _watch(pid: int, niceness: set[int], over: threading.Event) -> None:
    process = psutil.Process(pid)
    while not over.wait(0.1):
        for child in process.children(recursive=True):
            try:
                niceness.add(child.nice())
            except psutil.NoSuchProcess:
                continue
