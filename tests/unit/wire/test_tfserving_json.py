"""The order of checks, the texts and the conversions of a predict request."""

import gzip
from typing import Any

import numpy as np
import pytest

from edge.domain.errors import InvalidInput, TooLarge, Unsupported
from edge.domain.requests import Target
from edge.domain.tensors import DType
from edge.wire.tfserving_json import SLOW_BYTES, parse_predict, read_body
from tests.unit.wire.targets import target

F, I32, U8, S, B = DType.FLOAT32, DType.INT32, DType.UINT8, DType.STRING, DType.BOOL
ONE = target(x=F)
TWO = target(a=F, b=I32)


def bind(body: bytes, to: Target = ONE) -> dict[str, Any]:
    return {name: array.tolist() for name, array in parse_predict(body).payload.bind(to).items()}


BEFORE_THE_MODEL = [
    (b"", "JSON Parse error: The document is empty"),
    (b" ", "JSON Parse error: The document is empty. at offset: 1"),
    (b"instances = [1, 2]", "JSON Parse error: Invalid value. at offset: 0"),
    (b"[1, 2.5]", "JSON Value: [1, 2.5] Is not object"),
    (b'"a"', 'JSON Value: "a" Is not object'),
    (
        b'{"signature_name": 5, "instances": [1]}',
        'JSON Value: {\n    "signature_name": 5,\n    "instances": [1]\n} not formatted correctly. '
        "'signature_name' key must be a string value.",
    ),
]

WITH_THE_MODEL = [
    (ONE, b"{}", "Missing 'inputs' or 'instances' key"),
    (target(), b'{"instances": [1]}', "Failed to get input map for signature: DEFAULT"),
    (target(), b'{"inputs": {}, "signature_name": "s"}', "Failed to get input map for signature: s"),
    (
        ONE,
        b'{"instances": [1], "inputs": [1]}',
        'JSON Value: {\n    "instances": [1],\n    "inputs": [1]\n} Not formatted correctly expecting only one of '
        "'inputs' or 'instances' keys to exist ",
    ),
    (ONE, b'{"instances": 1}', "JSON Value: {\n    \"instances\": 1\n} Expecting 'instances' to be an list/array"),
    (ONE, b'{"instances": []}', "JSON Value: {\n    \"instances\": []\n} No values in 'instances' array"),
    (
        TWO,
        b'{"instances": [1]}',
        "instances is a plain list, but expecting list of objects as multiple input tensors required as per tensorinfo_map",
    ),
    (TWO, b'{"instances": [{"a": 1, "b": 1}, [1]]}', "Expecting object but got list at item 1 of input list"),
    (ONE, b'{"instances": [1, {"x": 1}]}', "Expecting value/list but got object at item 1 of input list"),
    (
        TWO,
        b'{"instances": [{"a": 1, "b": 1.0}]}',
        "Failed to process element: 0 key: b of 'instances' list. Error: INVALID_ARGUMENT: "
        "JSON Value: 1.0 Type: Number is not of expected type: int32",
    ),
    (
        target(a=DType.FLOAT16),
        b'{"instances": [{"a": 1}]}',
        "Failed to process element: 0 key: a of 'instances' list. Error: UNIMPLEMENTED: "
        "Conversion of JSON Value: 1 to type: half",
    ),
    (
        ONE,
        b'{"instances": [1, "a"]}',
        "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: "
        'JSON Value: "a" Type: String is not of expected type: float',
    ),
    (
        TWO,
        b'{"instances": [{"b": 1}]}',
        "Failed to process element: 0 of 'instances' list. JSON object: {\n    \"b\": 1\n} keys must be equal to: a,b",
    ),
    (
        ONE,
        b'{"instances": [{"y": 1}]}',
        "Failed to process element: 0 key: y of 'instances' list. Error: INVALID_ARGUMENT: "
        "JSON object: does not have named input: y",
    ),
    (ONE, b'{"inputs": [[1, 2], 3]}', "JSON Value: 3 found at incorrect level: 2 in the JSON DOM. Expected at level: 2"),
    (ONE, b'{"inputs": [1, [2]]}', "Encountered list at unexpected level: 1 expected < 1"),
    (ONE, b'{"inputs": [[1, 2], [3]]}', "Encountered list at unexpected size: 1 at level: 1 expected size: 2"),
    (
        ONE,
        b'{"instances": [[1, 2], [3]]}',
        "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: Expecting tensor size: 2 but got: 1",
    ),
    (
        ONE,
        b'{"instances": [[[1, 2]], [[1], [2]]]}',
        "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: "
        "Expecting shape [1,2] but got: [2,1]",
    ),
    (
        TWO,
        b'{"inputs": [1]}',
        "inputs is a plain value/list, but expecting an object as multiple input tensors required as per tensorinfo_map",
    ),
    (TWO, b'{"inputs": {"b": 1}}', "Missing named input: a in 'inputs' object."),
    (ONE, b'{"inputs": [true]}', "JSON Value: true Type: True is not of expected type: float"),
    (ONE, b'{"inputs": [null]}', "JSON Value: null Type: Null is not of expected type: float"),
    (ONE, b'{"inputs": {"x": {"y": 1}}}', 'JSON Value: {\n    "y": 1\n} Type: Object is not of expected type: float'),
    (target(x=B), b'{"inputs": [1]}', "JSON Value: 1 Type: Number is not of expected type: bool"),
    (target(x=S), b'{"inputs": [1]}', "JSON Value: 1 Type: Number is not of expected type: string"),
    (target(x=S), b'{"inputs": [{"b64": 1}]}', 'JSON Value: {\n    "b64": 1\n} not formatted correctly for base64 data'),
    (target(x=S), b'{"inputs": [{"b64": "*"}]}', "Unable to base64 decode"),
    (target(x=U8), b'{"inputs": [300]}', "JSON Value: 300 is out of range for uint8"),
    (target(x=U8), b'{"inputs": [-1]}', "JSON Value: -1 is out of range for uint8"),
    (target(x=U8), b'{"inputs": [4294967296]}', "JSON Value: 4294967296 Type: Number is not of expected type: uint8"),
    (target(x=I32), b'{"inputs": [2147483648]}', "JSON Value: 2147483648 Type: Number is not of expected type: int32"),
    (target(x=DType.UINT32), b'{"inputs": [-1]}', "JSON Value: -1 Type: Number is not of expected type: uint32"),
    (target(x=DType.INT64), b'{"inputs": [1e3]}', "JSON Value: 1000.0 Type: Number is not of expected type: int64"),
    (ONE, b'{"inputs": ' + b"[" * 40 + b"1" + b"]" * 40 + b"}", "want at most 32 dimensions, got 40"),
]  # fmt: skip

BOUND = [
    (ONE, b'{"instances": [1, 2.5, 3]}', {"x": [1.0, 2.5, 3.0]}),
    (ONE, b'{"instances": [[1], [2]]}', {"x": [[1.0], [2.0]]}),
    (ONE, b'{"instances": [{"x": 1}, {"x": 2}]}', {"x": [1.0, 2.0]}),
    (TWO, b'{"instances": [{"a": [1], "b": 2}, {"b": 4, "a": [3]}]}', {"a": [[1.0], [3.0]], "b": [2, 4]}),
    (ONE, b'{"inputs": 1}', {"x": 1.0}),
    (ONE, b'{"inputs": [[1, 2]]}', {"x": [[1.0, 2.0]]}),
    (ONE, b'{"inputs": {"x": [1]}}', {"x": [1.0]}),
    (TWO, b'{"inputs": {"a": [1], "b": [2, 3], "c": "ignored"}}', {"a": [1.0], "b": [2, 3]}),
    (ONE, b'{"instances": [NaN, Infinity, -Inf, 1e39]}', {"x": [np.nan, np.inf, -np.inf, np.inf]}),
    (ONE, b'{"instances": [18446744073709551616]}', {"x": [float(2**64)]}),
    (ONE, b'{"other": [1], "instances": [1]} tail', {"x": [1.0]}),
    (ONE, b'{"instances": [1], "instances": [2]}', {"x": [1.0]}),
    (ONE, b'\xef\xbb\xbf{"instances": [1]}', {"x": [1.0]}),
    (ONE, b'{"instances": [[], []]}', {"x": [[], []]}),
    (target(x=B), b'{"instances": [true, false]}', {"x": [True, False]}),
    (target(x=U8), b'{"instances": [[0, 255]]}', {"x": [[0, 255]]}),
    (target(x=DType.UINT64), b'{"inputs": [18446744073709551615]}', {"x": [2**64 - 1]}),
    (target(x=S), b'{"instances": ["a", "\xc3\xa9", "\xff", "\\u0000"]}', {"x": [b"a", b"\xc3\xa9", b"\xff", b"\0"]}),
    (target(x=S), b'{"instances": [{"b64": "aGk="}, {"b64": "aGk"}, "x"]}', {"x": [b"hi", b"hi", b"x"]}),
    (target(x=S), b'{"inputs": {"b64": "aGk="}}', {"x": b"hi"}),
    (target(b64=S), b'{"instances": [{"b64": "aGk="}]}', {"b64": [b"hi"]}),
]  # fmt: skip


@pytest.mark.parametrize(("body", "message"), BEFORE_THE_MODEL)
def test_a_body_that_is_wrong_for_every_model_is_refused_without_one(body: bytes, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_predict(body)
    assert caught.value.message == message


@pytest.mark.parametrize(("to", "body", "message"), WITH_THE_MODEL)
def test_what_does_not_fit_the_signature_is_refused_in_the_contracts_words(
    to: Target, body: bytes, message: str
) -> None:
    parsed = parse_predict(body)
    with pytest.raises(InvalidInput) as caught:
        parsed.payload.bind(to)
    assert caught.value.message == message


@pytest.mark.parametrize(("to", "body", "tensors"), BOUND)
def test_values_become_the_signatures_tensors(to: Target, body: bytes, tensors: dict[str, Any]) -> None:
    assert repr(bind(body, to)) == repr(tensors)


def test_arrays_have_the_signatures_types_and_a_batch_dimension_in_row_format_only() -> None:
    for dtype in (dtype for dtype in DType if dtype not in (S, B, DType.FLOAT16)):
        array = parse_predict(b'{"instances": [[1, 2], [3, 4], [5, 6]]}').payload.bind(target(x=dtype))["x"]
        assert (array.dtype, array.shape) == (dtype.numpy, (3, 2))
    assert parse_predict(b'{"instances": ["a"]}').payload.bind(target(x=S))["x"].dtype == object
    assert parse_predict(b'{"inputs": 3}').payload.bind(ONE)["x"].shape == ()


def test_half_is_unsupported_in_columns() -> None:
    with pytest.raises(Unsupported, match="Conversion of JSON Value: 1 to type: half"):
        bind(b'{"inputs": [1]}', target(x=DType.FLOAT16))


def test_the_format_and_the_signature_are_known_before_the_model() -> None:
    row = parse_predict(b'{"signature_name": "s", "instances": [1]}')
    assert (row.signature_name, row.row) == ("s", True)
    column = parse_predict(b'{"inputs": {"x": "y"}}')
    assert (column.signature_name, column.row) == ("", False)
    assert parse_predict(b"{}").row is False


def test_a_value_in_a_message_is_cut_off_after_256_bytes() -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_predict(b"[" + b"1234567890, " * 100_000 + b"1]")
    assert caught.value.message == "JSON Value: [" + ", ".join(["1234567890"] * 22) + " Is not object"
    with pytest.raises(InvalidInput) as caught:
        parse_predict(b"[1, NaN, 2]")
    assert caught.value.message == "JSON Value: [1,  Is not object"


@pytest.mark.parametrize(
    ("number", "text"),
    [("1e0", "1.0"), ("-0.0", "-0.0"), ("1e-7", "1e-7"), ("0.000001", "0.000001"), ("1e20", "100000000000000000000.0"),
     ("1.5e22", "1.5e22"), ("1e21", "1e21"), ("-123.25", "-123.25"), ("5e-324", "5e-324")],
)  # fmt: skip
def test_doubles_in_messages_are_written_as_rapidjson_does(number: str, text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_predict(number.encode())
    assert caught.value.message == f"JSON Value: {text} Is not object"


def test_only_a_large_body_that_needs_the_exact_reader_is_slow() -> None:
    large = b'{"instances": [' + b'"a", ' * SLOW_BYTES + b'"a"]}'
    assert parse_predict(large).payload.slow
    assert parse_predict(large.replace(b"{", b'{"other": 1, ')).payload.slow
    assert parse_predict(b'{"instances": [' + b'{"x": 1}, ' * SLOW_BYTES + b'{"x": 1}]}').payload.slow
    assert not parse_predict(b'{"other": 1, "instances": [1]}').payload.slow
    assert not parse_predict(b'{"instances": [' + b"1.5, " * SLOW_BYTES + b"1]}").payload.slow
    assert parse_predict(b'{"instances": [1]}').payload.size == 18


def test_a_corrupt_encoding_counts_as_an_empty_body() -> None:
    body = b'{"instances": [1]}'
    assert read_body(gzip.compress(body), "gzip", 100) == body
    assert read_body(b"\x1f\x8bnonsense", "x-gzip", 100) == b""
    with pytest.raises(TooLarge):
        read_body(gzip.compress(b"a" * 101), "gzip", 100)
