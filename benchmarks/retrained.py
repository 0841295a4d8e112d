"""Models as a training might have changed them: the same file, other numbers in it.

Rule 1: noise is Gaussian, by each tensor's own standard deviation; of what a rounded weight was before, nothing is known
but that it was within half a step. Rule 2: scales of a recalibrated model have moved too, by a hundredth.
Noise is not training, which leaves many weights as they were: of the same size, it is the worst there is to send.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from edge.backends.flatbuffer import parse
from edge.domain.tensors import DType
from sync.delta.tflite import SCALES, WEIGHTS, Region, regions
from tests.tflite_models import TYPES, Graph, T, make

KINDS = {TYPES[kind]: kind.numpy for kind in (DType.FLOAT32, DType.INT32, DType.UINT8, DType.INT8)}
RECALIBRATION = 0.01
FLOAT_LAYERS = 10

Floats = npt.NDArray[np.float64]
Change = Callable[[Floats, float, np.random.Generator], Floats]
"""A tensor's values, and the step between two of them (0 for floats) → the new ones, not yet rounded."""


def noise(share: float) -> Change:
    """Of so much of the tensor's standard deviation."""

    def change(values: Floats, step: float, random: np.random.Generator) -> Floats:
        before = values + random.uniform(-0.5, 0.5, values.shape) * step
        return before + random.normal(0, share * values.std(), values.shape)

    return change


def steps(share: float) -> Change:
    """So many of the weights by one step, up or down; of floats by a thousandth."""

    def change(values: Floats, step: float, random: np.random.Generator) -> Floats:
        moved = (random.random(values.shape) < share) * random.choice([-1.0, 1.0], values.shape)
        by: Floats = moved * (np.full(values.shape, step) if step else np.abs(values) / 1000)
        return values + by

    return change


def uniform(values: Floats, step: float, random: np.random.Generator) -> Floats:
    """As weights are before training, which leaves them hardest to compress."""
    most = np.abs(values).max(initial=0.0)
    drawn: Floats = random.uniform(-most, most, values.shape)
    return drawn


def normal(values: Floats, step: float, random: np.random.Generator) -> Floats:
    """Others, that have nothing of the old ones but how they are spread."""
    return random.normal(values.mean(), values.std(), values.shape)


def weights(model: bytes, change: Change, *, recalibrated: bool = False) -> bytes:
    """The model with all its weights changed."""
    return _changed(model, [each for each in regions(model) if each.what == WEIGHTS], change, recalibrated)


def head(model: bytes) -> bytes:
    """The model with other numbers in the largest tensor of those that come last: its classifier."""
    last = [each for each in regions(model) if each.what == WEIGHTS]
    tensors = {tensor.name: tensor for graph in parse(model).subgraphs for tensor in graph.tensors}
    (outputs,) = {tensors[name].shape[-1] for name in _outputs(model)}
    fitting = [each for each in last if outputs in tensors[each.name].shape]
    return _changed(model, fitting, normal, recalibrated=False)


def float_model() -> bytes:
    """Ten layers of float32, 4 MB."""
    random = np.random.default_rng(11)
    layers = [random.normal(0, 0.05, (320, 320)).astype(np.float32) for _ in range(FLOAT_LAYERS)]
    return make([Graph([T(f"layer{at}", DType.FLOAT32, each.shape, each) for at, each in enumerate(layers)], [0], [0])])


def _outputs(model: bytes) -> list[str]:
    (graph,) = parse(model).subgraphs
    return [graph.tensors[at].name for at in graph.outputs]


def _changed(model: bytes, chosen: list[Region], change: Change, recalibrated: bool) -> bytes:
    random, out = np.random.default_rng(5), bytearray(model)
    types = {tensor.name: tensor.type for graph in parse(model).subgraphs for tensor in graph.tensors}
    for region in chosen:
        dtype = KINDS.get(types[region.name])
        if dtype is not None:
            values = np.frombuffer(model, dtype, region.size // dtype.itemsize, region.start)
            _put(out, region.start, _new(values, change, random))
    for region in (each for each in regions(model) if recalibrated and each.what == SCALES):
        scales = np.frombuffer(model, "<f4", region.size // 4, region.start)
        _put(out, region.start, (scales * random.normal(1, RECALIBRATION, scales.shape)).astype("<f4"))
    return bytes(out)


def _new(values: npt.NDArray[np.generic], change: Change, random: np.random.Generator) -> npt.NDArray[np.generic]:
    old = values.astype(np.float64)
    if values.dtype.kind == "f":
        return change(old, 0.0, random).astype(values.dtype)
    limits = np.iinfo(values.dtype.name)
    return np.clip(np.rint(change(old, 1.0, random)), limits.min, limits.max).astype(values.dtype)


def _put(out: bytearray, start: int, values: npt.NDArray[np.generic]) -> None:
    data = values.tobytes()
    out[start : start + len(data)] = data
