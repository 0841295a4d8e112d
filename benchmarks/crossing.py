"""What it costs that a SavedModel's tensors cross to a worker: its run over the same run in a bare process.

    .tools/gpu/bin/python -m benchmarks.crossing [--rounds N]

Needs TensorFlow (`python tests/on_tensorflow.py` makes that environment). Both sides are measured in turns, in rounds; a
line has the best medians in microseconds, what was added, and the ratio. `nothing` is a program that gives back what it was
given, without TensorFlow: the crossing alone. Models: `x + 1`, a layer of 1000 × 1000, and convolutions that run some ms.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edge.backends.worker.model import Keeper, WorkerModel
from edge.backends.worker.process import WorkerLimits, WorkerProcess
from edge.domain.tensors import Array

ROUNDS = 15
RUNS = 40
"""In each round, of each side."""
JOB: Mapping[str, Any] = {
    "gpu": None,
    "num_threads": 1,
    "inter_op_threads": 0,
    "gpu_memory_bytes": 0,
    "xla": False,
    "mixed_precision": "",
    "tags": ["serve"],
    "max_batch": 0,
}


def plus_one(tf: Any, x: Any) -> Any:
    return x + 1.0


def layer(tf: Any, x: Any) -> Any:
    return tf.matmul(tf.reshape(x, [-1, 1_000]), tf.ones([1_000, 1_000]))


def convolutions(tf: Any, x: Any) -> Any:
    x = tf.nn.relu(tf.nn.conv2d(x, tf.ones([3, 3, 3, 32]), 2, "SAME"))
    x = tf.nn.relu(tf.nn.conv2d(x, tf.ones([3, 3, 32, 64]), 2, "SAME"))
    return tf.reduce_mean(x, [1, 2])


CASES: list[tuple[str, Callable[[Any, Any], Any], tuple[int, ...]]] = [
    ("x + 1, 40 B", plus_one, (10,)),
    ("x + 1, 600 KB", plus_one, (1, 224, 224, 3)),
    ("x + 1, 19 MB", plus_one, (32, 224, 224, 3)),
    ("layer, 4 KB", layer, (1, 1_000)),
    ("convolutions, 600 KB", convolutions, (1, 224, 224, 3)),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    rounds = parser.parse_args().rounds
    print(f"{'':24}{'bare':>10}{'worker':>10}{'added':>10}{'ratio':>8}")
    for name, size in (("nothing, 4 B", 1), ("nothing, 600 KB", 150_528), ("nothing, 19 MB", 4_816_896)):
        with_nothing(name, size, rounds)
    for name, body, shape in CASES:
        with tempfile.TemporaryDirectory() as place:
            with_model(name, save(Path(place) / "1", body, shape), np.ones(shape, np.float32), rounds)


def with_nothing(name: str, size: int, rounds: int) -> None:
    model = started("tests.fakes.workers:prepare", {})
    given = {"x": np.ones(size, np.float32)}
    tell(name, lambda: given["x"] * np.float32(2), lambda: model.run("serving_default", given), rounds)
    model.close()


def with_model(name: str, path: Path, x: Array, rounds: int) -> None:
    from edge.backends.savedmodel.graph import load

    job = {**JOB, "path": str(path)}
    bare, model = load(job), started("edge.backends.savedmodel.graph:prepare", job)
    given = {"x": x}
    tell(name, lambda: bare.run("serving_default", given), lambda: model.run("serving_default", given), rounds)
    model.close()


def started(program: str, job: Mapping[str, Any]) -> WorkerModel:
    limits = WorkerLimits(load_s=120.0)
    keeper = Keeper("crossing@1", lambda: WorkerProcess(program, job, limits=limits))
    return WorkerModel(keeper, keeper.open(), limits)


def save(path: Path, body: Callable[[Any, Any], Any], shape: tuple[int, ...]) -> Path:
    import tensorflow as tf

    spec = tf.TensorSpec([None, *shape[1:]], tf.float32)
    run = tf.function(lambda x: {"y": body(tf, x)}, input_signature=[spec])
    tf.saved_model.save(tf.Module(), str(path), signatures={"serving_default": run})
    return path


def tell(name: str, bare: Callable[[], object], worker: Callable[[], object], rounds: int) -> None:
    """Each round's median of both, in turns; the line has the best of those: what it takes when nobody else wants the cores."""
    found: dict[Callable[[], object], list[float]] = {bare: [], worker: []}
    for call in (bare, worker):
        timed(call)
    for _ in range(rounds):
        for call, times in found.items():
            times.append(timed(call))
    a, b = (min(times) * 1e6 for times in found.values())
    print(f"{name:24}{a:10.0f}{b:10.0f}{b - a:10.0f}{b / a:8.2f}", flush=True)


def timed(call: Callable[[], object]) -> float:
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


if __name__ == "__main__":
    main()
