"""Replies: which outputs, in which order, as what; classes; numbers as text."""

import json
from typing import Any

import numpy as np
import pytest
from tritonclient.http import InferenceServerClient

from edge.domain.errors import EdgeError
from edge.domain.models import ModelId, ModelSpec
from edge.domain.requests import PredictResponse
from edge.domain.tensors import Array, DType, Signature, TensorSpec
from edge.wire.encoding import compress, negotiate
from edge.wire.v2_reply import classify, data_text, encode_infer
from edge.wire.v2_request import HEADER, parse_infer

SPEC = ModelSpec("m")


def reply_to(
    request: dict[str, Any], class_names: tuple[str, ...] = (), **outputs: Array
) -> tuple[dict[str, str], bytes]:
    specs = {name: TensorSpec(name, DType.of(array), None) for name, array in outputs.items()}
    response = PredictResponse(ModelId("m", 3), Signature("s", {}, specs), outputs, class_names)
    body = json.dumps({"inputs": [], **request}).encode()
    return encode_infer(response, parse_infer(body, None, SPEC))


A = np.array([[1, 2]], np.int32)
B = np.array([[0.25]], np.float32)


def test_outputs_come_in_the_order_of_the_signature_or_of_the_request() -> None:
    _, body = reply_to({}, b=B, a=A)
    assert [output["name"] for output in json.loads(body)["outputs"]] == ["b", "a"]
    _, body = reply_to({"outputs": [{"name": "a"}, {"name": "b"}]}, b=B, a=A)
    assert [output["name"] for output in json.loads(body)["outputs"]] == ["a", "b"]
    _, body = reply_to({"outputs": [{"name": "a"}]}, b=B, a=A)
    assert body == (
        b'{"model_name":"m","model_version":"3","outputs":[{"name":"a","datatype":"INT32","shape":[1,2],"data":[1,2]}]}'
    )


def test_binary_outputs_follow_the_json_in_its_order() -> None:
    wishes = [
        {"name": "b", "parameters": {"binary_data": True}},
        {"name": "a", "parameters": {"binary_data": True}},
    ]
    headers, body = reply_to({"outputs": wishes}, a=A, b=B)
    head, tail = body[: int(headers[HEADER])], body[int(headers[HEADER]) :]
    assert headers["Content-Type"] == "application/octet-stream"
    assert head == (
        b'{"model_name":"m","model_version":"3","outputs":['
        b'{"name":"b","datatype":"FP32","shape":[1,1],"parameters":{"binary_data_size":4}},'
        b'{"name":"a","datatype":"INT32","shape":[1,2],"parameters":{"binary_data_size":8}}]}'
    )
    assert tail == B.tobytes() + A.tobytes()


def test_an_array_that_lies_otherwise_in_memory_is_written_row_by_row() -> None:
    turned = np.arange(6, dtype=np.int16).reshape(2, 3).T
    headers, body = reply_to({"parameters": {"binary_data_output": True}}, y=turned)
    assert body[int(headers[HEADER]) :] == np.array([0, 3, 1, 4, 2, 5], "<i2").tobytes()
    _, body = reply_to({}, y=turned)
    assert json.loads(body)["outputs"][0]["data"] == [0, 3, 1, 4, 2, 5]


def test_a_scalar_and_an_empty_tensor_have_their_shapes() -> None:
    _, body = reply_to({}, s=np.array(7, np.int8), e=np.empty((0, 2), np.float32))
    assert json.loads(body)["outputs"] == [
        {"name": "s", "datatype": "INT8", "shape": [], "data": [7]},
        {"name": "e", "datatype": "FP32", "shape": [0, 2], "data": []},
    ]
    headers, body = reply_to({"parameters": {"binary_data_output": True}}, e=np.empty((0, 2), np.float32))
    result = InferenceServerClient.parse_response_body(body, header_length=int(headers[HEADER]))
    assert result.as_numpy("e").shape == (0, 2)


def test_names_and_ids_are_escaped() -> None:
    _, body = reply_to({"id": 'a"\n'}, (), **{'y"ü': A})
    assert json.loads(body)["id"] == 'a"\n'
    assert json.loads(body)["outputs"][0]["name"] == 'y"ü'


CLASSES = [
    (np.array([[0.5, 2.5, 1.0]], np.float32), 2, [[b"2.500000:1:bee", b"1.000000:2"]]),
    (np.array([3, 200, 7], np.uint8), 2, [b"200:1:bee", b"7:2"]),
    (np.array([[-128, 127]], np.int8), 5, [[b"127:1:bee", b"-128:0:ant"]]),
    (np.array([[1, 2], [4, 3]], np.int64), 1, [[b"2:1:bee"], [b"4:0:ant"]]),
    (np.array([[np.nan, 1.0, np.inf]], np.float32), 3, [[b"inf:2", b"1.000000:1:bee", b"nan:0:ant"]]),
    (np.array([[[1.0], [3.0]]], np.float64), 1, [[b"3.000000:1:bee"]]),
    (np.array([5.0, 5.0], np.float16), 1, [b"5.000000:0:ant"]),
    (np.array(1.5, np.float32), 1, [b"1.500000:0:ant"]),
    (np.empty((0, 3), np.float32), 2, []),
    (np.empty((2, 0), np.float32), 2, [[], []]),
]


@pytest.mark.parametrize(("array", "count", "expected"), CLASSES)
def test_a_classification_is_value_index_and_label_of_the_best(array: Array, count: int, expected: list[Any]) -> None:
    found = classify(array, count, ("ant", "bee"))
    assert found.tolist() == expected
    assert found.dtype == object


def test_a_classification_is_bytes_in_json_and_in_binary() -> None:
    scores = np.array([[0.5, 2.5]], np.float32)
    for binary in (False, True):
        wish = {"name": "y", "parameters": {"classification": 1, "binary_data": binary}}
        headers, body = reply_to({"outputs": [wish]}, ("ant", "bee"), y=scores)
        length = int(headers[HEADER]) if binary else None
        result = InferenceServerClient.parse_response_body(body, header_length=length)
        assert result.get_output("y")["datatype"] == "BYTES"
        assert result.as_numpy("y").tolist() == [[b"2.500000:1:bee" if binary else "2.500000:1:bee"]]


@pytest.mark.parametrize(
    ("array", "name"), [(np.array([b"a"], object), "BYTES"), (np.array([True]), "BOOL")], ids=["BYTES", "BOOL"]
)
def test_what_has_no_order_has_no_classes(array: Array, name: str) -> None:
    with pytest.raises(EdgeError, match=f"class result not available for output due to unsupported type '{name}'"):
        classify(array, 1, ())


@pytest.mark.parametrize("count", [1, 2_000])
def test_floats_are_the_shortest_text_of_their_own_type(count: int) -> None:
    rng = np.random.default_rng(7)
    for dtype, bits in ((np.float32, np.uint32), (np.float16, np.uint16)):
        any_bits = rng.integers(0, np.iinfo(bits).max, count).astype(bits).view(dtype)
        everyday = (rng.standard_normal(count) * 10 ** rng.uniform(-4, 4, count)).astype(dtype)
        powers = np.exp2(rng.integers(-14, 15, count)).astype(dtype)
        for array in (any_bits[np.isfinite(any_bits)], everyday, powers):
            text = data_text(array).decode()
            assert [float(number) for number in text[1:-1].split(",") if number] == [float(str(one)) for one in array]


def test_other_elements_are_written_as_json_has_them() -> None:
    assert data_text(np.array([0.1, 1e300, -0.0])) == b"[0.1,1e300,-0.0]"
    assert data_text(np.array([0.1, np.nan, np.inf, -np.inf], np.float32)) == b"[0.1,NaN,Infinity,-Infinity]"
    assert data_text(np.array([2**64 - 1], np.uint64)) == b"[18446744073709551615]"
    assert data_text(np.array([True, False])) == b"[true,false]"
    assert data_text(np.array([b"a\n", "ü".encode()], object)) == '["a\\n","ü"]'.encode()


def test_bytes_that_are_no_text_are_not_put_into_json() -> None:
    with pytest.raises(EdgeError, match="ask for them with 'binary_data'"):
        reply_to({}, y=np.array([b"\xff"], object))


def test_a_compressed_reply_is_one_that_tritonclient_reads() -> None:
    array = np.zeros((100, 3), np.float32)
    headers, body = reply_to({"parameters": {"binary_data_output": True}}, y=array)
    for encoding in ("gzip", "deflate"):
        packed_headers, packed = compress(headers, body, negotiate(encoding))
        assert packed_headers["Content-Encoding"] == encoding
        assert len(packed) < len(body)
        result = InferenceServerClient.parse_response_body(
            packed, header_length=int(packed_headers[HEADER]), content_encoding=encoding
        )
        assert np.array_equal(result.as_numpy("y"), array)
