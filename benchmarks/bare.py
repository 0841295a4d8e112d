"""What the server is measured against: the interpreter alone, in a process of its own.

    python -m benchmarks.bare run MODEL SECONDS         microseconds a run: CPU, and the median by the clock
    python -m benchmarks.bare threads MODEL SECONDS     runs a second of two threads, an interpreter each
    python -m benchmarks.bare hold MODEL...             loads and runs each once, says so, and waits for its input to end

Prints one line of JSON. Rule: nothing is imported here that a script of ten lines would not import.
"""

import json
import sys
import threading
import time

from ai_edge_litert.interpreter import Interpreter  # type: ignore[import-not-found,unused-ignore]  # it has no types


def load(path: str) -> "Interpreter":
    interpreter = Interpreter(model_path=path, num_threads=1)
    interpreter.allocate_tensors()
    interpreter.invoke()
    return interpreter


def run(path: str, seconds: float) -> "dict[str, float]":
    interpreter, took = load(path), []
    end, cpu = time.perf_counter() + seconds, time.process_time()
    now = time.perf_counter()
    while now < end:
        interpreter.invoke()
        before, now = now, time.perf_counter()
        took.append(now - before)
    cpu = time.process_time() - cpu
    return {"cpu_us": cpu / len(took) * 1e6, "p50_us": sorted(took)[len(took) // 2] * 1e6}


def threads(path: str, seconds: float) -> "dict[str, float]":
    counts, loaded = [0, 0], [load(path), load(path)]
    start = time.perf_counter()

    def work(index: int) -> None:
        while time.perf_counter() - start < seconds:
            loaded[index].invoke()
            counts[index] += 1

    both = [threading.Thread(target=work, args=(index,)) for index in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    return {"per_s": sum(counts) / (time.perf_counter() - start)}


def main() -> None:
    what, arguments = sys.argv[1], sys.argv[2:]
    if what == "hold":
        kept = [load(path) for path in arguments]
        print(json.dumps({"models": len(kept)}), flush=True)
        sys.stdin.read()
    else:
        print(json.dumps({"run": run, "threads": threads}[what](arguments[0], float(arguments[1]))))


if __name__ == "__main__":
    main()
