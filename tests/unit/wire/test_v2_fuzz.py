"""Whatever the bytes and the header say: tensors that fit the signature, or an EdgeError."""

import json
from typing import Any

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edge.core.check import check
from edge.domain.errors import EdgeError
from edge.domain.models import ImageOptions, ModelId, ModelSpec
from edge.domain.requests import PredictResponse, Target
from edge.domain.tensors import DType, Signature, TensorSpec
from edge.wire.v2_errors import error_response
from edge.wire.v2_reply import encode_infer
from edge.wire.v2_request import parse_infer
from edge.wire.v2_routes import Kind, refusal, route

SPECS = {
    "x": TensorSpec("x", DType.FLOAT32, (-1, 2)),
    "s": TensorSpec("s", DType.STRING, None),
    "u": TensorSpec("u", DType.UINT8, (-1, -1)),
}
TARGETS = [
    Target(ModelId("m", 1), Signature("one", {name: spec}, {name: spec}), ImageOptions())
    for name, spec in SPECS.items()
]

BITS = settings(max_examples=150, deadline=None)

sizes = st.one_of(st.integers(-1, 4), st.sampled_from([2**31, 2**62, 2**63, 2**64, 1.0, "2", None]))
scalars = st.one_of(st.none(), st.booleans(), st.integers(-300, 300), st.floats(), st.text(max_size=3))
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3), max_leaves=8)
parameters = st.one_of(
    st.dictionaries(
        st.sampled_from(["binary_data_size", "binary_data", "classification", "shared_memory_region", "timeout"]),
        st.one_of(sizes, st.booleans()),
        max_size=2,
    ),
    values,
)


def some(**members: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """An object that may lack some of its members."""
    return st.fixed_dictionaries({}, optional=members)


names = st.sampled_from(["x", "s", "u", "q"])
tensors = some(
    name=names,
    datatype=st.sampled_from(["FP32", "BYTES", "UINT8", "BF16", "FOO"]),
    shape=st.one_of(st.lists(sizes, max_size=4), values),
    data=values,
    parameters=parameters,
)
requests = some(
    id=st.one_of(st.text(max_size=4), values),
    inputs=st.one_of(st.lists(tensors, max_size=2), values),
    outputs=st.one_of(st.lists(some(name=names, parameters=parameters), max_size=2), values),
    parameters=parameters,
    data=values,
)


def judge(body: bytes, header_length: int | None) -> None:
    try:
        parsed = parse_infer(body, header_length, ModelSpec("m"))
    except EdgeError as error:
        json.loads(error_response(error, model="m").body)
        return
    for target in TARGETS:
        try:
            tensors = parsed.payload.bind(target)
            check(target.signature, tensors, max_batch=8)
            assert list(tensors) == list(target.signature.inputs)
            for name, array in tensors.items():
                assert target.signature.inputs[name].admits(array.shape)
                assert array.dtype == target.signature.inputs[name].dtype.numpy
            encode_infer(PredictResponse(target.model, target.signature, tensors), parsed)
        except EdgeError as error:
            json.loads(error_response(error, model="m", request_id=parsed.id).body)


@BITS
@given(st.binary(max_size=200), st.one_of(st.none(), st.integers(-1, 210)))
@example(b"", None)
@example(b"\0" * 8, 0)
def test_any_bytes_and_any_header_length(body: bytes, header_length: int | None) -> None:
    judge(body, header_length)


@BITS
@given(requests, st.binary(max_size=24), st.integers(-2, 30))
def test_any_request_that_is_json(request: dict[str, Any], tail: bytes, off: int) -> None:
    head = json.dumps(request).encode()
    judge(head, None)
    judge(head + tail, len(head))
    judge(head + tail, len(head) + off)


@BITS
@given(requests, st.integers(0, 400), st.binary(min_size=1, max_size=3))
def test_any_request_with_a_few_bytes_wrong(request: dict[str, Any], at: int, wrong: bytes) -> None:
    body = json.dumps(request).encode()
    judge(body[:at] + wrong + body[at + len(wrong) :], None)
    judge(body[:at], None)


@BITS
@given(st.integers(0, 3), st.integers(0, 3), st.binary(max_size=40), st.sampled_from(["FP32", "BYTES", "UINT8"]))
def test_any_binary_tensor(rows: int, columns: int, tail: bytes, datatype: str) -> None:
    name = {"FP32": "x", "BYTES": "s", "UINT8": "u"}[datatype]
    tensor = {
        "name": name,
        "shape": [rows, columns],
        "datatype": datatype,
        "parameters": {"binary_data_size": len(tail)},
    }
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    judge(head + tail, len(head))


@BITS
@given(st.sampled_from(["GET", "POST", "HEAD", ""]), st.text(max_size=40))
@example("GET", "/v2/models/%00/versions/99999999999999999999")
@example("GET", "/v2/models/m/versions/٣")
def test_any_path(method: str, path: str) -> None:
    for tried in (path, "/v2/models/" + path, "/v2/models/m/versions/" + path):
        found = route(method, tried)
        if found.kind in (Kind.NOT_FOUND, Kind.WRONG_VERB):
            assert refusal(found).status in (404, 405)


@BITS
@given(st.lists(st.floats(width=32), max_size=60))
def test_any_floats_in_a_reply_read_back_as_themselves(numbers: list[float]) -> None:
    array = np.array(numbers, np.float32).reshape(-1, 1)
    spec = TensorSpec("y", DType.FLOAT32, (-1, 1))
    signature = Signature("one", {}, {"y": spec})
    body = b'{"inputs":[]}'
    reply = encode_infer(
        PredictResponse(ModelId("m", 1), signature, {"y": array}), parse_infer(body, None, ModelSpec("m"))
    )[1]
    back = np.array(json.loads(reply)["outputs"][0]["data"], np.float32)
    assert np.array_equal(back, array.ravel(), equal_nan=True)
