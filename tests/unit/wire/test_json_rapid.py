"""Texts and offsets were measured with RapidJSON 1.1.0."""

import json
import math
from collections.abc import Callable
from time import perf_counter

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edge.wire import json_exact, json_rapid
from edge.wire.json_rapid import MAX_DEPTH, JsonError

Parse = Callable[[bytes], object]

REFUSED = [
    (b"", "The document is empty. at offset: 0"),
    (b" ", "The document is empty. at offset: 1"),
    (b"\x00", "The document is empty. at offset: 0"),
    (b"instances = [1, 2]", "Invalid value. at offset: 0"),
    (b"{", "Missing a name for object member. at offset: 1"),
    (b"{,", "Missing a name for object member. at offset: 1"),
    (b'{"a":1,}', "Missing a name for object member. at offset: 7"),
    (b'{"a" 1}', "Missing a colon after a name of object member. at offset: 5"),
    (b'{"instances": [1,2}', "Missing a comma or ']' after an array element. at offset: 18"),
    (b"[1 2]", "Missing a comma or ']' after an array element. at offset: 3"),
    (b'{"instances": [1,2]', "Missing a comma or '}' after an object member. at offset: 19"),
    (b'{"a":01}', "Missing a comma or '}' after an object member. at offset: 6"),
    (b'{"instances": [1,2,]}', "Invalid value. at offset: 19"),
    (b'{"a":}', "Invalid value. at offset: 5"),
    (b'{"a":.5}', "Invalid value. at offset: 5"),
    (b'{"a":+1}', "Invalid value. at offset: 5"),
    (b"{\"a\":'x'}", "Invalid value. at offset: 5"),
    (b'{"a":-}', "Invalid value. at offset: 6"),
    (b'{"a":tru}', "Invalid value. at offset: 8"),
    (b'{"a":nan}', "Invalid value. at offset: 6"),
    (b'{"a":Nan}', "Invalid value. at offset: 7"),
    (b'{"a":Infi}', "Invalid value. at offset: 9"),
    (b'{"a":1.}', "Miss fraction part in number. at offset: 7"),
    (b"1.", "Miss fraction part in number. at offset: 2"),
    (b'{"a":1e}', "Miss exponent in number. at offset: 7"),
    (b'{"a":1e+}', "Miss exponent in number. at offset: 8"),
    (b'{"a":1e400}', "Number too big to be stored in double. at offset: 5"),
    (b"[1,2,-1e400]", "Number too big to be stored in double. at offset: 5"),
    (b"[" + b"9" * 400 + b"]", "Number too big to be stored in double. at offset: 1"),
    (b'{"a":"x', "Missing a closing quotation mark in string. at offset: 7"),
    (b'{"a":"x\x00"}', "Missing a closing quotation mark in string. at offset: 7"),
    (b'{"a":"\x01"}', "Invalid encoding in string. at offset: 6"),
    (b'{"a":"\\x"}', "Invalid escape character in string. at offset: 6"),
    (b'{"a":"\\u12G4"}', "Incorrect hex digit after \\u escape in string. at offset: 6"),
    (b'{"a":"\\ud800"}', "The surrogate pair in string is invalid. at offset: 6"),
    (b'{"a":"\\ud800\\u0041"}', "The surrogate pair in string is invalid. at offset: 6"),
    (b'{"a":"\\udc00"}', "The surrogate pair in string is invalid. at offset: 6"),
    (b"\xef\xbb\xbf{x", "Missing a name for object member. at offset: 4"),
]

TAKEN = [
    (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
    (b'{"a":1} and more', {"a": 1}),
    (b'{"a":1}}', {"a": 1}),
    (b'{"a":1,"a":2,"b":3}', {"a": 1, "b": 3}),
    (b"[Infinity,-Infinity,Inf,-Inf]", [math.inf, -math.inf, math.inf, -math.inf]),
    (b'["\xff","\xc3\xa9","\\u00e9\\ud83d\\ude00\\n\\/"]', ["\udcff", "é", "é\U0001f600\n/"]),
    (b"[18446744073709551615,18446744073709551616]", [2**64 - 1, float(2**64)]),
    (b"[-9223372036854775808,-9223372036854775809]", [-(2**63), -float(2**63)]),
    (b"[0e999,1E2,1e-999]", [0.0, 100.0, 0.0]),
    (b"\t\r\n [ ] ", []),
    (b"{ }", {}),
    (b"[" * MAX_DEPTH + b"]" * MAX_DEPTH, None),
]


@pytest.mark.parametrize(("body", "message"), REFUSED)
@pytest.mark.parametrize("parse", [json_rapid.parse, json_exact.parse])
def test_what_is_refused_is_refused_in_rapidjsons_words_and_place(parse: Parse, body: bytes, message: str) -> None:
    with pytest.raises(JsonError) as caught:
        parse(body)
    assert str(caught.value) == message


@pytest.mark.parametrize(("body", "value"), TAKEN)
@pytest.mark.parametrize("parse", [json_rapid.parse, json_exact.parse])
def test_what_rapidjson_takes_beyond_the_standard_is_taken(parse: Parse, body: bytes, value: object) -> None:
    found = parse(body)
    assert value is None or repr(found) == repr(value)


def only(body: bytes) -> object:
    return json_rapid.parse(body, whole=True, last_wins=True)


def only_quickly(body: bytes) -> object:
    return json_exact.parse(body, whole=True, last_wins=True)


@pytest.mark.parametrize("parse", [only, only_quickly])
def test_a_document_that_must_be_the_whole_body_ends_with_it(parse: Parse) -> None:
    assert parse(b' {"a":1} \n') == {"a": 1}
    with pytest.raises(JsonError, match=r"The document root must not be followed by other values. at offset: 9"):
        parse(b' {"a":1} x')


@pytest.mark.parametrize("parse", [only, only_quickly])
def test_the_last_of_equal_names_may_win(parse: Parse) -> None:
    assert parse(b'{"a":1,"a":2,"b":3}') == {"a": 2, "b": 3}


def test_nan_is_a_number_with_or_without_a_sign() -> None:
    assert all(math.isnan(number) for number in json_exact.parse(b"[NaN,-NaN]"))


@pytest.mark.parametrize("opener", [b"[", b'{"a":', b'[{"a":'])
@pytest.mark.parametrize("parse", [json_rapid.parse, json_exact.parse])
def test_a_hundred_thousand_brackets_are_refused_at_once(parse: Parse, opener: bytes) -> None:
    start = perf_counter()
    with pytest.raises(JsonError, match="Nested deeper than 64 levels"):
        parse(opener * 100_000)
    with pytest.raises(JsonError, match="Nested deeper than 64 levels"):
        parse(b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1))
    assert perf_counter() - start < 2


def test_brackets_in_strings_are_no_nesting() -> None:
    assert json_exact.parse(b'["' + b"[" * 1000 + b'"]') == ["[" * 1000]


@pytest.mark.parametrize("last", [b"NaN", b"1e400", b"123456789012345678901234567890", b"x"])
def test_a_long_array_costs_time_in_proportion_to_its_length(last: bytes) -> None:
    body = b"[" + b"123456789012345678901234567890," * 20_000 + b"7," * 20_000 + last + b"]"
    start = perf_counter()
    try:
        assert len(list(json_rapid.parse(body))) == 40_001
    except JsonError as error:
        assert error.offset == len(body) - len(last) - 1  # noqa: PT017
    assert perf_counter() - start < 5


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(max_size=3), children),
    max_leaves=20,
)


def _outcome(parse: Parse, body: bytes) -> str:
    try:
        return repr(parse(body))
    except JsonError as error:
        return str(error)


@settings(max_examples=200, deadline=None)
@given(value=JSON, cut=st.integers(0, 60), junk=st.binary(max_size=4), ascii=st.booleans())
def test_the_quick_reader_and_the_exact_one_agree(value: object, cut: int, junk: bytes, ascii: bool) -> None:
    body = json.dumps(value, ensure_ascii=ascii).encode("utf-8", "surrogatepass")
    for mutated in (body, body[:cut], body[:cut] + junk + body[cut:], body[:cut] + junk + body[cut + 1 :]):
        assert _outcome(json_exact.parse, mutated) == _outcome(json_rapid.parse, mutated)
        assert _outcome(only_quickly, mutated) == _outcome(only, mutated)


@settings(max_examples=200, deadline=None)
@given(
    body=st.binary(max_size=40)
    | st.text(alphabet='[]{},:"0123456789.eE+-NaIinftyrul \\u\n', max_size=40).map(str.encode)
)
@example(b"[1.5e3,-0,-0.0]")
def test_any_bytes_are_a_value_or_a_json_error(body: bytes) -> None:
    assert _outcome(json_exact.parse, body) == _outcome(json_rapid.parse, body)
