"""Tensors cross shared memory as they are, and what is said of it is checked before it is looked at."""

from __future__ import annotations

import errno
import gc
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edge.backends.worker.arena import ALIGNMENT, MAX_TENSORS, Arena, Full, pack, unpack
from edge.backends.worker.messages import Garbage, Tensor
from edge.domain.tensors import Array, DType

NUMBERS = [dtype for dtype in DType if dtype is not DType.STRING]


def arrays() -> st.SearchStrategy[Array]:
    shapes = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)
    return st.sampled_from(NUMBERS).flatmap(lambda dtype: hnp.arrays(dtype.numpy, shapes))


def texts(*values: bytes) -> Array:
    array = np.empty(len(values), object)
    array[:] = values
    return array


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=3), arrays(), max_size=4), st.booleans())
def test_numbers_of_every_type_and_shape_come_out_as_they_went_in(tensors: dict[str, Array], copy: bool) -> None:
    arena = Arena.new(1)
    places, _ = pack(arena, tensors)
    out = unpack(arena.bytes(), places, copy=copy)
    assert out.keys() == tensors.keys()
    for name, array in tensors.items():
        assert out[name].dtype == array.dtype
        assert out[name].shape == array.shape
        assert out[name].tobytes() == array.tobytes()
        assert out[name].flags.aligned
    arena.close()


@settings(deadline=None)
@given(st.lists(st.binary(max_size=9), max_size=6))
def test_strings_keep_every_byte(values: list[bytes]) -> None:
    arena = Arena.new(1)
    places, _ = pack(arena, {"a": np.zeros(3, np.int8), "s": texts(*values), "t": np.array(b"rank 0", object)})
    out = unpack(arena.bytes(), places)
    assert out["s"].tolist() == values
    assert out["t"].shape == ()
    assert out["t"].item() == b"rank 0"
    arena.close()


def test_what_is_no_block_in_memory_crosses_as_what_it_looks_like() -> None:
    arena = Arena.new(1)
    array = np.arange(24, dtype=np.float32).reshape(4, 6).T[::2]
    places, _ = pack(arena, {"x": array})
    assert np.array_equal(unpack(arena.bytes(), places)["x"], array)
    arena.close()


def test_tensors_lie_where_a_runtime_takes_them_without_a_copy() -> None:
    arena = Arena.new(1)
    places, _ = pack(arena, {name: np.ones(3, np.int8) for name in "abc"})
    assert [place.at % ALIGNMENT for place in places] == [0, 0, 0]
    memory = arena.bytes()
    unpack(memory, places)["b"][1] = 7
    assert unpack(memory, places)["b"].tolist() == [1, 7, 1], "a view, and no copy"
    assert unpack(memory, places, copy=True)["b"].base is None
    arena.close()


def test_the_other_side_sees_what_was_written_also_after_it_has_grown() -> None:
    ours = Arena.new(1)
    pack(ours, {"x": np.zeros(4, np.int8)})
    theirs = Arena(os.dup(ours.file), 1)
    theirs.follow(ours.size)
    before = theirs.bytes()
    before[0] = 9
    places, _ = pack(theirs, {"y": np.arange(100_000, dtype=np.int32)})
    assert theirs.size > ours.size
    ours.follow(theirs.size)
    assert unpack(ours.bytes(), places)["y"].sum() == sum(range(100_000))
    assert len(before) == 65_536, "what was mapped stays"
    ours.close()
    theirs.close()


def test_neither_side_can_take_memory_away_that_the_other_looks_at() -> None:
    arena = Arena.new(1)
    pack(arena, {"x": np.zeros(4, np.int8)})
    with pytest.raises(PermissionError) as raised:
        os.ftruncate(arena.file, 0)
    assert raised.value.errno == errno.EPERM
    arena.close()


def test_an_arena_grows_no_further_than_it_may() -> None:
    arena = Arena.new(1, max_bytes=100_000)
    pack(arena, {"x": np.zeros(100_000, np.int8)})
    assert arena.size <= 100_000
    with pytest.raises(Full, match="want at most 100000 bytes of tensors in a run, got 100001"):
        pack(arena, {"x": np.zeros(100_001, np.int8)})
    arena.close()


@pytest.mark.parametrize("size", [10, 2**40, -1])
def test_a_size_that_the_other_side_only_claims_is_garbage(size: int) -> None:
    arena = Arena.new(1)
    arena.grow(1)
    with pytest.raises(Garbage, match="cannot have become one of"):
        arena.follow(size)
    arena.close()


def test_memory_that_is_claimed_but_not_there_is_garbage_and_no_signal() -> None:
    arena = Arena.new(1)
    arena.grow(1)
    with pytest.raises(Garbage, match="cannot have become one of"):
        arena.follow(2 * arena.size)
    arena.close()


@pytest.mark.parametrize(
    "place",
    [
        Tensor("x", DType.INT8, (4,), 65_536, 4),
        Tensor("x", DType.INT8, (4,), -64, 4),
        Tensor("x", DType.INT8, (4,), 0, -4),
        Tensor("x", DType.INT8, (5,), 0, 4),
        Tensor("x", DType.INT32, (1,), 1, 4),
        Tensor("x", DType.INT8, (-1, -4), 0, 4),
        Tensor("x", DType.INT8, (2**62, 2**62), 0, 4),
        Tensor("x", DType.INT8, (1,) * 33, 0, 1),
        *(Tensor("x", DType.FLOAT32, shape, 0, 0) for shape in [(0, 2**62), (0, 2**63), (2**64 - 1, 0)]),
        Tensor("x", DType.STRING, (0, 2**63), 0, 8),
        Tensor("x", DType.STRING, (4,), 0, 8),
        Tensor("x", DType.STRING, (2**60,), 0, 64),
    ],
)
def test_a_place_that_is_not_there_is_garbage(place: Tensor) -> None:
    arena = Arena.new(1)
    arena.grow(1)
    with pytest.raises(Garbage):
        unpack(arena.bytes(), [place])
    arena.close()


@pytest.mark.parametrize("offsets", [[1, 2, 3], [0, 9, 3], [0, 2, 4], [0, -1, 3]])
def test_strings_that_do_not_lie_one_behind_the_other_are_garbage(offsets: list[int]) -> None:
    arena = Arena.new(1)
    places, _ = pack(arena, {"s": texts(b"a", b"bc")})
    arena.bytes()[:24] = np.array(offsets, "<i8").view(np.uint8)
    with pytest.raises(Garbage, match="one behind the other"):
        unpack(arena.bytes(), places)
    arena.close()


def test_lent_memory_comes_back_when_the_last_view_of_it_has_gone() -> None:
    arena = Arena.new(1)
    places, _ = pack(arena, {"x": np.arange(5, dtype=np.int64)})
    back: list[bool] = []
    out = unpack(arena.lend(lambda: back.append(True)), places)
    view = out.pop("x").reshape(1, 5)[:, 1:].T
    gc.collect()
    assert not back
    arena.close()
    assert view.ravel().tolist() == [1, 2, 3, 4], "it stays what it is"
    del view
    gc.collect()
    assert back == [True]


def test_more_tensors_than_any_model_has_are_not_looked_at() -> None:
    place = Tensor("x", DType.INT8, (0,), 2**40, 0)
    with pytest.raises(Garbage, match=f"want at most {MAX_TENSORS} tensors, got {MAX_TENSORS + 1}"):
        unpack(np.zeros(64, np.uint8), [place] * (MAX_TENSORS + 1))


def test_a_tensor_that_is_named_twice_is_garbage() -> None:
    with pytest.raises(Garbage, match="want each tensor once"):
        unpack(np.zeros(64, np.uint8), [Tensor("x", DType.INT8, (1,), 0, 1)] * 2)
