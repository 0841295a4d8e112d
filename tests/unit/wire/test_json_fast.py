"""Every reader gives the same tensors and refuses the same bodies."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.domain.errors import EdgeError
from edge.domain.requests import Payload, Target
from edge.domain.tensors import Array, DType, Tensors
from edge.wire import json_dense, json_fast
from edge.wire.tfserving_json import bind_document, parse_document, parse_predict
from tests.unit.wire.targets import target

U8 = target(x=DType.UINT8)


def bind(body: bytes, to: Target) -> Tensors | str:
    try:
        return parse_predict(body).payload.bind(to)
    except EdgeError as error:
        return error.message


def bind_exactly(body: bytes, to: Target) -> Tensors | str:
    try:
        return bind_document(parse_document(body), to.signature.inputs)
    except EdgeError as error:
        return error.message


def same(ours: Tensors | str, exact: Tensors | str) -> bool:
    """Bit for bit."""
    if isinstance(ours, str) or isinstance(exact, str):
        return ours == exact
    return ours.keys() == exact.keys() and all(_same(ours[name], exact[name]) for name in exact)


def _same(ours: Array, exact: Array) -> bool:
    if (ours.dtype, ours.shape) != (exact.dtype, exact.shape):
        return False
    return ours.tolist() == exact.tolist() if ours.dtype == object else ours.tobytes() == exact.tobytes()


def kind(payload: Payload) -> str:
    return type(payload).__name__


def body_of(array: Array, *, spaced: bool = True, key: str = "instances") -> bytes:
    return json.dumps({key: array.tolist()}, separators=None if spaced else (",", ":")).encode()


NUMBERS = (
    st.integers(-3, 300)
    | st.integers(-(2**66), 2**66)
    | st.floats()
    | st.sampled_from([0, 1, 255, 256, 127, 128, -128, -129, 2**31, 2**32, 2**63, 2**64, 1.0, 1e39, -0.0, 1e-320])
)
LEAVES = st.one_of(st.integers(0, 9), NUMBERS, st.none(), st.booleans(), st.text(max_size=2), st.just({"b64": "aGk="}))
SHAPES = st.lists(st.integers(1, 3), min_size=1, max_size=4)
DTYPES = st.sampled_from(list(DType))


@st.composite
def nested(draw: st.DrawFn, leaf: st.SearchStrategy[object]) -> object:
    def build(shape: list[int]) -> object:
        return [build(shape[1:]) for _ in range(shape[0])] if shape else draw(leaf)

    return build(draw(SHAPES))


def text_of(value: object, draw_spaces: bool, name: str | None, key: str) -> bytes:
    members: dict[str, object] = {key: value}
    if name is not None:
        members["signature_name"] = name
    separators = None if draw_spaces else (",", ":")
    return json.dumps(members, separators=separators).encode()


@settings(max_examples=300, deadline=None)
@given(
    value=nested(st.integers(0, 255)) | nested(NUMBERS) | nested(LEAVES) | st.recursive(LEAVES, st.lists, max_leaves=8),
    dtype=DTYPES,
    spaced=st.booleans(),
    name=st.none() | st.sampled_from(["", "s", "a[1]", 'q"', "\\"]),
    key=st.sampled_from(["instances", "inputs"]),
    cut=st.integers(0, 80),
    junk=st.sampled_from([b"", b"[", b"]", b",", b"1", b" ", b"-", b".5", b"e3", b"],[", b"\n", b'"', b"\xff", b"\\"]),
)
def test_quick_and_exact_readers_agree_on_valid_and_broken_bodies(
    value: object, dtype: DType, spaced: bool, name: str | None, key: str, cut: int, junk: bytes
) -> None:
    body, to = text_of(value, spaced, name, key), target(x=dtype)
    for mutated in (body, body[:cut] + junk + body[cut:], body[:cut] + junk + body[cut + 1 :], body + junk):
        assert same(bind(mutated, to), bind_exactly(mutated, to)), mutated


@settings(max_examples=150, deadline=None)
@given(
    members=st.dictionaries(st.sampled_from(["a", "b", "e1", "inputs", "x y", "[", '"']), nested(NUMBERS), max_size=3),
    dtypes=st.dictionaries(st.sampled_from(["a", "b", "e1", "inputs", "x y", "[", '"']), DTYPES, max_size=3),
    spaced=st.booleans(),
)
def test_objects_of_arrays_are_read_as_the_exact_reader_reads_them(
    members: dict[str, object], dtypes: dict[str, DType], spaced: bool
) -> None:
    body, to = text_of(members, spaced, None, "inputs"), target(**dtypes)
    assert same(bind(body, to), bind_exactly(body, to))


@settings(max_examples=30, deadline=None)
@given(data=st.data(), shape=SHAPES, spaced=st.booleans(), wide=st.booleans())
def test_pictures_are_read_as_the_exact_reader_reads_them(
    data: st.DataObject, shape: list[int], spaced: bool, wide: bool
) -> None:
    inner = [*shape, 8000 // int(np.prod(shape))] if wide else [8000 // int(np.prod(shape)), *shape]
    array = np.random.default_rng(data.draw(st.integers(0, 9))).integers(0, 256, inner)
    body = body_of(array, spaced=spaced)
    assert len(body) >= json_dense.MIN_BYTES
    assert kind(parse_predict(body).payload) == "_DensePayload"
    assert same(bind(body, U8), bind_exactly(body, U8))
    at = data.draw(st.integers(0, len(body)))
    junk = data.draw(
        st.sampled_from([b"", b"[", b"]", b",", b"1", b"0", b" ", b"-", b".", b"],[", b"],", b",[", b"\n", b"x"])
    )
    for mutated in (body[:at] + junk + body[at:], body[:at] + junk + body[at + 1 :], _swapped(body, at)):
        assert same(bind(mutated, U8), bind_exactly(mutated, U8))


def _swapped(body: bytes, at: int) -> bytes:
    return body[:at] + body[at + 1 : at + 2] + body[at : at + 1] + body[at + 2 :]


def _wide(text: bytes) -> bytes:
    """A body of many rows like `[[1,2],[3,4]]`, one of which is `text`."""
    return b'{"instances":[' + b"[[1,2],[3,4]]," * 2000 + text + b",[[1,2],[3,4]]]}"


@pytest.mark.parametrize(
    "row",
    [
        b"[[1,2,3],[4]]", b"[[1,[2],3,4]]", b"[[1,2],3,[4]]", b"[[1,2],[03,4]]", b"[[1,2],[3000,4]]",
        b"[[1,2],[3 4]]", b"[[1,2],[3,4],]", b"[[1,2],[3,]]", b"[1,2,3,4]", b"[[1,2]]", b"[[],[]]", b"[[1],[]]", b"[[1,2],[3,4]",
        b"[[1,2],[3,4]]]", b"[[1,2][3,4]]", b"[[1,2],,[3,4]]", b"[[1,2],[3,-4]]", b"[[1,2],[3,4.0]]", b"[[256,2],[3,4]]",
        b"[[1, 2],[3,4]]", b"[ [1,2],[3,4]]", b"[[1,2],[3,1e1]]", b"[[1,2],[3,x]]", b"[[1,2],[3,NaN]]", b"[[1,2],[3,\xff4]]",
    ],
)  # fmt: skip
def test_one_odd_row_in_a_large_body_is_treated_as_the_exact_reader_treats_it(row: bytes) -> None:
    body = _wide(row)
    for to in (U8, target(x=DType.FLOAT32)):
        assert same(bind(body, to), bind_exactly(body, to))


@pytest.mark.parametrize(
    "shape", [(1, 96, 96, 3), (3, 100, 50), (70_000,), (40_000, 1), (1, 1, 1, 20_000), (2, 3, 4, 5, 6, 20)]
)
@pytest.mark.parametrize("spaced", [False, True])
@pytest.mark.parametrize("name", ['"signature_name": "serving_default", ', ""])
def test_pictures_of_every_shape_take_the_quick_way(shape: tuple[int, ...], spaced: bool, name: str) -> None:
    array = np.random.default_rng(1).integers(0, 256, shape)
    parsed = parse_predict(body_of(array, spaced=spaced).replace(b"{", b"{" + name.encode()))
    assert kind(parsed.payload) == "_DensePayload"
    assert parsed.signature_name == ("serving_default" if name else "")
    for dtype in (DType.UINT8, DType.INT32, DType.INT64, DType.FLOAT32, DType.FLOAT64):
        found = parsed.payload.bind(target(x=dtype))["x"]
        assert found.dtype == dtype.numpy
        assert np.array_equal(found, array)


def test_the_signature_name_may_follow_the_array_but_not_come_twice() -> None:
    numbers = b"[" + b"1,2," * 5000 + b"3]"
    assert parse_predict(b'{"instances":' + numbers + b',"signature_name":"s"}').signature_name == "s"
    twice = b'{"signature_name":"a","instances":' + numbers + b',"signature_name":"b"}'
    assert parse_predict(twice).signature_name == "a"


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        (DType.UINT8, [0, 255]), (DType.INT8, [-128, 127]), (DType.UINT16, [0, 65535]), (DType.INT16, [-32768, 32767]),
        (DType.INT32, [-(2**31), 2**31 - 1]), (DType.UINT32, [0, 2**32 - 1]), (DType.INT64, [-(2**63), 2**63 - 1]),
        (DType.UINT64, [0, 2**64 - 1]), (DType.FLOAT32, [1, 0.1]), (DType.FLOAT64, [2**63, 1e300]),
    ],
)  # fmt: skip
def test_arrays_of_numbers_take_simdjson_to_the_ends_of_their_range(dtype: DType, values: list[float]) -> None:
    document = json_fast.read(json.dumps({"inputs": [values]}).encode())
    assert document is not None
    found = document.take("x", dtype.numpy)
    assert found is not None
    assert _same(found, np.array([values], dtype.numpy))


@pytest.mark.parametrize("rows", [b"[[1],[],[3]]", b"[[],[],[3]]", b"[[[1]],[[]]]", b"[[]]", b"[]"])
def test_an_empty_list_is_not_taken_for_a_list_of_one(rows: bytes) -> None:
    body = b'{"inputs":' + rows + b"}"
    assert same(bind(body, U8), bind_exactly(body, U8))


def test_a_double_beyond_float32_is_infinity_either_way() -> None:
    body = b'{"instances": [1e300, -1e300, 16777217]}'
    found = parse_predict(body).payload.bind(target(x=DType.FLOAT32))["x"]
    assert found.tolist() == [np.inf, -np.inf, 16777216.0]
    assert same(bind(body, target(x=DType.FLOAT32)), bind_exactly(body, target(x=DType.FLOAT32)))


def test_several_inputs_in_columns_take_simdjson() -> None:
    document = json_fast.read(b'{"inputs": {"b2": [1.5], "a": [[1, 2], [3, 4]]}}')
    assert document is not None
    found = document.take_all({"a": DType.INT32.numpy, "b2": DType.FLOAT32.numpy})
    assert found is not None
    assert {name: array.tolist() for name, array in found.items()} == {"a": [[1, 2], [3, 4]], "b2": [1.5]}


def test_a_payload_may_be_bound_again_and_parsers_are_used_again() -> None:
    payload = parse_predict(b'{"instances": [[1, 2]]}').payload
    first, again = payload.bind(U8)["x"], payload.bind(target(x=DType.FLOAT32))["x"]
    assert first.tolist() == again.tolist() == [[1, 2]]
    kept = [parse_predict(b'{"instances": [%d]}' % number).payload for number in range(20)]
    assert [payload.bind(U8)["x"].tolist() for payload in kept] == [[number] for number in range(20)]
    assert len(json_fast._idle) <= json_fast.MAX_IDLE_PARSERS


def test_payloads_bound_in_other_threads_keep_their_own_numbers() -> None:
    payloads = [parse_predict(b'{"instances": [[%d, %d]]}' % (number, number)).payload for number in range(200)]
    found: list[object] = [None] * len(payloads)

    def work(start: int) -> None:
        for index in range(start, len(payloads), 4):
            found[index] = payloads[index].bind(U8)["x"].tolist()

    threads = [threading.Thread(target=work, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[[number, number]] for number in range(200)]


def test_a_parser_that_read_a_huge_body_is_not_kept() -> None:
    json_fast._idle.clear()
    body = body_of(np.zeros((1, 300_000)), spaced=False)
    assert len(body) > json_fast.MAX_IDLE_BYTES
    parse_predict(body).payload.bind(target(x=DType.FLOAT32))
    assert not json_fast._idle


@settings(max_examples=300, deadline=None)
@given(
    body=st.binary(max_size=60) | st.text(alphabet='{}[]",:instapu 0123.-eE\\b64NaIf', max_size=60).map(str.encode),
    dtype=DTYPES,
)
def test_any_bytes_are_tensors_or_an_edge_error(body: bytes, dtype: DType) -> None:
    for text in (body, b'{"instances":' + body + b"}", b'{"inputs":{"x":' + body + b"}}"):
        assert same(bind(text, target(x=dtype)), bind_exactly(text, target(x=dtype)))


@pytest.mark.parametrize(
    "other",
    [
        b'{"instances": [[], [3, 4]]}',
        b'{"instances": [[1, 2], [3]]}',
        b'{"instances": [[1, 2], [3, 4], [5, 6]]}',
        b'{"insta nces": [[1, 2], [3, 4]]}',
        b'{"instanc5es": [[1, 2], [3, 4]]}',
        b'{"Instances": [[1, 2], [3, 4]]}',
        b'{"instances": [[1, 2], [3, -4]]}',
        b'{"instances": [[1, 2], [3, 256]]}',
        b'{"instances": [[1, 2], [3, 4.5]]}',
        b'{"instances": [[1, 2], [3, 4e0]]}',
        b'{"instances": [[1, 2], [3, -]]}',
        b'{"instances": [[1, 2], [ , 4]]}',
        b'{"instances": [[1, 2], [3 4, ]]}',
        b'{"instances" [[1, 2], [3, 4]]}',
        b'{"instances": [[9, 8], [7, 6]]}',
    ],
)
def test_a_form_that_was_taken_before_lets_nothing_pass_that_the_exact_reader_refuses(other: bytes) -> None:
    json_fast._forms.clear()
    usual = b'{"instances": [[1, 2], [3, 4]]}'
    for _ in range(2):
        assert same(bind(usual, U8), {"x": np.array([[1, 2], [3, 4]], np.uint8)})
    assert len(json_fast._forms) == 1
    assert same(bind(other, U8), bind_exactly(other, U8))


@given(st.lists(st.lists(NUMBERS, max_size=3), max_size=3), st.sampled_from(["instances", "inputs", "instanc"]))
@settings(max_examples=300, deadline=None)
def test_bodies_of_forms_that_come_again_are_read_alike(rows: list[list[float]], key: str) -> None:
    body = json.dumps({key: rows}).encode()
    for to in (U8, target(x=DType.FLOAT32), target(x=DType.INT8)):
        for _ in range(2):
            assert same(bind(body, to), bind_exactly(body, to))


def test_the_forms_that_are_remembered_are_bounded() -> None:
    for size in range(1, 2 * json_fast.MAX_FORMS):
        bind(body_of(np.ones((size, 1), np.uint8)), U8)
    assert len(json_fast._forms) <= json_fast.MAX_FORMS
