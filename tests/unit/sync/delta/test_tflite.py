"""Where a model's numbers lie is found, or the file is none; nothing else comes out, and not late."""

from __future__ import annotations

import struct
import time
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.domain.tensors import DType
from sync.delta.encode import make_patch
from sync.delta.tflite import SCALES, WEIGHTS, ZERO_POINTS, NotAModel, regions
from tests.flatbuffer import Again, Field, Scalar, Table, Vector, serialize
from tests.tflite_models import Graph, T, make
from tests.unit.sync.delta.test_decode import applied


def model(tensors: Field, buffers: Sequence[Table]) -> bytes:
    return serialize(Table([Scalar("I", 3), None, [Table([tensors])], None, buffers]))


def tensor(name: str, buffer: int) -> Table:
    return Table([None, Scalar("b", 9), Scalar("I", buffer), name, None])


def buffer(data: bytes) -> Table:
    return Table([Vector("B", data, align=16)])


def test_weights_scales_and_zero_points_are_found_where_they_lie() -> None:
    data = np.arange(100, dtype=np.int8)
    file = make([Graph([T("w", DType.INT8, (100,), data, scales=[0.5, 0.25], zero_points=[3, 4])], [0], [0])])
    found = {(each.name, each.what): file[each.start : each.end] for each in regions(file)}
    assert found == {
        ("w", WEIGHTS): data.tobytes(),
        ("w", SCALES): struct.pack("<2f", 0.5, 0.25),
        ("w", ZERO_POINTS): struct.pack("<2q", 3, 4),
    }


def test_a_buffer_that_two_tensors_share_is_found_once() -> None:
    file = model([tensor("a", 1), tensor("b", 1)], [Table([]), buffer(b"x" * 100)])
    assert [(each.name, each.size) for each in regions(file)] == [("a", 100)]
    patch = make_patch(file, file.replace(b"x" * 100, b"xy" * 50), search=lambda old, new: None)
    assert patch is not None


def test_buffers_beyond_the_tables_are_found_and_those_beyond_the_end_are_not() -> None:
    def file(start: int, size: int) -> bytes:
        return model([tensor("a", 1)], [Table([]), Table([None, Scalar("Q", start), Scalar("Q", size)])]) + b"z" * 64

    end = len(file(2, 1))
    assert [file(2, 1)[each.start : each.end] for each in regions(file(end - 64, 64))] == [b"z" * 64]
    for start, size in [(end - 64, 65), (end + 1, 0), (2**64 - 1, 2), (2, 2**64 - 1)]:
        with pytest.raises(NotAModel, match="bytes at"):
            regions(file(start, size))


def test_a_tensor_whose_buffer_is_not_there_has_no_weights() -> None:
    assert regions(model([tensor("a", 7)], [Table([])])) == []


def test_a_table_that_is_named_without_end_is_no_model_and_is_told_soon() -> None:
    file = model(Again(tensor("n" * 5000, 0), 5_000_000), [Table([])])
    start = time.monotonic()
    with pytest.raises(NotAModel, match="more than 200000 tables"):
        regions(file)
    assert time.monotonic() - start < 20


@pytest.mark.parametrize("file", [b"", b"TFL3", b"\xff\xff\xff\xffTFL3", b"\4\0\0\0TFLX"])
def test_what_is_no_model_is_none(file: bytes) -> None:
    with pytest.raises(NotAModel):
        regions(file)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_of_a_damaged_model_come_regions_within_it_or_none(data: st.DataObject) -> None:
    file = bytearray(model([tensor("a", 1), tensor("b", 2)], [Table([]), buffer(b"x" * 99), buffer(b"y" * 50)]))
    for _ in range(data.draw(st.integers(1, 5))):
        file[data.draw(st.integers(0, len(file) - 1))] = data.draw(st.integers(0, 255))
    hostile = bytes(file[: data.draw(st.integers(len(file) // 2, len(file)))])
    try:
        found = regions(hostile)
    except NotAModel:
        return
    ends = [0]
    for each in found:
        assert ends[-1] <= each.start < each.end <= len(hostile)
        ends.append(each.end)


def test_tensors_that_lie_in_each_other_make_a_patch_that_applies() -> None:
    whole = model([tensor("a", 1), tensor("b", 2)], [Table([]), buffer(bytes(range(200))), Table([None, Scalar("Q", 2), Scalar("Q", 1)])])  # fmt: skip
    start = whole.index(bytes(range(200)))
    inner = struct.pack("<QQ", start + 50, 100)
    at = whole.index(struct.pack("<QQ", 2, 1))
    file = whole[:at] + inner + whole[at + 16 :]
    assert [each.size for each in regions(file)] == [200]
    patch = make_patch(whole, file, search=lambda old, new: None)
    assert patch is not None
    assert applied(patch, whole, file) == file
