"""Server CPU per request over what the same machine needs for the run, or for HTTP, alone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from benchmarks.load import Ask
from benchmarks.models import Measured
from benchmarks.rows.bench import Bench, bare, binary_ask, cpu_us, json_ask


def tiny_json(bench: Bench) -> Iterator[float]:
    yield from _over_hello(bench, "tiny")


def digits_json(bench: Bench) -> Iterator[float]:
    yield from _over_hello(bench, "digits")


def _over_hello(bench: Bench, name: str) -> Iterator[float]:
    with bench.server(name) as running, _hello() as (pid, port):
        ask = json_ask(bench.models[name], running.port)
        for _ in range(bench.rounds):
            hello = cpu_us(pid, port, Ask(ask.request), bench.seconds)
            yield cpu_us(running.process.pid, running.port, ask, bench.seconds) / hello


def small_json(bench: Bench) -> Iterator[float]:
    yield from _over_the_bare_run(bench, json_ask)


def small_binary(bench: Bench) -> Iterator[float]:
    yield from _over_the_bare_run(bench, binary_ask)


def _over_the_bare_run(bench: Bench, ask_of: Callable[[Measured, int], Ask]) -> Iterator[float]:
    small = bench.models["small"]
    with bench.server("small") as running:
        ask = ask_of(small, running.port)
        for _ in range(bench.rounds):
            alone = bare("run", small.path, bench.seconds / 2)["cpu_us"]
            yield cpu_us(running.process.pid, running.port, ask, bench.seconds) / alone


@contextmanager
def _hello() -> Iterator[tuple[int, int]]:
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.hello"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        with process.stdout as said:
            yield process.pid, int(said.readline())
    finally:
        process.kill()
        process.wait()
