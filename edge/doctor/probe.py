"""The child of `edge doctor`: `python -m edge.doctor.probe runtime|library`. One line of JSON on stdout.

Rule: whatever a library does to its process, it does here: a runtime that was built for another numpy ends the process.
"""

from __future__ import annotations

import ctypes
import json
import os
import statistics
import sys
import time
from pathlib import Path

RUNS = 20
MODEL = Path(__file__).parents[1] / "data" / "digits" / "2" / "model.tflite"


def main(argv: list[str]) -> int:
    report_to = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not mix with the report
    print(json.dumps({"runtime": run, "library": load}[argv[1]]()), file=report_to, flush=True)
    return 0


def run() -> dict[str, object]:
    """Loads a small quantized model and runs it. Raises LoadError, and whatever a runtime raises that does not fit."""
    import numpy as np

    from edge.backends.runtime import runtime

    chosen = runtime()
    interpreter = chosen.Interpreter(model_path=str(MODEL))
    interpreter.allocate_tensors()
    given = interpreter.get_input_details()[0]
    times = []
    for _ in range(RUNS):
        interpreter.set_tensor(given["index"], np.zeros(given["shape"], given["dtype"]))
        start = time.perf_counter()
        interpreter.invoke()
        times.append(time.perf_counter() - start)
    return {"runtime": str(chosen), "numpy": np.__version__, "run_s": statistics.median(times)}


def load() -> dict[str, object]:
    """Loads the Edge TPU's library and opens no device. Raises OSError, AttributeError for another library."""
    from edge.backends.edgetpu import library

    where = library()
    ctypes.CDLL(where).tflite_plugin_create_delegate  # noqa: B018 - looked up, not called
    return {"library": where}


if __name__ == "__main__":
    sys.exit(main(sys.argv))
