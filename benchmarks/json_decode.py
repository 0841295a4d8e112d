"""Request bodies of three sizes to tensors, beside the standard library and numpy; and the way back.

    python -m benchmarks.json_decode

Prints microseconds, the best of several rounds, and how many times quicker than json.loads and np.array. Rates drift
with the machine; the ratios do not.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from time import perf_counter

import numpy as np

from edge.domain.models import ImageOptions, ModelId
from edge.domain.requests import PredictResponse, Target
from edge.domain.tensors import Array, DType, Signature, TensorSpec
from edge.wire.tfserving_json import parse_predict
from edge.wire.tfserving_reply import encode_predict

ROUNDS = 7
ROUND_S = 0.05

# Name, shape, largest value: a body of some 388 B, 117 KB and 638 KB.
PICTURES = [("tiny", (1, 8, 8, 1), 16), ("small", (1, 96, 96, 3), 255), ("image", (1, 224, 224, 3), 255)]
OUTPUTS = [10, 1001, 100_000]


def microseconds(work: Callable[[], object]) -> float:
    work()
    start = perf_counter()
    work()
    count = max(1, int(ROUND_S / max(perf_counter() - start, 1e-7)))
    best = float("inf")
    for _ in range(ROUNDS):
        start = perf_counter()
        for _ in range(count):
            work()
        best = min(best, (perf_counter() - start) / count)
    return best * 1e6


def target(shape: tuple[int, ...], dtype: DType) -> Target:
    signature = Signature("serving_default", {"x": TensorSpec("x", dtype, (-1, *shape[1:]))}, {})
    return Target(ModelId("m", 1), signature, ImageOptions())


def decode(name: str, array: Array, dtype: DType) -> None:
    # The small one as most clients send it, with blanks.
    separators = None if array.size < 100 else (",", ":")
    body = json.dumps({"instances": array.tolist()}, separators=separators).encode()
    to = target(array.shape, dtype)
    ours = microseconds(lambda: parse_predict(body).payload.bind(to))
    theirs = microseconds(lambda: np.array(json.loads(body)["instances"], dtype.numpy))
    print(
        f"decode {name:6} {dtype.value:8} {len(body):7} B {ours:10.1f} µs   json + numpy {theirs:10.1f} µs  {theirs / ours:6.1f}×"
    )


def encode(array: Array) -> None:
    response = PredictResponse(ModelId("m", 1), Signature("serving_default", {}, {}), {"y": array})
    ours = microseconds(lambda: encode_predict(response, row=True))
    theirs = microseconds(lambda: json.dumps({"predictions": array.tolist()}).encode())
    size = f"{array.size} outputs"
    print(f"encode {size:15} {array.dtype!s:8} {ours:10.1f} µs   json.dumps   {theirs:10.1f} µs  {theirs / ours:6.1f}×")


def main() -> None:
    rng = np.random.default_rng(0)
    for name, shape, high in PICTURES:
        decode(name, rng.integers(0, high + 1, shape), DType.UINT8)
    for name, shape, _ in PICTURES:
        decode(name, rng.random(shape).round(4), DType.FLOAT32)
    for size in OUTPUTS:
        encode(rng.integers(0, 256, (1, size)).astype(np.uint8))
        encode(rng.dirichlet(np.ones(size), 1).astype(np.float32))


if __name__ == "__main__":
    main()
