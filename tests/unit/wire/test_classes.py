from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from edge.domain.errors import InvalidInput
from edge.domain.tensors import Array, DType, Quantization, TensorSpec
from edge.wire.classes import Choice, encode_top, parse_count, top_k

NAMES = ("cat", "dog", "owl", "fox")


def spec(array: Array, quantization: Quantization | None = None) -> dict[str, TensorSpec]:
    return {"scores": TensorSpec("scores", DType.of(array), array.shape, quantization)}


def test_the_best_come_first_for_each_row() -> None:
    scores = np.array([[0.1, 0.6, 0.0, 0.3], [0.9, 0.0, 0.1, 0.0]], np.float32)
    first, second = top_k({"scores": scores}, spec(scores), NAMES, 2)
    assert [choice.label for choice in first] == ["dog", "fox"]
    assert [(choice.index, choice.label) for choice in second] == [(0, "cat"), (2, "owl")]
    assert first[0].score == pytest.approx(0.6)
    assert first[0].quantized is None


def test_a_quantized_score_is_shown_as_a_real_number_beside_its_integer() -> None:
    scores = np.array([[0, 194, 3, 1]], np.uint8)
    assert top_k({"scores": scores}, spec(scores, Quantization(1 / 256, 0)), NAMES, 1) == [
        [Choice("dog", 1, 0.7578125, 194)]
    ]
    signed = np.array([[-128, 127, 0, 1]], np.int8)
    assert top_k({"scores": signed}, spec(signed, Quantization(1 / 256, -128)), NAMES, 1)[0][0].index == 1


def test_of_equals_the_lower_index_wins_and_what_is_not_a_number_comes_last() -> None:
    scores = np.array([[np.nan, 0.5, 0.5, np.inf]], np.float32)
    (row,) = top_k({"scores": scores}, spec(scores), NAMES, 4)
    assert [choice.index for choice in row] == [3, 1, 2, 0]
    assert [choice.score for choice in row] == [None, 0.5, 0.5, None]


def test_a_class_without_a_name_is_called_by_its_index_and_k_beyond_the_classes_gives_all() -> None:
    scores = np.array([[1, 2, 3]], np.int64)
    (row,) = top_k({"scores": scores}, spec(scores), ("only",), 9)
    assert [choice.label for choice in row] == ["2", "1", "only"]


def test_axes_of_size_one_between_batch_and_classes_do_not_count() -> None:
    scores = np.zeros((2, 1, 1, 4), np.float32)
    scores[1, 0, 0, 2] = 1
    assert top_k({"scores": scores}, spec(scores), NAMES, 1)[1][0].label == "owl"


def test_of_several_outputs_the_one_with_as_many_classes_as_names_is_meant() -> None:
    outputs: dict[str, Array] = {"features": np.zeros((1, 9)), "scores": np.array([[0.0, 0.0, 0.0, 1.0]])}
    assert top_k(outputs, {}, NAMES, 1)[0][0].label == "fox"


@pytest.mark.parametrize(
    "outputs",
    [
        {},
        {"boxes": np.zeros((1, 10, 4))},
        {"words": np.array([[b"a"]], object)},
        {"one": np.zeros((1, 5)), "two": np.zeros((1, 6))},
        {"flat": np.zeros(4)},
        {"none": np.zeros((1, 0))},
    ],
    ids=str,
)
def test_a_model_without_class_scores_is_refused_with_what_it_gives(outputs: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=r"^top: want .*class scores") as raised:
        top_k(outputs, {}, NAMES, 3)
    assert all(name in raised.value.message for name in outputs)


def test_an_empty_batch_has_no_rows() -> None:
    assert top_k({"scores": np.zeros((0, 4))}, {}, NAMES, 3) == []


def test_the_answer_is_predictions_of_rows_of_choices_and_always_json() -> None:
    body = encode_top([[Choice('a "b"', 0, 0.5, 3), Choice("c", 1, None)]])
    assert json.loads(body) == {
        "predictions": [
            [{"label": 'a "b"', "index": 0, "score": 0.5, "quantized": 3}, {"label": "c", "index": 1, "score": None}]
        ]
    }


@pytest.mark.parametrize(("text", "want"), [("1", 1), ("005", 5), ("1000", 1000)])
def test_top_is_a_whole_number(text: str, want: int) -> None:
    assert parse_count("top", text) == want


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5", "1001", "x", "٣", "9" * 5000])
def test_any_other_top_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="from 1 to 1000"):
        parse_count("top", text)
