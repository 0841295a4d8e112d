"""What a file says of itself is read whole or refused, whatever its bytes."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.backends.flatbuffer import MAX_ITEMS, ModelFile, parse, read_model
from edge.domain.errors import LoadError
from edge.domain.tensors import DType
from tests.data import shared_data
from tests.flatbuffer import Again, Scalar, Table, Vector, serialize
from tests.tflite_models import CUSTOM, Graph, Op, Sig, T, custom, looping, make, passing, scaling


def test_the_interface_of_a_model_is_read_from_its_bytes() -> None:
    tensors = [
        T("x", DType.UINT8, (1, -1), scales=[0.5], zero_points=[3]),
        T("y", DType.INT8, (1, 2), scales=[1, 2, 3]),
    ]
    model = parse(make([Graph(tensors, [0], [1])], [Sig({"in": 0}, {"out": 1}, "mine")]))
    x, y = model.subgraphs[0].tensors
    assert (x.name, x.shape, x.scales, x.scale, x.zero_point) == ("x", (1, -1), 1, 0.5, 3)
    assert (y.name, y.shape, y.scales) == ("y", (1, 2), 3)
    assert model.signatures[0].key == "mine"
    assert model.signatures[0].inputs == {"in": 0}
    assert model.signatures[0].outputs == {"out": 1}


def test_a_part_for_the_edge_tpu_is_known_before_loading() -> None:
    assert parse(custom("edgetpu-custom-op")).for_edgetpu
    assert not parse(custom("something-else")).for_edgetpu
    assert parse(custom("something-else")).custom_ops == ("something-else",)


def test_a_loop_in_the_graph_is_seen() -> None:
    assert parse(looping()).has_loops
    assert not parse(scaling(2.0)).has_loops


def test_weights_are_told_from_what_is_computed() -> None:
    constant = [tensor.constant for tensor in parse(scaling(2.0)).subgraphs[0].tensors]
    assert constant == [False, True, False]


def test_a_published_model_is_read() -> None:
    model = read_model(shared_data("mobilenet_v2_1.0_224_quant.tflite"))
    graph = model.subgraphs[0]
    assert [graph.tensors[index].name for index in graph.inputs] == ["input"]
    assert graph.tensors[graph.inputs[0]].shape == (1, 224, 224, 3)
    assert not model.for_edgetpu


def test_a_model_compiled_for_the_edge_tpu_is_read() -> None:
    assert read_model(shared_data("mobilenet_v1_0.25_128_quant_edgetpu.tflite")).for_edgetpu


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty file"),
        (b"\x00", "want a TFLite model"),
        (b"abc", "want a TFLite model, got a file that is only 3 bytes long"),
        (b"<html>not found</html>", "want a TFLite model, which has b'TFL3' at byte 4"),
        (b"PK\x03\x04" + bytes(100), "want a TFLite model"),
        (make([Graph([T("x")], [0], [0])], version=2), "schema version 2, want 3"),
        (serialize(Table([Scalar("I", 3)])), "no subgraph"),
        (scaling(2.0)[:100], "truncated or corrupt"),
        (b"\xff\xff\xff\xffTFL3" + bytes(64), "truncated or corrupt"),
        (make([Graph([T("x")], [1], [0])]), "a subgraph's tensor is number 1 of 1"),
        (make([Graph([T("x")], [0], [-1])]), "a subgraph's tensor is number -1 of 1"),
        (make([Graph([T("x")], [0], [0], [Op(CUSTOM, (7,), (0,), "op")])]), "an operator's tensor is number 7 of 1"),
        (make([Graph([T("x")], [0], [0])], [Sig({"x": 0}, {"y": 3})]), "a signature's tensor is number 3 of 1"),
        (
            make([Graph([T("x")], [0], [0])], [Sig({"x": 0}, {"y": 0}, graph=2)]),
            "a signature's subgraph is number 2 of 1",
        ),
        (make([Graph([T("x", shape=(1,) * 33)], [0], [0])]), "33 numbers"),
        (make([Graph([T("x" * 5000)], [0], [0])]), "a name of 5000 bytes"),
    ],
)
def test_what_is_not_a_whole_model_is_refused_in_words(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    with pytest.raises(LoadError) as caught:
        read_model(path)
    assert words in str(caught.value)
    assert "model.tflite" in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"model\.tflite: cannot be read: No such file"):
        read_model(tmp_path / "model.tflite")
    with pytest.raises(LoadError, match="cannot be read"):
        read_model(tmp_path)


def test_tables_that_are_named_again_and_again_cost_bounded_work() -> None:
    """24 KB that would be nine million tables to a trusting reader."""
    tensor = Table([Vector("i", [1]), Scalar("b", 0), Scalar("I", 0)])
    bomb = serialize(Table([Scalar("I", 3), None, Again(Table([Again(tensor, 3_000)]), 3_000)]))
    with pytest.raises(LoadError, match=f"more than {MAX_ITEMS} tables and numbers"):
        parse(bomb)


SEEDS = [scaling(2.0), passing(DType.STRING), looping(), custom("edgetpu-custom-op")]


def _survives(data: bytes) -> None:
    with contextlib.suppress(LoadError):
        assert isinstance(parse(data), ModelFile)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(SEEDS), st.data())
def test_a_damaged_model_is_read_or_refused_and_nothing_else(seed: bytes, data: st.DataObject) -> None:
    damaged = bytearray(seed)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(damaged) - 4))
        patch = data.draw(
            st.one_of(st.binary(min_size=1, max_size=4), st.sampled_from([b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff"]))
        )
        damaged[at : at + len(patch)] = patch
    _survives(bytes(damaged))


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(SEEDS), st.data())
def test_a_truncated_model_is_read_or_refused_and_nothing_else(seed: bytes, data: st.DataObject) -> None:
    _survives(seed[: data.draw(st.integers(0, len(seed)))])


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_random_bytes_are_read_or_refused_and_nothing_else(noise: bytes) -> None:
    _survives(noise)
    _survives(b"\x10\0\0\0TFL3" + noise)
