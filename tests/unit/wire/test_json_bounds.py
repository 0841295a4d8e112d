"""What a body may cost once it is objects: a few bytes of JSON become more than a hundred of memory."""

from __future__ import annotations

import tracemalloc

import pytest

from edge.domain.errors import InvalidInput, TooLarge
from edge.domain.models import ModelSpec
from edge.domain.tensors import DType
from edge.wire.json_exact import MAX_VALUES
from edge.wire.tfserving_json import parse_predict
from edge.wire.v2_binary import MAX_STRINGS
from edge.wire.v2_request import parse_infer
from tests.unit.wire.targets import target


@pytest.mark.parametrize("value", [b'"aa"', b"{}", b"[]", b"NaN", b"1,[2]"])
def test_a_document_of_a_million_values_is_refused_before_they_are_objects(value: bytes) -> None:
    body = b'{"instances":[' + b",".join([value] * (MAX_VALUES + 1)) + b"]}"
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge, match=f"want at most {MAX_VALUES} values in JSON .* binary tensors"):
            parse_predict(body).payload.bind(target(x=DType.FLOAT32))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10 * len(body) + (1 << 20), "as objects it would be twenty times and more"


def test_plain_numbers_of_any_count_are_read() -> None:
    body = b'{"instances":[' + b"1," * (2 * MAX_VALUES) + b"1]}"
    (array,) = parse_predict(body).payload.bind(target(x=DType.FLOAT32)).values()
    assert array.shape == (2 * MAX_VALUES + 1,)


def test_a_million_strings_in_v2_json_are_refused() -> None:
    head = b'{"inputs":[{"name":"x","shape":[1],"datatype":"BYTES","data":['
    with pytest.raises(TooLarge, match=f"want at most {MAX_VALUES} values"):
        parse_infer(head + b'"",' * (MAX_VALUES + 1) + b'""]}]}', None, ModelSpec("m"))


def test_a_million_binary_strings_are_refused_before_they_are_objects() -> None:
    count = MAX_STRINGS + 1
    head = b'{"inputs":[{"name":"x","shape":[%d],"datatype":"BYTES","parameters":{"binary_data_size":%d}}]}' % (
        count,
        4 * count,
    )
    parsed = parse_infer(head + bytes(4 * count), len(head), ModelSpec("m"))
    with pytest.raises(InvalidInput, match=f"want at most {MAX_STRINGS} elements, got {count}"):
        parsed.payload.bind(target(x=DType.STRING))
