"""Requests a second of 32 clients that share runs, over those of 32 clients that do not, in one server, in turns.

    python -m benchmarks.batching [--only WORD] [--seconds S] [--rounds N]

Rule 1: only ratios are held to: one server has a model with the settings as they are (`auto`) and with `max_batch_size = 1`
(`alone`), and both get the same requests over HTTP. Rule 2: beside it stands what no batch could go beyond on this machine: the
model with a cache (`kept`), which answers without any run. Rule 3: every answer is checked. The load is wrk's
where that is installed, and else a loop in Python, which takes about as much of a processor as the server does.
SavedModels need TensorFlow: the environment in `.tools/gpu` is made by tests/on_tensorflow.py, and takes minutes the first time.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
import psutil

from benchmarks import wrk
from benchmarks.load import Ask, ask_once, closed, post
from benchmarks.models import dense
from benchmarks.rows.bench import checked
from edge.domain.tensors import Array
from tests.functional.server import Running, serving
from tests.on_tensorflow import environment
from tests.on_tflite_runtime import find_uv

CLIENTS = 32
WARM_S = 2.0
READY_WITHIN_S = 120.0
MAKE_WITHIN_S = 300.0
SETTINGS = {"auto": "", "alone": "max_batch_size = 1", "kept": "max_batch_size = 1\ncache_bytes = 1000000"}


@dataclass(frozen=True)
class Case:
    """`bound`: the least that the ratio may be."""

    figure: str
    model: str
    shape: tuple[int, ...]
    dtype: str
    bound: float
    tensorflow: bool


CASES = [
    Case("SavedModel tiny", "tiny", (1, 8, 8, 1), "UINT8", 2.5, tensorflow=True),
    Case("SavedModel small", "small", (1, 96, 96, 3), "UINT8", 2.0, tensorflow=True),
    Case("TFLite dense", "dense", (1, 1024), "FP32", 1.0, tensorflow=False),
]


@dataclass(frozen=True)
class Seen:
    """Requests a second, and microseconds of processor time for each: the server's, and its workers'."""

    per_s: float
    server_us: float
    workers_us: float


def main() -> int:
    options = _options()
    missed = 0
    print(f"{'32 clients, batches over none':32} {'measured':>9} {'held to':>9}")
    with tempfile.TemporaryDirectory() as scratch:
        for case in CASES:
            if options.only in case.figure:
                with _server(Path(scratch), case) as running:
                    missed += not _measure(case, running, options.seconds, options.rounds)
    return 1 if missed else 0


def _measure(case: Case, running: Running, seconds: float, rounds: int) -> bool:
    for side in SETTINGS:
        _load(case, side, running, WARM_S)
    seen: dict[str, list[Seen]] = {side: [] for side in SETTINGS}
    for _ in range(rounds):
        for side, each in seen.items():
            each.append(_load(case, side, running, seconds))
    ratios, ceilings = (
        [side.per_s / alone.per_s for side, alone in zip(seen[name], seen["alone"], strict=True)]
        for name in ("auto", "kept")
    )
    value = statistics.median(ratios)
    met = value >= case.bound
    print(
        f"{case.figure:32} {value:8.2f}× ≥{case.bound:7.2f}× {'' if met else 'MISSED '}"
        f"{min(ratios):.2f} … {max(ratios):.2f}; {_rows(running, case)} rows a run; "
        f"without any run {statistics.median(ceilings):.2f}×"
    )
    for side, each in seen.items():
        rate, server, workers = (statistics.median(of) for of in zip(*map(astuple, each), strict=True))
        print(
            f"    {side:8} {rate:7.0f}/s; CPU for a request: server {server:.0f} µs, workers {workers:.0f} µs",
            flush=True,
        )
    return met


def _rows(running: Running, case: Case) -> str:
    """Of the mean run, from the metrics."""
    text = running.ask("/metrics")[1].decode()
    found = [
        re.search(rf'^edge_batch_size_{part}{{model="{case.model}-auto",version="1"}} (\S+)', text, re.MULTILINE)
        for part in ("sum", "count")
    ]
    if found[0] is None or found[1] is None:
        return "no shared"
    return f"{float(found[0][1]) / float(found[1][1]):.1f}"


def _load(case: Case, side: str, running: Running, seconds: float) -> Seen:
    """By the binary tensor extension, both ways."""
    picture = _picture(case)
    raw = picture.tobytes()
    tensor = {
        "name": "image",
        "shape": case.shape,
        "datatype": case.dtype,
        "parameters": {"binary_data_size": len(raw)},
    }
    text = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = {"Inference-Header-Content-Length": str(len(text)), "Content-Type": "application/octet-stream"}
    path = f"/v2/models/{case.model}-{side}/infer"
    right = ask_once(running.port, post(path, text + raw, headers))
    before = _cpu_s(running)
    per_s, count = _closed(running, path, text + raw, headers, right, seconds)
    server, workers = (after - earlier for after, earlier in zip(_cpu_s(running), before, strict=True))
    return Seen(per_s, server / count * 1e6, workers / count * 1e6)


def _closed(
    running: Running, path: str, body: bytes, headers: Mapping[str, str], right: bytes, seconds: float
) -> tuple[float, float]:
    """Requests a second, and how many there were."""
    program = shutil.which("wrk")
    if program is None:
        seen = checked(closed(running.port, Ask(post(path, body, headers), frozenset({right})), CLIENTS, seconds))
        return seen.per_s, len(seen.took)
    with tempfile.TemporaryDirectory() as place:
        url = running.url + path
        per_s, count = wrk.closed(program, Path(place), url, body, headers, right, clients=CLIENTS, seconds=seconds)
        return per_s, count


def _cpu_s(running: Running) -> tuple[float, float]:
    """Of the server, and of its workers."""
    server = psutil.Process(running.process.pid)
    used = [one.cpu_times() for one in (server, *server.children(recursive=True))]
    first, *rest = (each.user + each.system for each in used)
    return first, sum(rest)


def _picture(case: Case) -> Array:
    random = np.random.default_rng(7)
    if case.dtype == "FP32":
        return random.random(case.shape, np.float32)
    return random.integers(0, 256, case.shape).astype(np.uint8)


@contextmanager
def _server(scratch: Path, case: Case) -> Iterator[Running]:
    place, python = scratch / case.model, Path(sys.executable)
    (place / "models").mkdir(parents=True)
    if case.tensorflow:
        uv = find_uv()
        if uv is None:
            raise SystemExit("uv is neither in UV nor on PATH, nor at .uv/bin/uv")
        python = environment(uv)
        command = [str(python), "-m", "benchmarks.saved_models", str(place / "models"), case.model]
        subprocess.run(command, check=True, capture_output=True, timeout=MAKE_WITHIN_S)
    else:
        (place / "models" / "dense" / "1").mkdir(parents=True)
        (place / "models" / "dense" / "1" / "model.tflite").write_bytes(dense())
    config = place / "edge.toml"
    tables = [
        f'[models.{case.model}-{side}]\npath = "{place / "models" / case.model}"\n{settings}\n'
        for side, settings in SETTINGS.items()
    ]
    config.write_text("\n".join(tables))
    with serving(place, "--config", config, python=python, ready_within_s=READY_WITHIN_S) as running:
        yield running


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="WORD", help="only the figures whose name holds it")
    parser.add_argument("--seconds", type=float, default=3.0, help="of load on each side in each round")
    parser.add_argument("--rounds", type=int, default=5, help="each measures both sides")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
