"""Which tensors fit a signature, and how many rows they are."""

from types import MappingProxyType

import numpy as np
import pytest

from edge.core.check import ONE_RUN, Rows, check
from edge.domain.errors import BatchTooLarge, InvalidInput, MissingTensors, TensorMismatch, UnexpectedTensor
from edge.domain.tensors import Array, DType, Shape, Signature, TensorSpec


def signature(taken: Shape | None, given: Shape | None = None, names: tuple[str, ...] = ("x",)) -> Signature:
    inputs = {name: TensorSpec(name, DType.FLOAT32, taken) for name in names}
    outputs = {"y": TensorSpec("y", DType.FLOAT32, taken if given is None else given)}
    return Signature("serving_default", MappingProxyType(inputs), MappingProxyType(outputs))


def ones(*shape: int) -> Array:
    return np.ones(shape, np.float32)


def test_a_batch_may_have_as_many_rows_as_one_run_may_take() -> None:
    assert check(signature((-1, 4)), {"x": ones(8, 4)}, max_batch=8) == ONE_RUN


def test_a_batch_of_more_rows_than_one_run_may_take_is_refused() -> None:
    with pytest.raises(BatchTooLarge, match="want a batch of at most 8 rows, got 9"):
        check(signature((-1, 4)), {"x": ones(9, 4)}, max_batch=8)


def test_the_bound_on_rows_is_held_in_every_input() -> None:
    with pytest.raises(BatchTooLarge):
        check(signature((-1, 4), names=("a", "b")), {"a": ones(1, 4), "b": ones(9, 4)}, max_batch=8)


@pytest.mark.parametrize(("taken", "given"), [((-1, 4), (4,)), ((9, 4), (9, 4)), (None, None), ((-1,), ())])
def test_a_first_dimension_that_not_every_tensor_leaves_open_is_no_batch(taken: Shape | None, given: Shape) -> None:
    shape = (9,) if taken == (-1,) else (9, 4)
    assert check(signature(taken, given), {"x": ones(*shape)}, max_batch=1) == ONE_RUN


def test_a_model_of_one_row_answers_several_one_after_the_other() -> None:
    assert check(signature((1, 4)), {"x": ones(3, 4)}, max_batch=1) == Rows(count=3, split=True)


def test_rows_that_differ_in_number_are_no_batch_of_a_model_of_one_row() -> None:
    with pytest.raises(InvalidInput, match="want as many rows in every input, got a 3, b 2"):
        check(signature((1, 4), names=("a", "b")), {"a": ones(3, 4), "b": ones(2, 4)}, max_batch=1)


def test_a_tensor_of_another_type_or_shape_is_told_by_what_was_wanted_and_what_came() -> None:
    with pytest.raises(TensorMismatch, match=r"x: want float32 \[\?,4\], got int64 \[1,4\]"):
        check(signature((-1, 4)), {"x": np.ones((1, 4), np.int64)}, max_batch=8)
    with pytest.raises(TensorMismatch, match=r"x: want float32 \[\?,4\], got float32 \[1,5\]"):
        check(signature((-1, 4)), {"x": ones(1, 5)}, max_batch=8)


def test_an_empty_tensor_is_refused() -> None:
    with pytest.raises(InvalidInput, match="x: want at least one element"):
        check(signature((-1, 4)), {"x": ones(0, 4)}, max_batch=8)


def test_a_name_too_many_is_told_before_one_that_is_missing() -> None:
    with pytest.raises(UnexpectedTensor, match="z: no such tensor; want x"):
        check(signature((-1, 4)), {"z": ones(1, 4)}, max_batch=8)
    with pytest.raises(MissingTensors, match="missing x"):
        check(signature((-1, 4)), {}, max_batch=8)
