"""Bodies that tritonclient builds are read, and ours it can read; bodies that lie about themselves are refused."""

import json
from typing import Any

import numpy as np
import pytest
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import np_to_triton_dtype

from edge.domain.errors import InvalidInput
from edge.domain.models import ImageOptions, ModelId, ModelSpec
from edge.domain.requests import PredictResponse, Target
from edge.domain.tensors import Array, DType, Signature, TensorSpec
from edge.wire.v2_reply import encode_infer
from edge.wire.v2_request import ParsedInfer, parse_header_length, parse_infer

SPEC = ModelSpec("m")
HEADER = "Inference-Header-Content-Length"

ARRAYS: list[Array] = [
    *(
        np.arange(-3 if np.dtype(kind).kind in "if" else 0, 3 if np.dtype(kind).kind in "if" else 6)
        .reshape(2, 3)
        .astype(kind)
        for kind in ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
    ),
    np.array([[0.1, -2.5, 1e-40], [3e38, 0.0, 7.0]], np.float32),
    np.array([[0.1, -2.5, 1e-300], [3e38, 0.0, 7.0]], np.float64),
    np.array([[0.1, -2.5, 6e-8], [65504, 0.0, 7.0]], np.float16),
    np.array([[True, False, True], [False, False, True]]),
    np.array([[b"", b"a\0", b"\xff\xfe"], ["ü".encode(), b"long " * 50, b'"']], object),
]


def echo(dtype: DType, shape: tuple[int, ...] | None) -> Target:
    """A model with one input `x` and one output `x`, of one type."""
    specs = {"x": TensorSpec("x", dtype, shape)}
    return Target(ModelId("m", 1), Signature("serving_default", specs, specs), ImageOptions())


def built(array: Array, *, binary: bool, outputs: list[Any] | None = None, **more: Any) -> tuple[bytes, int | None]:
    tensor = InferInput("x", list(array.shape), np_to_triton_dtype(array.dtype))
    tensor.set_data_from_numpy(array, binary_data=binary)
    body, length = InferenceServerClient.generate_request_body([tensor], outputs, **more)
    return body, length


def answered(parsed: ParsedInfer, target: Target) -> Any:
    """Our reply to an echo of the request, as tritonclient reads it."""
    response = PredictResponse(target.model, target.signature, parsed.payload.bind(target))
    headers, body = encode_infer(response, parsed)
    length = int(headers[HEADER]) if HEADER in headers else None
    return InferenceServerClient.parse_response_body(body, header_length=length)


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: str(array.dtype))
def test_a_binary_tensor_of_every_type_goes_there_and_back(array: Array) -> None:
    body, length = built(array, binary=True)
    target = echo(DType.of(array), (-1, 3))
    result = answered(parse_infer(body, length, SPEC), target)
    assert result.get_output("x")["parameters"]["binary_data_size"] > 0
    assert np.array_equal(result.as_numpy("x"), array)
    assert result.as_numpy("x").dtype == array.dtype


@pytest.mark.parametrize("array", ARRAYS[:-1], ids=lambda array: str(array.dtype))
def test_a_json_tensor_of_every_type_goes_there_and_back(array: Array) -> None:
    body = json.dumps(
        {
            "inputs": [
                {"name": "x", "shape": [2, 3], "datatype": np_to_triton_dtype(array.dtype), "data": array.tolist()}
            ],
            "outputs": [{"name": "x", "parameters": {"binary_data": False}}],
        }
    ).encode()
    result = answered(parse_infer(body, None, SPEC), echo(DType.of(array), (-1, 3)))
    assert "data" in result.get_output("x")
    assert np.array_equal(result.as_numpy("x"), array)


def test_text_goes_there_and_back_as_json_beside_numbers() -> None:
    specs = {"t": TensorSpec("t", DType.STRING, (-1,)), "n": TensorSpec("n", DType.INT32, (-1,))}
    target = Target(ModelId("m", 1), Signature("s", specs, specs), ImageOptions())
    body = json.dumps(
        {
            "inputs": [
                {"name": "t", "shape": [2], "datatype": "BYTES", "data": ['ü]"', "[1]"]},
                {"name": "n", "shape": [2], "datatype": "INT32", "data": [[1], [2]]},
            ]
        }
    ).encode()
    result = answered(parse_infer(body, None, SPEC), target)
    assert result.get_output("t")["data"] == ['ü]"', "[1]"]
    assert result.get_output("n")["data"] == [1, 2]


def test_numbers_are_read_where_they_lie() -> None:
    array = np.arange(96 * 96 * 3, dtype=np.uint8).reshape(1, 96, 96, 3)
    body, length = built(array, binary=True)
    bound = parse_infer(body, length, SPEC).payload.bind(echo(DType.UINT8, (-1, 96, 96, 3)))["x"]
    assert np.shares_memory(bound, np.frombuffer(body, np.uint8))
    assert not bound.flags.writeable


def test_outputs_without_a_wish_follow_the_requests_own() -> None:
    array = np.ones((1, 3), np.float32)
    target = echo(DType.FLOAT32, (-1, 3))
    plain, length = built(array, binary=True, outputs=[InferRequestedOutput("x", binary_data=False)])
    assert answered(parse_infer(plain, length, SPEC), target).get_output("x")["data"] == [1.0, 1.0, 1.0]
    asked = b'{"parameters":{"binary_data_output":true},"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":[1,1,1]}]'
    for outputs, binary in ((b"}", True), (b',"outputs":[{"name":"x"}]}', True)):
        found = answered(parse_infer(asked + outputs, None, SPEC), target).get_output("x")
        assert ("parameters" in found) is binary
    against = asked + b',"outputs":[{"name":"x","parameters":{"binary_data":false}}]}'
    assert "data" in answered(parse_infer(against, None, SPEC), target).get_output("x")


def test_everything_that_tritonclient_may_send_along_is_understood_or_tolerated() -> None:
    body, length = built(
        np.ones((1, 3), np.float32),
        binary=True,
        request_id="ü 7",
        sequence_id=3,
        sequence_start=True,
        priority=2,
        timeout=1_500_000,
        parameters={"dequantize": True, "signature_name": "other", "mine": 1.5},
    )
    parsed = parse_infer(body, length, SPEC)
    assert (parsed.id, parsed.dequantize, parsed.signature_name, parsed.binary) == ("ü 7", True, "other", True)
    request = parsed.request(SPEC, now=10.0)
    assert (request.deadline, request.dequantize, request.signature_name) == (11.5, True, "other")
    assert parsed.request(SPEC, now=10.0, deadline=11.0).deadline == 11.0
    assert answered(parsed, echo(DType.FLOAT32, (-1, 3))).get_response()["id"] == "ü 7"


def test_two_binary_inputs_and_one_in_json_are_told_apart() -> None:
    specs = {name: TensorSpec(name, DType.INT16, (-1,)) for name in "abc"}
    target = Target(ModelId("m", 1), Signature("s", specs, specs), ImageOptions())
    head = json.dumps(
        {
            "inputs": [
                {"name": "b", "shape": [2], "datatype": "INT16", "parameters": {"binary_data_size": 4}},
                {"name": "c", "shape": [1], "datatype": "INT16", "data": [7]},
                {"name": "a", "shape": [1], "datatype": "INT16", "parameters": {"binary_data_size": 2}},
            ]
        }
    ).encode()
    bound = parse_infer(head + b"\1\0\2\0\3\0", len(head), SPEC).payload.bind(target)
    assert {name: array.tolist() for name, array in bound.items()} == {"a": [3], "b": [1, 2], "c": [7]}


@pytest.mark.parametrize(
    ("shape", "count", "bound"),
    [((1, 2), 2, (1, 2)), ((-1, 2), 2, (1, 2)), ((-1, 2), 6, (3, 2)), ((2, -1), 4, (2, 2)), ((), 1, ())],
)
def test_a_raw_body_takes_the_signatures_shape(shape: tuple[int, ...], count: int, bound: tuple[int, ...]) -> None:
    parsed = parse_infer(np.ones(count, np.float32).tobytes(), 0, SPEC)
    assert parsed.payload.bind(echo(DType.FLOAT32, shape))["x"].shape == bound
    assert parsed.binary


def test_a_raw_body_is_one_element_of_a_model_of_bytes() -> None:
    bound = parse_infer(b"a picture", 0, SPEC).payload.bind(echo(DType.STRING, (-1, 1)))["x"]
    assert bound.tolist() == [[b"a picture"]]


RAW = [
    (DType.FLOAT32, (-1, 1), b"abc", "input byte size mismatch for input 'raw_input' for model 'm'. Expected 4, got 3"),
    (DType.FLOAT32, (-1, -1), b"abcd", "The shape of the raw input 'x' can not be deduced because there are more than"),
    (DType.FLOAT32, None, b"abcd", "The shape of the raw input 'x' can not be deduced because there are more than"),
    (DType.STRING, (2,), b"abcd", "For BYTE datatype raw input 'x', the model must have input shape [1]"),
]


@pytest.mark.parametrize(("dtype", "shape", "body", "error"), RAW)
def test_a_raw_body_that_no_shape_fits_is_refused(
    dtype: DType, shape: tuple[int, ...] | None, body: bytes, error: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_infer(body, 0, SPEC).payload.bind(echo(dtype, shape))
    assert caught.value.message.startswith("[request id: <id_unknown>] " + error)


def _head(datatype: str, shape: list[int], size: Any, **more: Any) -> bytes:
    return json.dumps(
        {
            "inputs": [{"name": "x", "shape": shape, "datatype": datatype, "parameters": {"binary_data_size": size}}],
            **more,
        }
    ).encode()


LIES = [
    (_head("FP32", [2], 8), b"\0" * 4, "unexpected size for input 'x', expecting 4 additional bytes for model 'm'"),
    (_head("FP32", [2], 8), b"\0" * 12, "unexpected additional input data for model 'm'"),
    (
        _head("FP32", [2], 4),
        b"\0" * 4,
        "[request id: <id_unknown>] input byte size mismatch for input 'x' for model 'm'. Expected 8, got 4",
    ),
    (
        _head("FP32", [2], 12, id="7"),
        b"\0" * 12,
        "[request id: 7] input byte size mismatch for input 'x' for model 'm'. Expected 8, got 12",
    ),
    (_head("FP32", [0], 4), b"\0" * 4, "[request id: <id_unknown>] input byte size mismatch for input 'x' for model 'm'"),
    (_head("FP32", [2], -8), b"", "Unable to parse 'binary_data_size': attempt to access JSON non-unsigned-integer"),
    (_head("FP32", [2], "8"), b"", "Unable to parse 'binary_data_size': attempt to access JSON non-unsigned-integer"),
    (_head("FP32", [2], 2**63), b"", "Unable to parse 'binary_data_size': want at most 9223372036854775807"),
    (_head("FP32", [2**62], 8), b"\0" * 8, "invalid shape for input 'x': shape [4611686018427387904] causes total"),
    (_head("FP32", [0, 2**62, 2**62], 0), b"", "invalid shape for input 'x': shape [0,4611686018427387904"),
    (_head("FP32", [2**63], 8), b"\0" * 8, "Unable to parse 'shape': want at most 9223372036854775807"),
    (_head("FP32", [1] * 33, 4), b"\0" * 4, "Unable to parse 'shape': want at most 32 elements, got 33"),
]  # fmt: skip


@pytest.mark.parametrize(("head", "tail", "error"), LIES)
def test_sizes_that_lie_are_refused(head: bytes, tail: bytes, error: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_infer(head + tail, len(head), SPEC).payload.bind(echo(DType.FLOAT32, None))
    assert caught.value.message.startswith(error)


@pytest.mark.parametrize(
    ("tail", "error"),
    [
        (b"\1\0\0", "element 0: want a length of 4 bytes, got 3"),
        (b"\2\0\0\0a", "element 0: want 2 bytes, got 1"),
        (b"\xff\xff\xff\xffa", "element 0: want 4294967295 bytes, got 1"),
        (b"\1\0\0\0a", "want 2 elements, got 1"),
        (b"\0" * 12, "want 2 elements, got more"),
    ],
)
def test_lengths_of_bytes_that_lie_are_refused(tail: bytes, error: str) -> None:
    head = _head("BYTES", [2], len(tail))
    with pytest.raises(InvalidInput) as caught:
        parse_infer(head + tail, len(head), SPEC).payload.bind(echo(DType.STRING, (-1,)))
    assert caught.value.message.endswith(f"BYTES of input 'x' for model 'm': {error}")


@pytest.mark.parametrize("length", [-1, 103, 99999])
def test_a_header_length_beyond_the_body_is_refused(length: int) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_infer(b"{" * 102, length, SPEC)
    assert caught.value.message == f"inference header size should be in range (0, 102), got: {length}"


def test_a_header_length_is_digits_and_no_more_than_fit() -> None:
    assert parse_header_length("17") == 17
    for wrong in ("", "-1", "1.0", "²", "abc", "9" * 5_000):
        with pytest.raises(InvalidInput) as caught:
            parse_header_length(wrong)
        assert caught.value.message == f"Unable to parse {HEADER}, got: {wrong}"


def test_a_bool_is_true_for_every_byte_but_0() -> None:
    head = _head("BOOL", [3], 3)
    bound = parse_infer(head + b"\0\1\2", len(head), SPEC).payload.bind(echo(DType.BOOL, (-1,)))["x"]
    assert bound.view(np.uint8).tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    ("more", "error"),
    [
        (
            '"parameters":{"shared_memory_region":"r","shared_memory_byte_size":4}',
            "shared memory regions are not supported; send tensors as 'data' or with 'binary_data_size'",
        ),
        (
            '"data":[1],"parameters":{"binary_data_size":4}',
            "Input must set only one of the following fields: 'data', 'binary_data_size' in 'parameters', "
            "'shared_memory_region' in 'parameters'. But set 'data' 'binary_data_size'",
        ),
    ],
)
def test_an_input_comes_in_one_way_that_is_served(more: str, error: str) -> None:
    body = '{"inputs":[{"name":"x","shape":[1],"datatype":"FP32",' + more + "}]}"
    with pytest.raises(InvalidInput) as caught:
        parse_infer(body.encode(), None, SPEC)
    assert caught.value.message == error


def test_an_output_into_shared_memory_is_refused() -> None:
    body = b'{"inputs":[],"outputs":[{"name":"x","parameters":{"shared_memory_region":"r"}}]}'
    with pytest.raises(InvalidInput, match="shared memory regions are not supported"):
        parse_infer(body, None, SPEC)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ('{"inputs":[%s,%s]}', "[request id: <id_unknown>] input 'x' already exists in request"),
        ('{"id":"7","inputs":[%s],"outputs":[{"name":"x"},{"name":"x"}]}', "[request id: 7] output 'x' already exists in request"),
    ],
)  # fmt: skip
def test_a_name_comes_once(body: str, error: str) -> None:
    one = '{"name":"x","shape":[1],"datatype":"FP32","data":[1]}'
    with pytest.raises(InvalidInput) as caught:
        parse_infer(body.replace("%s", one).encode(), None, SPEC)
    assert caught.value.message == error
