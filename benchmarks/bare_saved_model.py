"""What a server is measured against: a SavedModel's signature called in a process of its own.

    python -m benchmarks.bare_saved_model DIR SECONDS     prints the median microseconds of a call by the clock, as JSON

numpy in, numpy out, one thread within an operator, as a worker has. Nothing is imported that ten lines would not import.
"""

import json
import sys
import time

import numpy as np
import tensorflow as tf


def main() -> None:
    tf.config.threading.set_intra_op_parallelism_threads(1)
    signature = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
    image = np.random.default_rng(7).integers(0, 255, (1, 96, 96, 3)).astype(np.uint8)
    for _ in range(50):
        signature(image=tf.constant(image))["best"].numpy()
    took = []
    now = time.perf_counter()
    end = now + float(sys.argv[2])
    while now < end:
        signature(image=tf.constant(image))["best"].numpy()
        before, now = now, time.perf_counter()
        took.append(now - before)
    print(json.dumps({"p50_us": sorted(took)[len(took) // 2] * 1e6}))


if __name__ == "__main__":
    main()
