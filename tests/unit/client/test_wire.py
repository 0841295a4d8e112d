"""What the client writes the server reads, and the other way round; what lies is told, and never believed."""

from __future__ import annotations

import contextlib
import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.client import wire
from edge.client.body import room
from edge.client.errors import BadAnswer, Invalid
from edge.domain.models import ModelId, ModelSpec
from edge.domain.requests import PredictResponse
from edge.domain.tensors import Array, DType, Signature, TensorSpec
from edge.wire import v2_datatypes
from edge.wire.v2_reply import encode_infer
from edge.wire.v2_request import parse_infer

EXAMPLES: dict[DType, Array] = {
    dtype: np.arange(-3, 3).reshape(2, 3).astype(dtype.numpy) for dtype in DType if dtype is not DType.STRING
}
EXAMPLES[DType.STRING] = np.array([[b"", b"a"], [b"\xff\x00", "grüß".encode()]], object)


def test_client_and_server_call_the_types_alike() -> None:
    assert wire.NAMES == v2_datatypes.NAMES


@pytest.mark.parametrize("dtype", DType)
def test_what_the_client_writes_the_server_reads(dtype: DType) -> None:
    array = EXAMPLES[dtype]
    request = wire.encode({"x": array}, ["y"], {"dequantize": False})
    body = b"".join(request.pieces)
    parsed = parse_infer(body, request.head, ModelSpec("m"))
    assert request.head % 8 == 0
    assert parsed.dequantize is False
    assert [wish.name for wish in parsed.outputs] == ["y"]
    assert parsed.outputs[0].binary
    read = parsed.payload.bind(Target({"x": TensorSpec("x", dtype, array.shape)}))  # type: ignore[arg-type]
    assert read["x"].dtype == array.dtype
    assert read["x"].tolist() == array.tolist()


class Target:
    def __init__(self, inputs: dict[str, TensorSpec]) -> None:
        self.signature = Signature("s", inputs, {"y": TensorSpec("y", DType.INT8, None)})


def served(outputs: dict[str, Array], *, binary: bool) -> tuple[str, bytes]:
    """The head's length and the body of a real answer."""
    signature = Signature("s", {}, {name: TensorSpec(name, DType.of(a), a.shape) for name, a in outputs.items()})
    response = PredictResponse(ModelId("m", 7), signature, outputs, ())
    text = json.dumps({"inputs": [], "parameters": {"binary_data_output": binary}}).encode()
    headers, body = encode_infer(response, parse_infer(text, None, ModelSpec("m")))
    return headers.get(wire.HEADER, ""), body


@pytest.mark.parametrize("binary", [True, False])
def test_what_the_server_writes_the_client_reads(binary: bool) -> None:
    outputs = {dtype.value: array for dtype, array in EXAMPLES.items()}
    if not binary:
        outputs["string"] = np.array([b"text"], object)
    read = wire.decode(*served(outputs, binary=binary))
    assert (read.model, read.version) == ("m", 7)
    for name, array in outputs.items():
        assert read[name].dtype == array.dtype
        assert read[name].shape == array.shape
        assert read[name].tolist() == array.tolist()
        assert read[name].flags.aligned
    with pytest.raises(ValueError, match="one output"):
        _ = read.only


def test_numbers_are_not_copied_either_way() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    request = wire.encode({"x": array}, None, {})
    assert np.shares_memory(np.frombuffer(request.pieces[1], np.float32), array)
    length, body = served({"y": array}, binary=True)
    view = room(len(body), length)
    view[:] = body
    read = wire.decode(length, view).only
    assert np.shares_memory(read, np.frombuffer(view, np.uint8))
    assert read.flags.writeable
    assert read.ctypes.data % wire.ALIGNMENT == 0


def test_arrays_of_the_other_byte_order_and_with_gaps_arrive_as_they_were() -> None:
    array = np.arange(12, dtype=">i4").reshape(3, 4)[:, ::2]
    request = wire.encode({"x": array}, None, {})
    assert np.frombuffer(request.pieces[1], "<i4").tolist() == array.ravel().tolist()


def test_text_is_sent_as_utf_8() -> None:
    assert wire.encode({"x": ["ü"]}, None, {}).pieces[1] == b"\x02\x00\x00\x00" + "ü".encode()


def test_a_string_of_bytes_keeps_the_zeros_at_its_end() -> None:
    assert wire.encode({"x": [b"a\0", "b"]}, None, {}).pieces[1] == b"\x02\0\0\0a\0\x01\0\0\0b"
    assert wire.encode({"x": [b"a\0"]}, None, {}).pieces[1] == b"\x02\0\0\0a\0"


@pytest.mark.parametrize("value", [np.array([1j]), [object()], [[1], [1, 2]], np.array(["2024-01-01"], "M8")])
def test_what_is_no_tensor_is_refused_before_it_is_sent(value: Any) -> None:
    with pytest.raises(Invalid, match="want"):
        wire.encode({"x": value}, None, {})


def lying(tail: bytes = b"", **output: object) -> tuple[str, bytes]:
    head = json.dumps(
        {"model_name": "m", "outputs": [{"name": "y", "datatype": "FP32", "shape": [1]} | output]}
    ).encode()
    return str(len(head)), head + tail


def sized(size: object) -> dict[str, object]:
    return {"parameters": {"binary_data_size": size}}


LIES: dict[str, tuple[str, bytes]] = {
    "no JSON": ("", b"<html>"),
    "nested beyond reason": ("", b"[" * 100_000),
    "no model": ("", b'{"outputs": []}'),
    "a head longer than the body": ("99", b"{}"),
    "a head of a negative length": ("-1", b"{}"),
    "a head of no number": ("²", b"{}"),
    "more bytes than there are": lying(b"1234", **sized(8)),
    "a size that is none": lying(b"1234", **sized(-4)),
    "a size beyond all": lying(b"1234", **sized(2**80)),
    "bytes that nobody named": lying(b"12345678", **sized(4)),
    "a shape that its bytes do not fill": lying(b"1234", shape=[2], **sized(4)),
    "a negative shape": lying(b"1234", shape=[-1], **sized(4)),
    "a shape beyond all": lying(b"1234", shape=[2**39, 2**39, 2**39], **sized(4)),
    "too many dimensions": lying(b"1234", shape=[1] * 33, **sized(4)),
    "zeros beside huge sizes": lying(b"", shape=[0, *([2**40] * 20)], **sized(0)),
    "a type that is none": lying(b"1234", datatype="FP8", **sized(4)),
    "no data at all": lying(),
    "data that is no list": lying(data="text"),
    "data of another type": lying(data=["text"]),
    "data that does not fit": lying(data=[1000], datatype="INT8"),
    "fewer elements than the shape": lying(data=[1.0], shape=[2]),
    "strings that end behind the end": lying(struct.pack("<I", 9) + b"x", datatype="BYTES", **sized(5)),
    "half a length": lying(b"\x01\x00", datatype="BYTES", **sized(2)),
    "more strings than bytes": lying(b"", shape=[2**30], datatype="BYTES", **sized(0)),
    "bytes behind the strings": lying(b"\x00\x00\x00\x00x", datatype="BYTES", **sized(5)),
    "one output twice": (
        "",
        b'{"model_name":"m","outputs":[%b,%b]}' % ((b'{"name":"y","datatype":"INT8","shape":[0],"data":[]}',) * 2),
    ),
}


@pytest.mark.parametrize("what", LIES)
def test_an_answer_that_lies_is_refused(what: str) -> None:
    with pytest.raises(BadAnswer):
        wire.decode(*LIES[what])


@given(st.binary(max_size=200), st.integers(0, 220))
def test_no_bytes_raise_anything_else(body: bytes, length: int) -> None:
    head, rest = lying(body, **sized(len(body)))
    for given_length, given_body in ((str(length), body), (head, rest[:length])):
        with contextlib.suppress(BadAnswer):
            wire.decode(given_length, given_body)


def test_truths_other_than_one_are_still_truths() -> None:
    read = wire.decode(*lying(b"\x02\x00", datatype="BOOL", shape=[2], **sized(2))).only
    assert read.view(np.uint8).tolist() == [1, 0]
