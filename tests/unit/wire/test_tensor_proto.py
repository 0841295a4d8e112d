"""TensorProtos become arrays and arrays TensorProtos; what is none is an invalid input, and nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.domain.errors import InvalidInput
from edge.domain.tensors import Array, DType
from edge.wire import tensor_proto
from edge.wire.proto.messages import message

MAX = 1 << 20


def read(content: bytes) -> Array:
    return tensor_proto.read(tensor_proto.look(content, "x", MAX))


def proto(dtype: DType | int, shape: tuple[int, ...], **fields: Any) -> bytes:
    number = tensor_proto.NUMBERS[dtype] if isinstance(dtype, DType) else dtype
    made = message("tensorflow.TensorProto")(dtype=number, **fields)
    made.tensor_shape.SetInParent()
    for size in shape:
        made.tensor_shape.dim.add().size = size
    data: bytes = made.SerializeToString()
    return data


def example(dtype: DType) -> Array:
    if dtype is DType.STRING:
        return np.array([[b"", b"\xff\x00"], [b"abc", b"d"]], object)
    if dtype is DType.BOOL:
        return np.array([[True, False], [False, True]])
    if dtype.is_integer:
        limits = np.iinfo(dtype.numpy)
        return np.array([[limits.min, limits.max], [0, 1]], dtype.numpy)
    limits_ = np.finfo(dtype.numpy)
    return np.array([[limits_.min, -0.0], [np.inf, np.nan]], dtype.numpy)


@pytest.mark.parametrize("dtype", DType)
def test_what_is_written_is_read_again(dtype: DType) -> None:
    for array in (example(dtype), example(dtype)[:1, 0], example(dtype)[0, 0:1].reshape(()), example(dtype)[:0]):
        got = read(tensor_proto.write(array))
        assert (got.dtype, got.shape) == (array.dtype, array.shape)
        assert got.tolist() == array.tolist() or np.array_equal(got, array, equal_nan=True)


@pytest.mark.parametrize("dtype", [each for each in DType if each is not DType.STRING])
def test_tensor_content_is_read_as_it_lies(dtype: DType) -> None:
    array = example(dtype)
    assert np.array_equal(
        read(proto(dtype, (2, 2), tensor_content=array.tobytes())), array, equal_nan=dtype.numpy.kind == "f"
    )


def test_strings_in_tensor_content_are_their_lengths_and_then_themselves() -> None:
    long = b"x" * 200
    assert read(proto(DType.STRING, (3,), tensor_content=b"\x01\x00\xc8\x01a" + long)).tolist() == [b"a", b"", long]
    for wrong in (b"\x01", b"\x01\x00\xc8\x01a", b"\xff\xff\xff\xff\xff\x01\x00\x00", b"\x00\x00\x00z"):
        with pytest.raises(InvalidInput, match=r"^tensor parsing error: x: "):
            read(proto(DType.STRING, (3,), tensor_content=wrong))


@pytest.mark.parametrize(
    ("dtype", "fields", "want"),
    [
        (DType.FLOAT32, {"float_val": [1.5]}, [1.5, 1.5, 1.5]),
        (DType.FLOAT32, {"float_val": [1.5, 2.0]}, [1.5, 2.0, 2.0]),
        (DType.FLOAT32, {"float_val": [1.0, 2.0, 3.0, 4.0]}, [1.0, 2.0, 3.0]),
        (DType.FLOAT32, {}, [0.0, 0.0, 0.0]),
        (DType.INT64, {"int64_val": [-7]}, [-7, -7, -7]),
        (DType.BOOL, {"bool_val": [True, False]}, [True, False, False]),
        (DType.FLOAT16, {"half_val": [0x3C00]}, [1.0, 1.0, 1.0]),
        (DType.STRING, {"string_val": [b"a"]}, [b"a", b"a", b"a"]),
        (DType.STRING, {}, [b"", b"", b""]),
    ],
)
def test_the_last_value_stands_for_those_that_lack_as_tensorflow_has_it(
    dtype: DType, fields: dict[str, Any], want: list[Any]
) -> None:
    assert read(proto(dtype, (3,), **fields)).tolist() == want


def test_floats_that_are_not_packed_are_read_too() -> None:
    head = proto(DType.FLOAT32, (3,))
    loose = b"".join(b"\x2d" + np.float32(value).tobytes() for value in (1, 2, 3))
    assert read(head + loose).tolist() == [1.0, 2.0, 3.0]
    halves = b"".join(b"\x2a\x04" + np.float32(value).tobytes() for value in (1, 2, 3))
    assert read(head + halves).tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("number", "dtype"),
    [(11, np.int8), (12, np.uint8), (13, np.int32), (15, np.int16), (16, np.uint16)],
)
def test_a_quantized_type_is_the_integers_that_it_holds(number: int, dtype: Any) -> None:
    assert read(proto(number, (2,), int_val=[1, 2])).dtype == dtype


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (proto(DType.INT8, (1,), int_val=[128]), "want int8, got a value outside -128 to 127"),
        (proto(DType.FLOAT16, (1,), half_val=[1 << 16]), "want float16, got a value outside 0 to 65535"),
        (proto(DType.FLOAT64, (MAX,)), "want at most 1048576 bytes, got float64 [1048576]"),
        (proto(DType.FLOAT32, (0, 2**60)), "want at most"),
        (proto(DType.STRING, (MAX + 1,)), "want at most 1048576 strings"),
        (proto(DType.FLOAT32, (-1,)), "want sizes of at least 0, got shape [-1]"),
        (proto(DType.FLOAT32, (1,) * 33), "want at most 32 dimensions, got 33"),
        (proto(8, ()), "no tensor here has the type number 8"),
        (b"\x12\x02\x18\x01\x08\x01", "want a shape, got an unknown rank"),
    ],
)
def test_what_is_no_tensor_is_told(content: bytes, said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read(content)
    assert caught.value.message.startswith("tensor parsing error: x: ")
    assert said in caught.value.message


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_bytes_are_a_tensor_or_an_invalid_input(data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(list(DType)))
    content = bytearray(
        data.draw(st.sampled_from([tensor_proto.write(example(dtype)), proto(dtype, (2,), tensor_content=b"12345678")]))
    )
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(content)))
    try:
        array = read(bytes(content[:end]))
    except InvalidInput:
        return
    assert DType.of(array.astype(array.dtype.newbyteorder("=")))
    assert array.nbytes <= MAX * 8
