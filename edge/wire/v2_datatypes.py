"""What the Open Inference Protocol calls the types of elements.

Source: https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md#tensor-data-types
Rule 1: BF16 is known, so that it can be refused by its name; no tensor inside the server has it.
Rule 2: on the wire every element is little-endian; BYTES is a length of four bytes and then the bytes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edge.domain.tensors import DType

NAMES: dict[DType, str] = {
    DType.BOOL: "BOOL",
    DType.UINT8: "UINT8",
    DType.UINT16: "UINT16",
    DType.UINT32: "UINT32",
    DType.UINT64: "UINT64",
    DType.INT8: "INT8",
    DType.INT16: "INT16",
    DType.INT32: "INT32",
    DType.INT64: "INT64",
    DType.FLOAT16: "FP16",
    DType.FLOAT32: "FP32",
    DType.FLOAT64: "FP64",
    DType.STRING: "BYTES",
}
DTYPES: dict[str, DType] = {name: dtype for dtype, name in NAMES.items()}
KNOWN = frozenset(DTYPES) | {"BF16"}

# What lies in a binary body. BOOL is read as bytes: only 0 is false, and numpy wants its truths to be 0 or 1.
LITTLE: dict[DType, np.dtype[Any]] = {
    dtype: np.dtype(np.uint8) if dtype is DType.BOOL else dtype.numpy.newbyteorder("<")
    for dtype in DType
    if dtype is not DType.STRING
}


def spoken(dtype: str) -> str:
    """The protocol's name of a type that an error calls by its protocol-free name, such as `float32`."""
    return NAMES[DType(dtype)] if dtype in _VALUES else dtype.upper()


_VALUES = frozenset(dtype.value for dtype in DType)
