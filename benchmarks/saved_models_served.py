"""SavedModels beside what somebody would write by hand, and what they cost those who share the server with them.

    .tools/gpu/bin/python -m benchmarks.saved_models_served [--only WORD] [--seconds S] [--rounds N]

Needs TensorFlow's environment (`python tests/on_tensorflow.py` makes it). Rule 1: only ratios are results; both sides are
measured in turns, and a line has the median over the rounds, and the smallest and largest. Rule 2: every answer is
checked. What batches gain is in `benchmarks.batching`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.load import Ask, Seen, ask_once, closed, one_by_one, open_loop, post
from benchmarks.models import write
from benchmarks.rows.bench import checked
from tests.functional.server import Running, serving

CLIENTS = 32
READY_WITHIN_S = 120.0
FEW, MANY = 2, 20
PAUSE_S = 2.0
SHAPES = {"tiny": (1, 8, 8, 1), "small": (1, 96, 96, 3), "picky": (1, 8, 8, 1)}


@dataclass
class Bench:
    """`scratch` has the models, as `MODEL/1`. What a row has to say besides its ratio goes to `notes`."""

    scratch: Path
    seconds: float
    rounds: int
    notes: list[str] = field(default_factory=list)

    @contextmanager
    def server(self, *models: str, more: str = "") -> Iterator[Running]:
        place = Path(tempfile.mkdtemp(dir=self.scratch))
        tables = [f'[models.{name}]\npath = "{self.scratch / name}"\n' for name in models]
        config = place / "edge.toml"
        config.write_text("\n".join(["[http]\nmodel_control = true", more, *tables]))
        with serving(place, "--config", config, ready_within_s=READY_WITHIN_S) as running:
            yield running


@dataclass(frozen=True)
class Row:
    """`bound`: the largest that the ratio may be, or the least where `least`."""

    figure: str
    rounds: Callable[[Bench], Iterator[float]]
    bound: float
    least: bool = False


def rate_over_peer(model: str) -> Callable[[Bench], Iterator[float]]:
    """Requests a second of CLIENTS, TensorFlow Serving's JSON to both, over FastAPI's (`benchmarks.peer`)."""

    def rounds(bench: Bench) -> Iterator[float]:
        body = json.dumps({"instances": picture(model).tolist()}).encode()
        with bench.server(model) as ours, peer(bench.scratch / model / "1") as port:
            asks = {
                at: right(at, post(path, body, {"Content-Type": "application/json"}))
                for at, path in ((ours.port, f"/v1/models/{model}:predict"), (port, "/predict"))
            }
            for _ in range(bench.rounds):
                mine, theirs = (checked(closed(at, ask, CLIENTS, bench.seconds)).per_s for at, ask in asks.items())
                yield mine / theirs

    return rounds


def p50_over_bare(bench: Bench) -> Iterator[float]:
    """One client, binary both ways, over the signature called in a process that does nothing else."""
    with bench.server("small") as ours:
        ask = right(ours.port, binary("small", picture("small")))
        for _ in range(bench.rounds):
            command = [sys.executable, "-m", "benchmarks.bare_saved_model", str(bench.scratch / "small" / "1")]
            done = subprocess.run([*command, str(bench.seconds)], check=True, capture_output=True)
            alone = float(json.loads(done.stdout)["p50_us"])
            yield checked(one_by_one(ours.port, ask, bench.seconds)).quantile_us(0.5) / alone


def p99_with_bad(bench: Bench) -> Iterator[float]:
    """Of good requests, one request in ten failing in its run, over none failing; at half of what is managed where one client in
    ten fails always, which is less than where none does: a run that fails is made again for each who was in it."""
    good, bad = picture("picky"), np.full(SHAPES["picky"], 255, np.uint8)
    with bench.server("picky") as ours:
        sound, failing = right(ours.port, binary("picky", good)), Ask(binary("picky", bad))
        whole = checked(closed(ours.port, sound, CLIENTS, bench.seconds)).per_s
        capacity = _managed(ours.port, sound, failing, bench.seconds)
        bench.notes.append(f"{capacity:.0f}/s, and {whole:.0f}/s where none fails")
        for _ in range(bench.rounds):
            found = [_beside(ours.port, sound, other, capacity / 2, bench.seconds) for other in (failing, sound)]
            yield found[0] / found[1]


def p99_while_loading(bench: Bench) -> Iterator[float]:
    """Of a TFLite model at half of its capacity, while a SavedModel loads in the same server, over before."""
    small = write(bench.scratch)["small"]
    lite = bench.scratch / "lite"
    (lite / "1").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(small.path, lite / "1" / "model.tflite")
    with bench.server("lite", "small") as ours:
        ask = right(ours.port, binary("lite", small.picture()))
        capacity = checked(closed(ours.port, ask, CLIENTS // 2, bench.seconds)).per_s
        for _ in range(bench.rounds):
            unload(ours, "small")
            windows: list[tuple[float, float]] = []
            control = threading.Thread(target=_load_in_between, args=(ours, windows, bench.seconds))
            control.start()
            seen = checked(open_loop(ours.port, ask, 2 * CLIENTS, capacity / 2, control.is_alive))
            control.join()
            ((start, end),) = windows
            bench.notes.append(f"{end - start:.1f} s to load")
            yield seen.quantile_us(0.99, start, end) / seen.quantile_us(0.99, 0.0, start)


def memory_after_loads(bench: Bench) -> Iterator[float]:
    """Resident memory of all the server's processes after MANY loads and unloads over that after FEW."""
    with bench.server("small") as ours:
        ask = binary("small", picture("small"))
        after = {}
        for times in range(1, MANY + 1):
            ask_once(ours.port, ask)
            unload(ours, "small")
            after[times] = resident(ours)
            control(ours, "small", "load")
        bench.notes.append(f"{after[FEW] / 2**20:.0f} MiB after {FEW}")
        yield after[MANY] / after[FEW]


ROWS = [
    Row("tiny, 32 clients, JSON: rate over FastAPI's with TensorFlow", rate_over_peer("tiny"), 2.5, least=True),
    Row("small, 32 clients, JSON: rate over FastAPI's with TensorFlow", rate_over_peer("small"), 2.0, least=True),
    Row("small, binary v2, 1 client: p50 over the signature called by itself", p50_over_bare, 1.5),
    Row("picky: p99 of good requests, one in ten failing, over none", p99_with_bad, 2.0),
    Row("TFLite small at half its capacity: p99 while a SavedModel loads", p99_while_loading, 2.0),
    Row(f"memory after {MANY} loads and unloads over after {FEW}", memory_after_loads, 1.05),
]


def main() -> int:
    options = _options()
    missed = 0
    print(f"{'figure':70} {'measured':>9} {'held to':>9}")
    with tempfile.TemporaryDirectory() as scratch:
        for model in SHAPES:
            command = [sys.executable, "-m", "benchmarks.saved_models", scratch, model]
            subprocess.run(command, check=True, capture_output=True)
        bench = Bench(Path(scratch), options.seconds, options.rounds)
        for row in ROWS:
            if options.only in row.figure:
                missed += not _measure(row, bench)
    return 1 if missed else 0


def _measure(row: Row, bench: Bench) -> bool:
    found = list(row.rounds(bench))
    value = statistics.median(found)
    met = value >= row.bound if row.least else value <= row.bound
    bound = f"{'≥' if row.least else '≤'}{row.bound:7.2f}×"
    notes, bench.notes = "; ".join(bench.notes), []
    spread = f"{min(found):.2f} … {max(found):.2f}"
    print(f"{row.figure:70} {value:8.2f}× {bound} {'' if met else 'MISSED '} {spread} {notes}", flush=True)
    return met


def picture(model: str) -> Any:
    """The same in every run, with no value of 255."""
    return np.random.default_rng(7).integers(0, 255, SHAPES[model]).astype(np.uint8)


def binary(model: str, image: Any) -> bytes:
    """A request by the binary tensor extension, both ways."""
    raw = image.tobytes()
    tensor = {
        "name": "image",
        "shape": image.shape,
        "datatype": "UINT8",
        "parameters": {"binary_data_size": len(raw)},
    }
    text = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = {"Inference-Header-Content-Length": str(len(text)), "Content-Type": "application/octet-stream"}
    return post(f"/v2/models/{model}/infer", text + raw, headers)


def right(port: int, request: bytes) -> Ask:
    """With the answer that it gets now."""
    return Ask(request, frozenset({ask_once(port, request)}))


def control(server: Running, model: str, verb: str) -> None:
    """Raises RuntimeError where it fails. To load is to import TensorFlow twice, in the trial and in the worker."""
    request = post(f"/v2/repository/models/{model}/{verb}", b"{}", {"Content-Type": "application/json"})
    ask_once(server.port, request, READY_WITHIN_S)


def unload(server: Running, model: str) -> None:
    """Returns when no process of it is left."""
    control(server, model, "unload")
    process = psutil.Process(server.process.pid)
    psutil.wait_procs(process.children(recursive=True), timeout=READY_WITHIN_S)


def resident(server: Running) -> int:
    process = psutil.Process(server.process.pid)
    return sum(each.memory_info().rss for each in (process, *process.children(recursive=True)))


@contextmanager
def peer(saved_model: Path) -> Iterator[int]:
    """The port of a FastAPI server on it."""
    command = [sys.executable, "-m", "benchmarks.peer", str(saved_model)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.terminate()


def _managed(port: int, sound: Ask, failing: Ask, seconds: float) -> float:
    """Requests a second, of nine clients in ten whose requests are sound and of one whose are not."""
    few = CLIENTS // 10
    with ThreadPoolExecutor(1) as beside:
        others = beside.submit(closed, port, failing, few, seconds)
        mine = checked(closed(port, sound, CLIENTS - few, seconds))
        return mine.per_s + others.result().per_s


def _beside(port: int, sound: Ask, other: Ask, per_s: float, seconds: float) -> float:
    """The p99 in microseconds of `sound` requests, nine in ten of so many a second, beside `other` ones."""
    end = time.perf_counter() + seconds
    seen: list[Seen] = []

    def others() -> None:
        seen.append(open_loop(port, other, CLIENTS, per_s / 10, lambda: time.perf_counter() < end))

    beside = threading.Thread(target=others)
    beside.start()
    mine = checked(open_loop(port, sound, CLIENTS, per_s * 0.9, lambda: time.perf_counter() < end))
    beside.join()
    if seen[0].failed != (len(seen[0].took) if not other.right else 0):
        raise RuntimeError(f"{seen[0].failed} of {len(seen[0].took)} answers beside were no 200")
    return mine.quantile_us(0.99)


def _load_in_between(server: Running, windows: list[tuple[float, float]], seconds: float) -> None:
    time.sleep(max(seconds, PAUSE_S))
    start = time.perf_counter()
    control(server, "small", "load")
    windows.append((start, time.perf_counter()))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="WORD", help="only the figures whose name holds it")
    parser.add_argument("--seconds", type=float, default=4.0, help="of load on each side in each round")
    parser.add_argument("--rounds", type=int, default=5, help="each measures both sides")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
