"""What every row needs: the models, a server on them, requests with their right answers, and CPU seconds."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import psutil

from benchmarks.load import Ask, Seen, ask_once, closed, post
from benchmarks.models import Measured
from edge.domain.tensors import Array
from tests.functional.server import Running, serving

CONNECTIONS = 16


@dataclass
class Bench:
    """`seconds` of load in each of `rounds`. What a row has to say besides its ratio goes to `notes`."""

    scratch: Path
    models: dict[str, Measured]
    seconds: float
    rounds: int
    notes: list[str] = field(default_factory=list)

    def said(self) -> str:
        notes, self.notes = "; ".join(self.notes), []
        return notes

    @contextmanager
    def server(self, *names: str) -> Iterator[Running]:
        arguments = [argument for name in names for argument in ("--model", f"{name}={self.models[name].path}")]
        with serving(self.directory(), *arguments) as running:
            yield running

    def directory(self) -> Path:
        return Path(mkdtemp(dir=self.scratch))


def bare(*arguments: str | Path | float) -> dict[str, float]:
    """What `benchmarks.bare` prints."""
    command = [sys.executable, "-m", "benchmarks.bare", *map(str, arguments)]
    done = subprocess.run(command, check=True, capture_output=True)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def json_ask(model: Measured, port: int) -> Ask:
    """TensorFlow Serving's JSON, as its clients send it: with blanks."""
    body = json.dumps({"instances": model.picture().tolist()}).encode()
    request = post(f"/v1/models/{model.name}:predict", body, {"Content-Type": "application/json"})
    answer = ask_once(port, request)
    _compare(np.array(json.loads(answer)["predictions"]), model)
    return Ask(request, frozenset({answer}))


def binary_ask(model: Measured, port: int) -> Ask:
    """The binary tensor extension, both ways."""
    raw = model.picture().tobytes()
    head = {
        "inputs": [
            {
                "name": "image",
                "shape": model.shape,
                "datatype": model.dtype.value.upper(),
                "parameters": {"binary_data_size": len(raw)},
            }
        ],
        "parameters": {"binary_data_output": True},
    }
    text = json.dumps(head).encode()
    headers = {"Inference-Header-Content-Length": str(len(text)), "Content-Type": "application/octet-stream"}
    request = post(f"/v2/models/{model.name}/infer", text + raw, headers)
    answer = ask_once(port, request)
    right = answer_of(model)
    _compare(np.frombuffer(answer[-right.nbytes :], right.dtype).reshape(right.shape), model)
    return Ask(request, frozenset({answer}))


def _compare(got: Array, model: Measured) -> None:
    if not np.array_equal(got, answer_of(model)):
        raise RuntimeError(f"{model.name}: the server's answer is not the interpreter's")


def answer_of(model: Measured) -> Array:
    """The interpreter's, for the model's picture."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(model.path), num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], model.picture())
    interpreter.invoke()
    return np.array(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))


def cpu_us(pid: int, port: int, ask: Ask, seconds: float) -> float:
    """Server CPU for a request, in microseconds, at CONNECTIONS connections."""
    closed(port, ask, CONNECTIONS, 0.3)
    before = cpu_s(pid)
    seen = checked(closed(port, ask, CONNECTIONS, seconds))
    return (cpu_s(pid) - before) / len(seen.took) * 1e6


def cpu_s(pid: int) -> float:
    """CPU seconds that a process and its children have used, user and system."""
    process = psutil.Process(pid)
    every = [process, *process.children(recursive=True)]
    times = [one.cpu_times() for one in every]
    return float(sum(one.user + one.system for one in times))


def checked(seen: Seen) -> Seen:
    if seen.failed:
        raise RuntimeError(f"{seen.failed} of {len(seen.took)} answers were wrong or failed")
    return seen
