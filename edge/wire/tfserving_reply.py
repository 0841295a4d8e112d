"""Answers of predict, classify and regress.

Rule 1: compact JSON; a client reads it as it reads TensorFlow Serving's, which is laid out in lines.
Rule 2: a single output loses its name; several are in the order of their names.

Source: `MakeJsonFromTensors` and its like in TensorFlow Serving's `util/json_tensor.cc`.
"""

from __future__ import annotations

from typing import Any

from edge.domain.errors import InvalidInput
from edge.domain.requests import PredictResponse
from edge.domain.tensors import Array, DType, Tensors, show_dims
from edge.wire.json_numbers import array_text, encode, tree
from edge.wire.tfserving_debug import DTYPE_NAMES

_FLOAT16 = DType.FLOAT16.numpy
_STRING = DType.STRING.numpy


def encode_predict(response: PredictResponse, *, row: bool) -> bytes:
    """`predictions`, one entry per row, or `outputs`, one per tensor. Raises InvalidInput if outputs have no such form."""
    outputs = response.outputs
    if not outputs:
        raise InvalidInput("Cannot convert empty tensor map to JSON")
    _check(outputs, row)
    if len(outputs) == 1:
        ((name, array),) = outputs.items()
        text = array_text(array) if array.dtype != _STRING else encode(_tree(name, array))
        return (b'{"predictions":' if row else b'{"outputs":') + text + b"}"
    trees = {name: _tree(name, outputs[name]) for name in sorted(outputs)}
    if not row:
        return encode({"outputs": trees})
    return encode(
        {"predictions": [dict(zip(trees, values, strict=True)) for values in zip(*trees.values(), strict=True)]}
    )


def encode_classify(response: PredictResponse) -> bytes:
    """`results`: for each example its [label, score] pairs. Raises InvalidInput if the outputs are of no such form."""
    classes, scores, (rows, columns) = class_arrays(response)
    labels: list[list[Any]] = [[""] * columns] * rows if classes is None else tree(classes)
    numbers: list[list[Any]] = [[0.0] * columns] * rows if scores is None else tree(scores)
    return encode({"results": [list(zip(*row, strict=True)) for row in zip(labels, numbers, strict=True)]})


def class_arrays(response: PredictResponse) -> tuple[Array | None, Array | None, tuple[int, int]]:
    """Labels and scores, where there are any, each [examples, classes], and that shape. Raises InvalidInput."""
    classes, scores = response.outputs.get("classes"), response.outputs.get("scores")
    given = [array for array in (classes, scores) if array is not None]
    for array in given:
        if array.ndim != 2 or array.shape != given[0].shape:
            raise InvalidInput(f"Expected Tensor shape: [batch_size num_classes] but got {show_dims(array.shape)}")
    if not given:
        raise InvalidInput("Expected classification signature outputs classes or scores, got none")
    return classes, scores, (given[0].shape[0], given[0].shape[1])


def encode_regress(response: PredictResponse) -> bytes:
    """`results`: one number for each example. Raises InvalidInput if the output is of no such form."""
    return b'{"results":' + array_text(regressed(response)) + b"}"


def regressed(response: PredictResponse) -> Array:
    """One number for each example, [examples]. Raises InvalidInput."""
    ((_, array),) = response.outputs.items()
    if array.ndim not in (1, 2) or array.shape[1:] not in ((), (1,)):
        raise InvalidInput(
            f"Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got {show_dims(array.shape)}"
        )
    return array.reshape(-1)


def _tree(name: str, array: Array) -> Any:
    return tree(array, base64_strings=name.endswith("_bytes"))


def _check(outputs: Tensors, row: bool) -> None:
    rows = -1
    for name, array in outputs.items():
        if array.dtype == _FLOAT16:
            raise InvalidInput(f"Failed to write JSON value for tensor type: {DTYPE_NAMES[DType.FLOAT16]}")
        if row:
            if not array.ndim:
                raise InvalidInput(f"Tensor name: {name} has no shape information ")
            if rows not in (-1, len(array)):
                raise InvalidInput(f"Tensor name: {name} has inconsistent batch size: {len(array)} expecting: {rows}")
            rows = len(array)
