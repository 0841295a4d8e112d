"""When two answers are the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edge.core.compare import difference
from edge.domain.errors import InvalidInput
from edge.domain.tensors import Tensors


def one(values: Any, dtype: Any = np.float32) -> Tensors:
    return {"y": np.array(values, dtype)}


def test_floats_are_the_same_within_the_tolerances() -> None:
    assert difference(one([1.0, 2.0]), one([1.0, 2.0])) == ""
    assert difference(one([1.0, 2.0]), one([1.0, 2.1])) == "y: 1 of 2 elements differ, first 2.0 and 2.0999999046325684"
    assert difference(one([1.0, 2.0]), one([1.0, 2.1]), atol=0.2) == ""
    assert difference(one([1.0, 2.0]), one([1.0, 2.1]), rtol=0.1) == ""
    assert difference(one([1.0, 2.0]), one([1.0, 2.1]), rtol=0.01)


def test_a_nan_is_the_same_as_a_nan_and_as_nothing_else() -> None:
    assert difference(one([np.nan]), one([np.nan])) == ""
    assert difference(one([np.nan]), one([0.0]), atol=1e9)
    assert difference(one([np.inf]), one([1.0]), atol=1e9)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64, np.bool_, object])
def test_all_but_floats_are_exact_whatever_the_tolerances(dtype: Any) -> None:
    assert difference(one([1, 0], dtype), one([1, 0], dtype)) == ""
    assert "1 of 2 elements differ" in difference(one([1, 0], dtype), one([1, 1], dtype), atol=10, rtol=10)


def test_scores_of_classes_are_the_same_where_the_best_class_is() -> None:
    first = one([[0.1, 0.9], [0.8, 0.2]])
    assert difference(first, one([[0.4, 0.6], [0.9, 0.1]]), classes=2) == ""
    assert difference(first, one([[0.4, 0.6], [0.1, 0.9]]), classes=2) == (
        "y: the best class differs in 1 of 2 rows, first 0 and 1"
    )
    assert difference(first, one([[0.4, 0.6], [0.9, 0.1]]), classes=3), "no scores of so many classes"


def test_a_tie_of_quantized_scores_is_no_difference() -> None:
    assert difference(one([[7, 9, 9]], np.int8), one([[3, 8, 8]], np.int8), classes=3) == ""
    assert difference(one([[7, 9, 8]], np.int8), one([[8, 8, 3]], np.int8), classes=3) == ""


def test_scores_may_be_of_different_types() -> None:
    assert difference(one([[0.1, 0.9]]), one([[3, 120]], np.int8), classes=2) == ""


def test_another_shape_differs_and_another_type_or_name_cannot_be_compared() -> None:
    assert difference(one([1.0]), one([1.0, 2.0])) == "y: [1] and [2]"
    with pytest.raises(InvalidInput, match="want float32, got int8"):
        difference(one([1.0]), one([1], np.int8))
    with pytest.raises(InvalidInput, match="want outputs y, got z"):
        difference(one([1.0]), {"z": np.ones(1, np.float32)})


def test_an_empty_answer_is_the_same_as_an_empty_answer() -> None:
    assert difference(one([]), one([])) == ""
    assert difference({"y": np.zeros((0, 2), np.float32)}, {"y": np.zeros((0, 2), np.float32)}, classes=2) == ""


def test_what_is_told_of_a_long_text_is_short() -> None:
    assert len(difference(one([b"a" * 10_000], object), one([b"b" * 10_000], object))) < 200
