"""Whether tensors fit a signature, and how many rows they are.

Rule: nothing here computes on elements; it looks at types and shapes only.
"""

from __future__ import annotations

from dataclasses import dataclass

from edge.domain.errors import BatchTooLarge, InvalidInput, MissingTensors, TensorMismatch, UnexpectedTensor
from edge.domain.tensors import Array, DType, Shape, Signature, Tensors, TensorSpec


@dataclass(frozen=True, slots=True)
class Rows:
    """`split` is set when the model takes one row at a time and the request has `count` of them."""

    count: int
    split: bool


ONE_RUN = Rows(count=1, split=False)


def check(signature: Signature, inputs: Tensors, *, max_batch: int) -> Rows:
    """Raises MissingTensors, UnexpectedTensor, TensorMismatch, BatchTooLarge, InvalidInput.

    `max_batch`: rows that one run may take, of a model whose first dimension is the batch's.
    """
    wanted = signature.inputs
    if inputs.keys() != wanted.keys():
        _complain_of_names(signature, inputs)
    fits = True
    for name, spec in wanted.items():
        array = inputs[name]
        if array.dtype != spec.dtype.numpy:
            raise TensorMismatch(spec, _dtype_name(array), array.shape)
        if 0 in array.shape:
            raise InvalidInput(f"{name}: want at least one element, got shape {list(array.shape)}")
        fits = fits and spec.admits(array.shape)
    if fits:
        if signature.batches:
            _bound_rows(inputs, max_batch)
        return ONE_RUN
    return _rows_of_single_row_model(signature, inputs, max_batch)


def _bound_rows(inputs: Tensors, max_batch: int) -> None:
    for array in inputs.values():
        if len(array) > max_batch:
            raise BatchTooLarge(len(array), max_batch)


def _rows_of_single_row_model(signature: Signature, inputs: Tensors, max_batch: int) -> Rows:
    """A model compiled for one row still answers n rows: one run each, as a client of a batching server expects."""
    splittable = max_batch == 1 and all(
        spec.shape is not None and spec.shape[:1] == (1,)
        for spec in (*signature.inputs.values(), *signature.outputs.values())
    )
    for name, spec in signature.inputs.items():
        shape = inputs[name].shape
        if not (_admits_rows(spec, shape) if splittable else spec.admits(shape)):
            raise TensorMismatch(spec, _dtype_name(inputs[name]), shape)
    counts = {array.shape[:1] for array in inputs.values()}
    if len(counts) != 1:
        got = ", ".join(f"{name} {array.shape[0]}" for name, array in inputs.items())
        raise InvalidInput(f"want as many rows in every input, got {got}")
    ((count,),) = counts
    return Rows(count=count, split=True)


def _admits_rows(spec: TensorSpec, shape: Shape) -> bool:
    assert spec.shape is not None
    return len(shape) == len(spec.shape) and spec.admits((1, *shape[1:]))


def _complain_of_names(signature: Signature, inputs: Tensors) -> None:
    for name in inputs:
        if name not in signature.inputs:
            raise UnexpectedTensor(name, tuple(signature.inputs))
    raise MissingTensors(tuple(signature.inputs), tuple(inputs))


def _dtype_name(array: Array) -> str:
    try:
        return DType.of(array).value
    except KeyError:
        return str(array.dtype)
