"""Every figure that this server is held to, measured beside what it is compared with, in one run.

    python -m benchmarks.held_to [--only WORD] [--seconds S] [--rounds N] [--asleep]

Rule 1: only ratios are printed as results; both sides of one are measured in turns, so that a machine that is busy, or
throttles, is so for both. The ratio is the median over the rounds; the smallest and the largest stand behind it.
Rule 2: every answer is checked, under load too; one that is wrong ends the run.
Rule 3: cores are kept awake, so that what it costs to wake one is on neither side (docs/adr/0009-awake.md).
CPU is that of all the processes of the server, user and system. `models.py` makes the models. A figure that has no
bound is there to compare.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from benchmarks import models
from benchmarks.awake import awake
from benchmarks.rows import latency, memory, speed, start, swaps
from benchmarks.rows.bench import Bench


@dataclass(frozen=True)
class Row:
    """`rounds` yields one ratio a round. `bound`, `aim`: the largest it may be, or the least where `least`."""

    figure: str
    rounds: Callable[[Bench], Iterator[float]]
    bound: float
    aim: float
    least: bool = False
    what: str = "×"


ROWS = [
    Row("tiny, TensorFlow Serving JSON: CPU over an aiohttp hello-world's", speed.tiny_json, 2.5, 1.5),
    Row("digits of the demo, TensorFlow Serving JSON: CPU over the same", speed.digits_json, math.inf, math.inf),
    Row("small, TensorFlow Serving JSON: CPU over the bare run's", speed.small_json, 3.2, 2.2),
    Row("small, binary v2: CPU over the bare run's", speed.small_binary, 1.5, 1.15),
    Row("image, binary v2, 1 connection: p50 over the bare run's", latency.image_p50, 1.12, 1.04),
    Row("image, binary v2, 16 connections: rate over two bare threads'", latency.image_rate, 0.80, 0.95, least=True),
    Row("first answer after start: time over a script's that imports and loads", start.first_answer, 3.2, 2.6),
    Row("memory with three models over a script's that holds them", memory.three_models, 1.6, 1.25),
    Row("swap under an open loop: failed requests", swaps.failed, 0, 0, what=""),
    Row("swap under an open loop: p99 during over before", swaps.p99, 2.0, 1.1),
    Row("memory after 100 swaps over after 5", memory.hundred_swaps, 1.05, 1.0),
]


def main() -> int:
    options = _options()
    # Where byte code may not be kept, every start compiles every module again, which no user's machine does.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    missed = 0
    print(f"{'figure':70} {'measured':>9} {'held to':>9} {'aim':>8}")
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(Path(scratch), models.write(Path(scratch)), options.seconds, options.rounds)
        with nullcontext() if options.asleep else awake():
            for row in ROWS:
                if options.only in row.figure:
                    missed += not _measure(row, bench)
    return 1 if missed else 0


def _measure(row: Row, bench: Bench) -> bool:
    rounds = list(row.rounds(bench))
    value = statistics.median(rounds)
    sign = "≥" if row.least else "≤"
    met = value >= row.bound if row.least else value <= row.bound
    bounds = f"{sign}{row.bound:7.2f}{row.what or ' '} {row.aim:7.2f}{row.what}" if row.bound < math.inf else " " * 18
    figures = f"{value:8.2f}{row.what or ' '} {bounds}"
    spread = f"{min(rounds):.2f} … {max(rounds):.2f}" if len(rounds) > 1 else ""
    print(f"{row.figure:70} {figures} {'' if met else 'MISSED '} {spread} {bench.said()}", flush=True)
    return met


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="WORD", help="only the figures whose name holds it")
    parser.add_argument("--seconds", type=float, default=3.0, help="of load in each round")
    parser.add_argument("--rounds", type=int, default=5, help="each measures both sides")
    parser.add_argument("--asleep", action="store_true", help="let cores sleep when nothing wants them")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
