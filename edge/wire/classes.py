"""Class scores → the best of them, by name.

Rule: scores are real numbers; those of a quantized output are shown beside the integers that they stand for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from edge.domain.errors import InvalidInput
from edge.domain.tensors import Array, Tensors, TensorSpec

MAX_TOP = 1000
"""Classes that one answer may list."""


class Choice(msgspec.Struct, frozen=True, omit_defaults=True):
    """One class. `label` is the index in words where the model has no names, `score` None where it is not finite,
    `quantized` the integer behind the score of a quantized output."""

    label: str
    index: int
    score: float | None
    quantized: int | None = None


def parse_count(name: str, text: str) -> int:
    """The value of `?top=` or `?classification=`: how many classes are wanted, 1 to MAX_TOP. Raises InvalidInput."""
    if text.isascii() and text.isdecimal() and len(text) <= 9 and 1 <= int(text) <= MAX_TOP:
        return int(text)
    raise InvalidInput(f"{name}: want a whole number from 1 to {MAX_TOP}, got {text[:40]!r}")


def top_k(outputs: Tensors, specs: Mapping[str, TensorSpec], class_names: Sequence[str], k: int) -> list[list[Choice]]:
    """For each row of the class scores its `k` best, best first; of equals the lower index, and NaN last.

    outputs: arrays by name, one of them scores [batch, classes], axes of size 1 between these two not counted.
    Where several could be, the one that has as many classes as there are names. Raises InvalidInput where none is,
    its text beginning with `top:`.
    """
    name = _scores_name(outputs, len(class_names))
    rows = outputs[name].reshape(outputs[name].shape[0], outputs[name].shape[-1])
    spec = specs.get(name)
    quantization = spec.quantization if spec is not None and rows.dtype.kind in "iu" else None
    real = quantization.dequantize(rows) if quantization else rows.astype(np.float64)
    best = np.argsort(-real, axis=1, kind="stable")[:, :k]
    return [
        [
            Choice(
                label=class_names[index] if index < len(class_names) else str(index),
                index=index,
                score=_finite(scores[index]),
                quantized=int(stored[index]) if quantization else None,
            )
            for index in order.tolist()
        ]
        for order, scores, stored in zip(best, real, rows, strict=True)
    ]


def encode_top(choices: list[list[Choice]]) -> bytes:
    """`{"predictions":[[{"label":"Egyptian cat","index":286,"score":0.76,"quantized":194}]]}`"""
    return msgspec.json.encode({"predictions": choices})


def _scores_name(outputs: Tensors, classes: int) -> str:
    likely = [name for name, array in outputs.items() if _may_be_scores(array)]
    if len(likely) > 1:
        likely = [name for name in likely if outputs[name].shape[-1] == classes]
    if len(likely) == 1:
        return likely[0]
    got = ", ".join(f"{name} {array.dtype} {list(array.shape)}" for name, array in outputs.items())
    raise InvalidInput(f"top: want a model with one output of class scores [batch,classes]; this one gives {got}")


def _may_be_scores(array: Array) -> bool:
    shape = array.shape
    return array.dtype.kind in "fiu" and len(shape) >= 2 and shape[-1] > 0 and array.size == shape[0] * shape[-1]


def _finite(score: float) -> float | None:
    return float(score) if math.isfinite(score) else None
