"""Resident memory: of three models held, and of what a hundred swaps leave behind."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import psutil

from benchmarks.load import ask_once
from benchmarks.rows.bench import Bench, binary_ask
from benchmarks.rows.publish import Published

FEW, MANY = 5, 100


def three_models(bench: Bench) -> Iterator[float]:
    names = ("tiny", "small", "image")
    for _ in range(bench.rounds):
        alone = _script(bench, names)
        with bench.server(*names) as running:
            for name in names:
                for _ in range(10):
                    ask_once(running.port, binary_ask(bench.models[name], running.port).request)
            yield psutil.Process(running.process.pid).memory_info().rss / alone


def _script(bench: Bench, names: tuple[str, ...]) -> int:
    command = [sys.executable, "-m", "benchmarks.bare", "hold", *(str(bench.models[name].path) for name in names)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        process.stdout.readline()
        size: int = psutil.Process(process.pid).memory_info().rss
        process.kill()
    return size


def hundred_swaps(bench: Bench) -> Iterator[float]:
    """Swaps of the small model, asked between them."""
    small = bench.models["small"]
    with Published(bench.directory(), small) as published:
        process = psutil.Process(published.running.process.pid)
        after = {}
        for swap in range(1, MANY + 1):
            published.swap()
            binary_ask(small, published.running.port)
            after[swap] = process.memory_info().rss
    yield after[MANY] / after[FEW]
