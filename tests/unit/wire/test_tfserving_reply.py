import json

import numpy as np
import pytest

from edge.domain.errors import InvalidInput
from edge.domain.tensors import Array
from edge.wire.tfserving_reply import encode_classify, encode_predict, encode_regress
from tests.unit.wire.targets import response

WORDS = np.array([b"hi", b"\xff"], object)
ROWS = np.array([[1.5, 2.0], [3.0, 4.0]], np.float32)


@pytest.mark.parametrize(
    ("outputs", "row", "text"),
    [
        ({"y": ROWS}, True, b'{"predictions":[[1.5,2.0],[3.0,4.0]]}'),
        ({"y": ROWS}, False, b'{"outputs":[[1.5,2.0],[3.0,4.0]]}'),
        ({"y": np.array([1, 2], np.uint8)}, True, b'{"predictions":[1,2]}'),
        ({"y": np.array(7, np.float32)}, False, b'{"outputs":7.0}'),
        ({"y": ROWS[:0]}, True, b'{"predictions":[]}'),
        ({"b": np.array([5, 6]), "a": ROWS}, True, b'{"predictions":[{"a":[1.5,2.0],"b":5},{"a":[3.0,4.0],"b":6}]}'),
        ({"b": np.array(5), "a": ROWS}, False, b'{"outputs":{"a":[[1.5,2.0],[3.0,4.0]],"b":5}}'),
        ({"y": WORDS}, True, b'{"predictions":["hi","\xff"]}'),
        ({"y_bytes": WORDS}, True, b'{"predictions":[{"b64":"aGk="},{"b64":"/w=="}]}'),
        ({"a_bytes": WORDS, "b": WORDS}, True, b'{"predictions":[{"a_bytes":{"b64":"aGk="},"b":"hi"},{"a_bytes":{"b64":"/w=="},"b":"\xff"}]}'),
        ({"y": np.array([np.nan, 1], np.float32), "z": np.array([1, 2])}, True, b'{"predictions":[{"y":NaN,"z":1},{"y":1.0,"z":2}]}'),
    ],
)  # fmt: skip
def test_outputs_are_told_by_row_or_by_column(outputs: dict[str, Array], row: bool, text: bytes) -> None:
    assert encode_predict(response(**outputs), row=row) == text


@pytest.mark.parametrize(
    ("outputs", "row", "message"),
    [
        ({}, True, "Cannot convert empty tensor map to JSON"),
        ({"y": np.array(1.0)}, True, "Tensor name: y has no shape information "),
        ({"a": ROWS, "b": ROWS[:1]}, True, "Tensor name: b has inconsistent batch size: 1 expecting: 2"),
        ({"y": np.array([1], np.float16)}, False, "Failed to write JSON value for tensor type: half"),
    ],
)
def test_outputs_that_json_cannot_tell_are_refused(outputs: dict[str, Array], row: bool, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        encode_predict(response(**outputs), row=row)
    assert caught.value.message == message


def test_classes_are_label_and_score_pairs() -> None:
    classes = np.array([[b"cat", b"dog"]], object)
    scores = np.array([[0.2, 3.0]], np.float32)
    assert encode_classify(response(classes=classes, scores=scores)) == b'{"results":[[["cat",0.2],["dog",3.0]]]}'
    assert encode_classify(response(scores=scores)) == b'{"results":[[["",0.2],["",3.0]]]}'
    assert encode_classify(response(classes=classes)) == b'{"results":[[["cat",0.0],["dog",0.0]]]}'


def test_a_regression_is_one_number_per_example() -> None:
    for shape in ((2,), (2, 1)):
        text = encode_regress(response(outputs=np.array([3.5, 4.0], np.float32).reshape(shape)))
        assert json.loads(text) == {"results": [3.5, 4.0]}


def test_results_of_another_form_are_refused() -> None:
    with pytest.raises(InvalidInput, match=r"\[batch_size num_classes\] but got \[2\]"):
        encode_classify(response(scores=np.array([1.0, 2.0])))
    with pytest.raises(InvalidInput, match=r"\[batch_size num_classes\] but got \[1,1\]"):
        encode_classify(response(classes=np.array([[b"a", b"b"]], object), scores=np.array([[1.0]])))
    with pytest.raises(InvalidInput, match="got none"):
        encode_classify(response(other=ROWS))
    with pytest.raises(InvalidInput, match=r"\[batch_size, 1\] but got \[2,2\]"):
        encode_regress(response(outputs=ROWS))
