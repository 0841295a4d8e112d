"""How a TFLite model may be called, from what its file says.

Rule 1: pure. Rule 2: the model's own SignatureDefs where it has them; else one `serving_default` from its tensors' names.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from edge.backends.flatbuffer import ModelFile, SignatureInfo, SubgraphInfo, TensorInfo
from edge.domain.errors import LoadError
from edge.domain.tensors import DType, Quantization, Signature, TensorSpec

TYPES: Mapping[int, DType] = MappingProxyType(
    {
        0: DType.FLOAT32, 1: DType.FLOAT16, 2: DType.INT32, 3: DType.UINT8, 4: DType.INT64, 5: DType.STRING, 6: DType.BOOL,
        7: DType.INT16, 9: DType.INT8, 10: DType.FLOAT64, 12: DType.UINT64, 15: DType.UINT32, 16: DType.UINT16,
    }
)  # fmt: skip
"""The schema's TensorType. What is missing (complex, 4-bit, resources) no protocol can carry."""
_OTHER_TYPES = {8: "complex64", 11: "complex128", 13: "resource", 14: "variant", 17: "int4", 18: "bfloat16"}
BATCH_BYTES = 64 * 2**20
"""A batch may grow until the model's largest activation takes this much; rows as such have no bound, as in TensorFlow Serving."""


@dataclass(frozen=True, slots=True)
class Call:
    """One signature, with its tensors' indices in its subgraph. `dynamic`: some input has a size that may change."""

    signature: Signature
    subgraph: int
    inputs: tuple[tuple[str, int], ...]
    outputs: tuple[tuple[str, int], ...]
    dynamic: bool


def calls(model: ModelFile) -> Mapping[str, Call]:
    """Every signature by its name. Raises LoadError for a tensor of a type that cannot be served."""
    infos = model.signatures or (_default_signature(model.subgraphs[0]),)
    return MappingProxyType(
        {info.key or "serving_default": _call(info, model.subgraphs[info.subgraph]) for info in infos}
    )


def max_batch(found: Iterable[Call], largest: int) -> int:
    """1 unless every tensor's first dimension is free; `largest` is `largest_activation` of the model."""
    for call in found:
        for spec in (*call.signature.inputs.values(), *call.signature.outputs.values()):
            if not spec.shape or spec.shape[0] != -1:
                return 1
    return max(1, BATCH_BYTES // max(1, largest))


def largest_activation(model: ModelFile) -> int:
    """Bytes of the largest tensor that is computed in a run, with every free dimension at 1."""
    return max(
        (_tensor_bytes(tensor) for graph in model.subgraphs for tensor in graph.tensors if not tensor.constant),
        default=0,
    )


def _tensor_bytes(tensor: TensorInfo) -> int:
    dtype = TYPES.get(tensor.type, DType.FLOAT64)
    return math.prod(abs(size) for size in tensor.shape) * dtype.numpy.itemsize


def _call(info: SignatureInfo, graph: SubgraphInfo) -> Call:
    inputs = {name: _spec(name, graph.tensors[index]) for name, index in info.inputs.items()}
    outputs = {name: _spec(name, graph.tensors[index]) for name, index in info.outputs.items()}
    signature = Signature(info.key or "serving_default", MappingProxyType(inputs), MappingProxyType(outputs))
    dynamic = any(-1 in (spec.shape or ()) for spec in inputs.values())
    return Call(signature, info.subgraph, tuple(info.inputs.items()), tuple(info.outputs.items()), dynamic)


def _spec(name: str, tensor: TensorInfo) -> TensorSpec:
    dtype = TYPES.get(tensor.type)
    if dtype is None:
        kind = _OTHER_TYPES.get(tensor.type, f"number {tensor.type}")
        raise LoadError(f"tensor {name}: type {kind} cannot be served")
    quantized = dtype.is_integer and tensor.scales == 1 and tensor.scale > 0 and math.isfinite(tensor.scale)
    return TensorSpec(name, dtype, tensor.shape, Quantization(tensor.scale, tensor.zero_point) if quantized else None)


def _default_signature(graph: SubgraphInfo) -> SignatureInfo:
    inputs = _unique([graph.tensors[index].name for index in graph.inputs], "input")
    outputs = _unique([graph.tensors[index].name for index in graph.outputs], "output")
    return SignatureInfo(
        "serving_default",
        dict(zip(inputs, graph.inputs, strict=True)),
        dict(zip(outputs, graph.outputs, strict=True)),
        subgraph=0,
    )


def _unique(names: Sequence[str], unnamed: str) -> list[str]:
    """Without TensorFlow's `:0`; a second `x` becomes `x_1`, and what has no name `input_0`."""
    taken: list[str] = []
    for position, full in enumerate(names):
        name = stem = full.removesuffix(":0") or f"{unnamed}_{position}"
        count = 0
        while name in taken:
            count += 1
            name = f"{stem}_{count}"
        taken.append(name)
    return taken
