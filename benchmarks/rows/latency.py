"""A model that takes milliseconds: what the server adds to one run, and how well it fills two cores."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.load import closed, one_by_one
from benchmarks.rows.bench import CONNECTIONS, Bench, bare, binary_ask, checked


def image_p50(bench: Bench) -> Iterator[float]:
    image = bench.models["image"]
    with bench.server("image") as running:
        ask = binary_ask(image, running.port)
        for _ in range(bench.rounds):
            alone = bare("run", image.path, bench.seconds / 2)["p50_us"]
            yield checked(one_by_one(running.port, ask, bench.seconds)).quantile_us(0.5) / alone


def image_rate(bench: Bench) -> Iterator[float]:
    image = bench.models["image"]
    with bench.server("image") as running:
        ask = binary_ask(image, running.port)
        for _ in range(bench.rounds):
            alone = bare("threads", image.path, bench.seconds)["per_s"]
            yield checked(closed(running.port, ask, CONNECTIONS, bench.seconds)).per_s / alone
