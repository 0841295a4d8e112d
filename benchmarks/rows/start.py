"""From the command to the first right answer, over a script that imports the runtime, loads the model and runs it."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator

from benchmarks.load import Ask, ask_once
from benchmarks.rows.bench import Bench, json_ask

WITHIN_S = 30.0
STEP_S = 0.001
STARTS_A_ROUND = 3


def first_answer(bench: Bench) -> Iterator[float]:
    tiny = bench.models["tiny"]
    with bench.server("tiny") as running:
        ask = json_ask(tiny, running.port)
    for _ in range(bench.rounds):
        script = min(_script(bench) for _ in range(STARTS_A_ROUND))
        yield min(_server(bench, ask) for _ in range(STARTS_A_ROUND)) / script


def _script(bench: Bench) -> float:
    start = time.perf_counter()
    command = [sys.executable, "-m", "benchmarks.bare", "hold", str(bench.models["tiny"].path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        process.stdout.readline()
        took = time.perf_counter() - start
        process.kill()
    return took


def _server(bench: Bench, ask: Ask) -> float:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    directory = bench.directory()
    start = time.perf_counter()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "edge", "serve", str(bench.models["tiny"].path), "--port", str(port)),
            *("--state-dir", str(directory), "--set", f"admin.uds={directory / 'admin.sock'}"),
        ],
        stderr=subprocess.DEVNULL,
    )
    try:
        while time.perf_counter() - start < WITHIN_S:
            try:
                answer = ask_once(port, ask.request)
            except (OSError, RuntimeError):
                time.sleep(STEP_S)
                continue
            assert answer in ask.right
            return time.perf_counter() - start
        raise TimeoutError(f"no answer within {WITHIN_S} s")
    finally:
        process.terminate()
        process.wait()
