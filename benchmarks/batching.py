"""Requests a second of 32 clients that share runs, over those of 32 clients that do not, in one server, in turns.

    python -m benchmarks.batching [--only WORD] [--seconds S] [--rounds N]

Rule 1: only ratios are held to: one server has each model twice, with the settings as they are (`auto`) and with
`max_batch_size = 1` (`alone`), and both get the same requests over HTTP. Rule 2: every answer is checked. The load is wrk's
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
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import wrk
from benchmarks.load import Ask, ask_once, closed, post
from benchmarks.models import dense
from benchmarks.rows.bench import checked
from edge.domain.tensors import Array
from tests.functional.server import Running, configuration, serving
from tests.on_tensorflow import environment
from tests.on_tflite_runtime import find_uv

CLIENTS = 32
WARM_S = 2.0
READY_WITHIN_S = 120.0
MAKE_WITHIN_S = 300.0


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


def main() -> int:
    options = _options()
    missed = 0
    print(f"{'32 clients, batches over none':32} {'measured':>9} {'held to':>9}")
    with tempfile.TemporaryDirectory() as scratch:
        for tensorflow in (True, False):
            cases = [case for case in CASES if options.only in case.figure and case.tensorflow is tensorflow]
            if not cases:
                continue
            with _server(Path(scratch), cases, tensorflow=tensorflow) as running:
                for case in cases:
                    missed += not _measure(case, running, options.seconds, options.rounds)
    return 1 if missed else 0


def _measure(case: Case, running: Running, seconds: float, rounds: int) -> bool:
    for how in ("auto", "alone"):
        _rate(case, how, running, WARM_S)
    rates: dict[str, list[float]] = {"auto": [], "alone": []}
    for _ in range(rounds):
        for how, each in rates.items():
            each.append(_rate(case, how, running, seconds))
    ratios = [auto / alone for auto, alone in zip(rates["auto"], rates["alone"], strict=True)]
    value = statistics.median(ratios)
    met = value >= case.bound
    said = ", ".join(f"{how} {statistics.median(each):.0f}/s" for how, each in rates.items())
    print(
        f"{case.figure:32} {value:8.2f}× ≥{case.bound:7.2f}× {'' if met else 'MISSED '}"
        f"{min(ratios):.2f} … {max(ratios):.2f}; {said}; {_rows(running, case)} rows a run",
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


def _rate(case: Case, how: str, running: Running, seconds: float) -> float:
    """Requests a second. By the binary tensor extension, both ways."""
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
    path = f"/v2/models/{case.model}-{how}/infer"
    request = post(path, text + raw, headers)
    right = ask_once(running.port, request)
    program = shutil.which("wrk")
    if program is None:
        return checked(closed(running.port, Ask(request, frozenset({right})), CLIENTS, seconds)).per_s
    with tempfile.TemporaryDirectory() as place:
        return wrk.closed(
            program,
            Path(place),
            running.url + path,
            text + raw,
            headers,
            right,
            clients=CLIENTS,
            seconds=seconds,
        )


def _picture(case: Case) -> Array:
    random = np.random.default_rng(7)
    if case.dtype == "FP32":
        return random.random(case.shape, np.float32)
    return random.integers(0, 256, case.shape).astype(np.uint8)


@contextmanager
def _server(scratch: Path, cases: list[Case], *, tensorflow: bool) -> Iterator[Running]:
    place, python = scratch / f"tensorflow-{tensorflow}", Path(sys.executable)
    place.mkdir()
    if tensorflow:
        uv = find_uv()
        if uv is None:
            raise SystemExit("uv is neither in UV nor on PATH, nor at .uv/bin/uv")
        python = environment(uv)
        command = [str(python), "-m", "benchmarks.saved_models", str(place)]
        subprocess.run(command, check=True, capture_output=True, timeout=MAKE_WITHIN_S)
    else:
        (place / "dense" / "1").mkdir(parents=True)
        (place / "dense" / "1" / "model.tflite").write_bytes(dense())
    config = place / "edge.toml"
    tables = {f"{case.model}-{how}": place / case.model for case in cases for how in ("auto", "alone")}
    configuration(config, tables)
    text = config.read_text()
    for case in cases:
        text = text.replace(f"[models.{case.model}-alone]\n", f"[models.{case.model}-alone]\nmax_batch_size = 1\n")
    config.write_text(text)
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
