"""What a SavedModel's SignatureDefs say, as signatures. Pure; TensorFlow's protocol buffers come in, and are only read.

Rule 1: names are the SignatureDef's keys, never the graph's. Rule 2: a signature that no protocol can carry is left out, and
said to be, while there is another. Rule 3: inputs and outputs are in the order of their names: a map has none of its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from edge.domain.tensors import DType, Shape, Signature, TensorSpec

TYPES: Mapping[int, DType] = MappingProxyType(
    {
        1: DType.FLOAT32, 2: DType.FLOAT64, 3: DType.INT32, 4: DType.UINT8, 5: DType.INT16, 6: DType.INT8,
        7: DType.STRING, 9: DType.INT64, 10: DType.BOOL, 17: DType.UINT16, 19: DType.FLOAT16, 22: DType.UINT32,
        23: DType.UINT64,
    }
)  # fmt: skip
"""TensorFlow's DataType (tensorflow/core/framework/types.proto). What is missing no protocol can carry."""
_OTHER_TYPES = {
    8: "complex64",
    11: "qint8",
    12: "quint8",
    13: "qint32",
    14: "bfloat16",
    18: "complex128",
    20: "resource",
}
INTERNAL = "__saved_model_"
MAX_BATCH_ROWS = 65_536
BATCH_BYTES = 256 * 2**20
"""A batch may grow until its inputs and outputs take so much, as far as their sizes are known."""


@dataclass(frozen=True, slots=True)
class Route:
    """A signature, and the name in the graph of each of its tensors."""

    signature: Signature
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]


def routes(signatures: Mapping[str, Any]) -> tuple[dict[str, Route], list[str]]:
    """By name, and why others are left out. `signatures`: SignatureDefs."""
    found, left_out = {}, []
    for name, definition in sorted(signatures.items()):
        if name.startswith(INTERNAL) or not definition.inputs or not definition.outputs:
            continue  # an initializer, a training step: not for clients
        try:
            found[name] = _route(name, definition)
        except ValueError as error:
            left_out.append(f"signature {name} is left out: {error}")
    return found, left_out


def default(found: Mapping[str, Route]) -> Signature:
    return (found.get("serving_default") or next(iter(found.values()))).signature


def batch(signature: Signature, most: int) -> int:
    """Rows of a run: the first dimension where that is fixed, else what BATCH_BYTES allow, and `most` unless that is 0."""
    specs = [*signature.inputs.values(), *signature.outputs.values()]
    if signature.batches:
        row = sum(_row_bytes(spec) for spec in specs)
        rows = max(1, min(MAX_BATCH_ROWS, BATCH_BYTES // max(1, row)))
        return min(rows, most) if most else rows
    sizes = {spec.shape[0] if spec.shape else -1 for spec in specs}
    return max(1, sizes.pop()) if len(sizes) == 1 else 1


def _row_bytes(spec: TensorSpec) -> int:
    return math.prod(max(1, size) for size in (spec.shape or ())[1:]) * spec.dtype.numpy.itemsize


def _route(name: str, definition: Any) -> Route:
    """Raises ValueError."""
    inputs, outputs = sorted(definition.inputs.items()), sorted(definition.outputs.items())
    signature = Signature(
        name,
        MappingProxyType({key: _spec(key, info) for key, info in inputs}),
        MappingProxyType({key: _spec(key, info) for key, info in outputs}),
    )
    return Route(signature, {key: info.name for key, info in inputs}, {key: info.name for key, info in outputs})


def _spec(key: str, info: Any) -> TensorSpec:
    """Raises ValueError."""
    if info.WhichOneof("encoding") != "name":
        raise ValueError(f"tensor {key}: {info.WhichOneof('encoding') or 'no tensor at all'} cannot be served")
    dtype = TYPES.get(info.dtype)
    if dtype is None:
        raise ValueError(f"tensor {key}: type {_OTHER_TYPES.get(info.dtype, f'number {info.dtype}')} cannot be served")
    return TensorSpec(key, dtype, _shape(info.tensor_shape))


def _shape(shape: Any) -> Shape | None:
    return None if shape.unknown_rank else tuple(max(-1, int(dim.size)) for dim in shape.dim)
