"""Tensors and what a model says of its own.

Rule 1: a tensor inside the server is a `numpy.ndarray`; strings are object arrays of `bytes`.
Rule 2: a size of -1 in a shape stands for any size; a shape of None for any rank.
Rule 3: names of types here are this project's; what a protocol calls them is the business of `edge.wire`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Tensors = Mapping[str, Array]
Shape = tuple[int, ...]
MAX_RANK = 32
"""Dimensions that an array may have in every numpy that is supported."""


class DType(Enum):
    """Element type of a tensor; the value is numpy's name for it, `string` excepted."""

    BOOL = "bool"
    INT8 = "int8"
    UINT8 = "uint8"
    INT16 = "int16"
    UINT16 = "uint16"
    INT32 = "int32"
    UINT32 = "uint32"
    INT64 = "int64"
    UINT64 = "uint64"
    FLOAT16 = "float16"
    FLOAT32 = "float32"
    FLOAT64 = "float64"
    STRING = "string"

    @cached_property
    def numpy(self) -> np.dtype[Any]:
        """The numpy type that holds it; object (of `bytes`) for strings."""
        return np.dtype(object) if self is DType.STRING else np.dtype(self.value)

    @property
    def is_integer(self) -> bool:
        return self.numpy.kind in "iu"

    @classmethod
    def of(cls, array: Array) -> DType:
        """The type of an array's elements. Raises KeyError for one that no tensor can have."""
        return _BY_NUMPY[array.dtype]


_BY_NUMPY = {dtype.numpy: dtype for dtype in DType}


@dataclass(frozen=True, slots=True)
class Quantization:
    """Affine, one for the whole tensor: real = scale * (quantized - zero_point).

    Source: https://ai.google.dev/edge/litert/models/quantization_spec
    """

    scale: float
    zero_point: int

    def quantize(self, real: Array, dtype: DType) -> Array:
        """float array of any shape → `dtype`, rounded half away from zero as TFLite does, saturated."""
        limits = np.iinfo(dtype.numpy)
        scaled = np.asarray(real, np.float32) / np.float32(self.scale)
        with np.errstate(invalid="ignore"):
            rounded = np.trunc(scaled + np.copysign(np.float32(0.5), scaled)) + self.zero_point
        safe: Array = np.nan_to_num(rounded, nan=self.zero_point)
        return np.clip(safe, limits.min, limits.max).astype(dtype.numpy)

    def dequantize(self, quantized: Array) -> Array:
        """Integer array of any shape → float32 of the same shape."""
        return (quantized.astype(np.float32) - np.float32(self.zero_point)) * np.float32(self.scale)


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """What a tensor must be like: its name, element type, shape, and how its integers stand for reals."""

    name: str
    dtype: DType
    shape: Shape | None
    quantization: Quantization | None = None

    def admits(self, shape: Shape) -> bool:
        """Whether an array of this shape fits: same rank, same size wherever the spec names one."""
        want = self.shape
        if want is None or want == shape:
            return True
        return len(want) == len(shape) and all(w in (-1, g) for w, g in zip(want, shape, strict=True))

    def __str__(self) -> str:
        return f"{self.dtype.value} {show_shape(self.shape)}"


@dataclass(frozen=True)
class Signature:
    """One way to call a model: named inputs and outputs, in the model's order."""

    name: str
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]

    @cached_property
    def batches(self) -> bool:
        """Whether the first dimension of every tensor is one of any size: rows of a batch."""
        return all(spec.shape is not None and spec.shape[:1] == (-1,) for spec in self._specs())

    def _specs(self) -> tuple[TensorSpec, ...]:
        return (*self.inputs.values(), *self.outputs.values())

    @cached_property
    def as_floats(self) -> Signature:
        """The same call for a client that knows nothing of quantization: quantized tensors become float32."""
        return replace(self, inputs=_floats(self.inputs), outputs=_floats(self.outputs))


def _floats(specs: Mapping[str, TensorSpec]) -> Mapping[str, TensorSpec]:
    return MappingProxyType(
        {
            key: replace(spec, dtype=DType.FLOAT32, quantization=None) if spec.quantization else spec
            for key, spec in specs.items()
        }
    )


def show_dims(shape: Shape) -> str:
    """`[-1,224,224,3]`: the way that protocols write a shape."""
    return "[" + ",".join(map(str, shape)) + "]"


def show_shape(shape: Shape | None) -> str:
    """`[?,224,224,3]`, or `[...]` for any rank: the way that messages of our own write a shape."""
    if shape is None:
        return "[...]"
    return "[" + ",".join("?" if size < 0 else str(size) for size in shape) + "]"
