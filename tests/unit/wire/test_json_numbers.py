import json
import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.domain.tensors import Array
from edge.wire.json_numbers import FEW, array_text, encode, shortest, tree

FLOATS = st.lists(st.floats(width=32), min_size=1, max_size=FEW + 20)


def f32(*values: float) -> npt.NDArray[np.float32]:
    return np.array(values, np.float32)


@pytest.mark.parametrize("repeat", [1, FEW + 1])
@pytest.mark.parametrize(
    "value",
    [0.1, 0.2, 1.0, 9.99999, 100000.0, 999999.0, 1e6, 1234567.0, 16777216.0, 123456792.0, 1e-5, 0.0001, 1e-12, 1e-13,
     1e-14, 1e-30, 1e10, 8.589973e9, 3.40282347e38, 1.17549435e-38, 1e-45, -0.0, 0.0, 5e-20, 0.333333343, 3.14159274],
)  # fmt: skip
def test_a_float32_is_written_with_no_digit_too_many(value: float, repeat: int) -> None:
    written = json.loads(array_text(f32(*[value] * repeat)))
    assert written == [float(str(np.float32(value)))] * repeat
    assert all(math.copysign(1, number) == math.copysign(1, value) for number in written)


@settings(max_examples=200, deadline=None)
@given(values=FLOATS)
def test_every_float32_reads_back_to_itself(values: list[float]) -> None:
    array = f32(*values)
    back = np.array(json.loads(array_text(array)), np.float32)
    assert back.dtype == array.dtype
    assert np.array_equal(back, array, equal_nan=True)


@settings(max_examples=100, deadline=None)
@given(digits=st.integers(1, 999_999), exponent=st.integers(-20, 20))
def test_a_decimal_of_six_digits_is_written_as_it_was(digits: int, exponent: int) -> None:
    value = float(f"{digits}e{exponent}")
    assert shortest(f32(value)).tolist() == [value]


@settings(max_examples=100, deadline=None)
@given(values=st.lists(st.floats(), min_size=1, max_size=30))
def test_every_float64_reads_back_to_itself(values: list[float]) -> None:
    assert np.array_equal(np.array(json.loads(array_text(np.array(values)))), np.array(values), equal_nan=True)


@pytest.mark.parametrize("repeat", [1, FEW])
def test_what_is_no_number_is_a_bare_word(repeat: int) -> None:
    text = array_text(f32(*[math.nan, math.inf, -math.inf, 1.0] * repeat))
    assert text == b"[" + b",".join([b"NaN,Infinity,-Infinity,1.0"] * repeat) + b"]"
    assert array_text(np.array([[math.nan], [-math.inf]])) == b"[[NaN],[-Infinity]]"
    assert array_text(np.array(math.inf)) == b"Infinity"


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (f32(1, 2), b"[1.0,2.0]"), (f32(1, 2).reshape(1, 1, 2), b"[[[1.0,2.0]]]"), (f32(1, 2).reshape(2, 1), b"[[1.0],[2.0]]"),
        (np.float32(3).reshape(()), b"3.0"), (f32().reshape(0, 3), b"[]"), (f32().reshape(2, 0), b"[[],[]]"),
        (np.array([0, 255], np.uint8), b"[0,255]"), (np.array([2**64 - 1], np.uint64), b"[18446744073709551615]"),
        (np.array([[True], [False]]), b"[[true],[false]]"), (np.array([b"a", b"b"], object), b'["a","b"]'),
        (np.arange(6, dtype=np.float32).reshape(2, 3).T, b"[[0.0,3.0],[1.0,4.0],[2.0,5.0]]"),
    ],
)  # fmt: skip
def test_an_array_is_written_in_its_shape(array: Array, text: bytes) -> None:
    assert array_text(array) == text


def test_strings_are_written_byte_for_byte_and_escaped_where_they_must_be() -> None:
    words = np.array([b"\xff/\xc3\xa9", b'a"\\\b\f\n\r\t\x1f\x00\x7f\xfe'], object)
    assert array_text(words) == b'["\xff/\xc3\xa9","a\\"\\\\\\b\\f\\n\\r\\t\\u001F\\u0000\x7f\xfe"]'
    assert encode(tree(words[:1], base64_strings=True)) == b'[{"b64":"/y/DqQ=="}]'
