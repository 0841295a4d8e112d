"""`data` in JSON: what may be nested how, which numbers fit, and that no text breaks the reader."""

import json
import threading

import numpy as np
import pytest

from edge.domain.errors import EdgeError, InvalidInput
from edge.domain.tensors import Array, DType, Shape
from edge.wire import v2_arrays
from edge.wire.v2_arrays import MISFIT, from_objects, from_text
from edge.wire.v2_datatypes import NAMES
from edge.wire.v2_head import read_head
from edge.wire.v2_request import parse_infer
from tests.unit.wire.test_v2_binary import SPEC, echo


def read(data: str, dtype: DType, shape: Shape) -> Array:
    """`data` through a whole request of one input."""
    body = f'{{"inputs":[{{"name":"x","shape":{list(shape)},"datatype":"{NAMES[dtype]}","data":{data}}}]}}'
    return parse_infer(body.encode(), None, SPEC).payload.bind(echo(dtype, None))["x"]


def refusal(data: str, dtype: DType, shape: Shape) -> str:
    with pytest.raises(InvalidInput) as caught:
        read(data, dtype, shape)
    return caught.value.message


NESTINGS = [
    ((2, 3), [[1, 2, 3], [4, 5, 6]]),
    ((2, 3), [1, 2, 3, 4, 5, 6]),
    ((2, 3, 1), [[1, 2, 3], [4, 5, 6]]),
    ((2, 3), [[[1], [2], [3]], [[4], [5], [6]]]),
    ((1, 2, 3), [[1, 2, 3], [4, 5, 6]]),
    ((2, 3, 2), [[1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 11, 12]]),
    ((2, 3, 2), [[1, 2], [3, 4], [5, 6], [7, 8], [9, 10], [11, 12]]),
    ((), [5]),
    ((1,), [[[5]]]),
    ((0,), []),
    ((2, 0), [[], []]),
    ((0, 3), []),
]


@pytest.mark.parametrize(("shape", "data"), NESTINGS)
@pytest.mark.parametrize("spaced", [False, True])
def test_data_may_be_nested_as_the_shape_is_or_less(shape: Shape, data: list[object], spaced: bool) -> None:
    text = json.dumps(data, indent=1) if spaced else json.dumps(data, separators=(",", ":"))
    wanted = np.array(data).reshape(shape)
    for dtype in (DType.UINT8, DType.INT64, DType.FLOAT32):
        got = read(text, dtype, shape)
        assert (got.shape, got.dtype) == (shape, dtype.numpy)
        assert np.array_equal(got, wanted)
        assert np.array_equal(from_objects(data, dtype, shape), wanted)


MISFITS = [
    ((2, 3), "[1,2,3,4,5]"),
    ((2, 3), "[1,2,3,4,5,6,7]"),
    ((2, 3), "[[1,2],[3,4],[5,6]]"),
    ((2, 3), "[[1,2,3],[4,5]]"),
    ((2, 3), "[[1,2,3,4],[5,6]]"),
    ((2, 3), "[[1,2,3],[4,5],[6]]"),
    ((2, 3), "[[1,2,3],4,5,6]"),
    ((2, 3), "[1,2,3,[4,5,6]]"),
    ((2, 3), "[[1,2,3],[4,[5,6]]]"),
    ((4,), "[[[1]],[[2]],[[3],[4]]]"),
    ((2, 0), "[[],[1]]"),
    ((2, 2), "[[],[1,2,3,4]]"),
    ((1,), "[]"),
    ((0,), "[1]"),
    ((1,), "[" * 40 + "1" + "]" * 40),
    ((2, 9), "[[1,2,3,4,5,6,7,8,9],[[[[[[[[[1,2,3,4,5,6,7,8,9]]]]]]]]]]"),
]


@pytest.mark.parametrize(("shape", "text"), MISFITS)
def test_lists_of_another_count_or_of_uneven_lengths_are_refused(shape: Shape, text: str) -> None:
    for dtype in (DType.UINT8, DType.FLOAT32):
        assert refusal(text, dtype, shape) == MISFIT
        with pytest.raises(InvalidInput, match="Shape does not match"):
            from_objects(json.loads(text), dtype, shape)


@pytest.mark.parametrize("data", ["null", "0", '"0"', "{}", '{"0":1}', "true"])
def test_data_that_are_no_array_are_not_taken_for_an_array_that_stands_elsewhere(data: str) -> None:
    body = f'{{"data":[7],"inputs":[{{"name":"x","shape":[1],"datatype":"FP32","data":{data}}}]}}'
    parsed = parse_infer(body.encode(), None, SPEC)
    with pytest.raises(InvalidInput, match="Unable to parse 'data': attempt to access JSON non-array as array"):
        parsed.payload.bind(echo(DType.FLOAT32, None))


def test_an_integer_of_any_length_is_refused() -> None:
    with pytest.raises(InvalidInput, match="a number of more than 80 bits is out of range: want UINT64 from 0 to "):
        from_objects([10**4000], DType.UINT64, (1,))


def test_a_few_deep_lists_do_not_make_us_write_out_what_they_promise() -> None:
    text = b"[" + b"[" * 31 + b"1" + b"]" * 31 + b",1" * 9_999 + b"]"
    with pytest.raises(InvalidInput):
        from_text(text, DType.UINT8, (10_000,))
    empties = b"[[" + b"[]," * 999 + b"[]]" + b",[]" * 999 + b"]"
    assert from_text(empties, DType.UINT8, (1_000, 1_000, 0)) is None


@pytest.mark.parametrize(
    ("dtype", "text", "error"),
    [
        (DType.UINT8, "[256]", "256 is out of range: want UINT8 from 0 to 255"),
        (DType.UINT8, "[-1]", "attempt to access JSON non-unsigned-integer as unsigned-integer"),
        (DType.UINT8, "[1.5]", "attempt to access JSON non-unsigned-integer as unsigned-integer"),
        (DType.UINT8, "[1.0]", "attempt to access JSON non-unsigned-integer as unsigned-integer"),
        (DType.UINT8, "[true]", "attempt to access JSON non-unsigned-integer as unsigned-integer"),
        (DType.INT8, "[-129]", "-129 is out of range: want INT8 from -128 to 127"),
        (DType.INT8, "[128]", "128 is out of range: want INT8 from -128 to 127"),
        (DType.INT32, "[null]", "attempt to access JSON non-signed-integer as signed-integer"),
        (
            DType.INT64,
            "[9223372036854775808]",
            "9223372036854775808 is out of range: want INT64 from -9223372036854775808 to 9223372036854775807",
        ),
        (DType.UINT64, f"[{2**64}]", "attempt to access JSON non-unsigned-integer as unsigned-integer"),
        (DType.BOOL, "[1]", "attempt to access JSON non-boolean as boolean"),
        (DType.STRING, "[1]", "attempt to access JSON non-string as string"),
        (DType.FLOAT32, '["1"]', "attempt to access JSON non-number as double"),
        (DType.FLOAT32, "[true]", "attempt to access JSON non-number as double"),
        (DType.FLOAT32, "[{}]", "attempt to access JSON non-number as double"),
        (DType.FLOAT32, "{}", "attempt to access JSON non-array as array"),
        (DType.FLOAT32, "1", "attempt to access JSON non-array as array"),
    ],
)
def test_what_an_element_type_cannot_hold_is_refused(dtype: DType, text: str, error: str) -> None:
    assert refusal(text, dtype, (1,)) == "Unable to parse 'data': " + error


@pytest.mark.parametrize(
    ("dtype", "text", "value"),
    [
        (DType.UINT64, "[18446744073709551615]", 2**64 - 1),
        (DType.INT64, "[-9223372036854775808]", -(2**63)),
        (DType.INT8, "[-128]", -128),
        (DType.BOOL, "[true]", True),
        (DType.FLOAT32, "[-Infinity]", -np.inf),
        (DType.FLOAT32, "[-1e39]", -np.inf),
        (DType.FLOAT32, "[0.1]", np.float32(0.1)),
        (DType.FLOAT32, f"[{2**64}]", np.float32(2**64)),
        (DType.FLOAT64, "[0.1]", 0.1),
        (DType.FLOAT16, "[1e9]", np.inf),
        (DType.FLOAT32, "[7]", 7.0),
    ],
)
def test_the_limits_of_an_element_type_are_kept(dtype: DType, text: str, value: object) -> None:
    assert read(text, dtype, (1,))[0] == value


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"inputs":' * 100_000,
        b'{"inputs":[],"z":' + b"[" * 100_000,
        b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":' + b"[" * 100_000 + b"]" * 100_000 + b"}]}",
        b'"data":[' * 10_000,
        b'{"inputs":[' + b'{"data":[1]},' * 2_000 + b"{}]}",
        b'{"inputs":[' + b"{}," * 2_000 + b"{}]}",
        b"\xff",
        b'{"inputs":[],"z":"\xff"}',
        b'{"inputs":[],"id":"\xff"}',
        b'{"inputs":[],"id":"\\ud800"}',
        b'{"inputs":[],"id":"\\ud800","z":NaN}',
        b'{"inputs":[],"z":1e400,"y":NaN}',
        b'{"inputs":[{"name":"\\ud800","shape":[1],"datatype":"FP32","data":[NaN]}]}',
        b"\xfe\xff\0{\0}",
        b"null",
        b"1" * 5_000,
        b" ",
        b'{"inputs":[1]}',
        b'{"inputs":[null]}',
        b'{"inputs":{}}',
        b'{"inputs":[],"outputs":[1]}',
        b'{"inputs":[],"parameters":{"timeout":-1}}',
        b'{"inputs":[],"parameters":{"binary_data_output":1}}',
    ],
)
def test_no_text_breaks_the_reader(body: bytes) -> None:
    with pytest.raises(EdgeError):
        parse_infer(body, None, SPEC).payload.bind(echo(DType.FLOAT32, None))


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("{", "Missing a name for object member. at 1"),
        (" ", "The document is empty. at 1"),
        ('{"inputs": [1,2}', "Missing a comma or ']' after an array element. at 15"),
        ('{"a": "]}[", "inputs": [{"a": [1]] ', "Missing a comma or '}' after an object member. at 33"),
        ('{"a" 1}', "Missing a colon after a name of object member. at 5"),
        ('{"a":"\\x"}', "Invalid escape character in string. at 6"),
        ('{"inputs":[]} x', "The document root must not be followed by other values. at 14"),
        ('{"a":1e400}', "Number too big to be stored in double. at 5"),
        ('{"a":"é",}', "Missing a name for object member. at 10"),
        ('{"a":"\\ud800"}', "The surrogate pair in string is invalid. at 6"),
        ("[" * 100_000, "Nested deeper than 64 levels. at 64"),
        (f"[{10**400}]", "Number too big to be stored in double. at 1"),
    ],
)
def test_broken_json_is_told_in_the_words_of_tritons_reader(body: str, error: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_infer(body.encode(), None, SPEC)
    assert caught.value.message == "failed to parse the request JSON buffer: " + error


def test_data_that_is_no_member_of_an_input_is_not_taken_for_it() -> None:
    tensor = '{"name":"x","shape":[1],"datatype":"FP32","data":%s}'
    for body, value in (
        ('{"data":[9],"inputs":[%s]}' % (tensor % "[1]"), 1.0),
        ('{"inputs":[%s],"z":{"data":[9]}}' % (tensor % "[1]"), 1.0),
        ('{"z":"\\"data\\":[9]","inputs":[%s]}' % (tensor % "[1]"), 1.0),
        ('{"inputs":[%s],"id":"data"}' % (tensor % "[1]"), 1.0),
        ('{"inputs":[%s]}' % (tensor % '[1] , "data" : [ 2 ] '), 2.0),
    ):
        head, spans = read_head(body.encode())
        assert len(head.inputs) == 1
        bound = parse_infer(body.encode(), None, SPEC).payload.bind(echo(DType.FLOAT32, (-1,)))
        assert bound["x"].tolist() == [value], (body, spans)


def test_an_input_named_data_is_only_a_name() -> None:
    body = b'{"inputs":[{"name":"data","shape":[1],"datatype":"FP32","data":[1]}]}'
    head, spans = read_head(body)
    assert head.inputs[0].name == "data"
    assert [body[start:stop] for start, stop in spans] == [b"[1]"]


def test_a_byte_order_mark_is_skipped() -> None:
    assert parse_infer(b'\xef\xbb\xbf{"inputs":[],"id":"7"}', None, SPEC).id == "7"


def test_a_parser_that_saw_a_large_text_is_let_go() -> None:
    from_text(b"[1,2]", DType.UINT8, (2,))
    assert v2_arrays._parsers.parser is not None
    count = v2_arrays.MAX_KEPT_BYTES
    assert from_text(b"[" + b"1," * (count - 1) + b"1]", DType.UINT8, (count,)) is not None
    assert v2_arrays._parsers.parser is None


def test_each_thread_has_its_own_parser() -> None:
    found: list[Array | None] = []

    def work() -> None:
        found.extend(from_text(b"[[1,2],[3,4]]", DType.INT32, (2, 2)) for _ in range(50))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [array.tolist() for array in found if array is not None] == [[[1, 2], [3, 4]]] * 200
