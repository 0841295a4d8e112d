"""Definitions become messages, and those are TensorFlow Serving's and Triton's on the wire."""

from __future__ import annotations

from typing import Any

import pytest

from edge.domain.errors import InvalidInput
from edge.wire.proto.language import file_of
from edge.wire.proto.messages import FILES, message, parse, pool


def test_every_form_of_a_definition_becomes_its_descriptor() -> None:
    made = file_of(
        """// a word
        syntax = "proto3"; package a.b; import "c.proto";
        message Outer {
          message Inner { enum Kind { NO = 0; YES = 5; } Kind kind = 1; }
          Inner inner = 1; // its own
          repeated a.c.Other others = 2;
          map<string, Inner> by_name = 3;
          oneof which { bytes data = 4; Second second = 5; }
        }
        message Second {}
        """,
        "x.proto",
    )
    assert (made.package, list(made.dependency)) == ("a.b", ["c.proto"])
    outer = made.message_type[0]
    assert [(field.name, field.number, field.type_name) for field in outer.field] == [
        ("inner", 1, ".a.b.Outer.Inner"),
        ("others", 2, ".a.c.Other"),
        ("by_name", 3, ".a.b.Outer.ByNameEntry"),
        ("data", 4, ""),
        ("second", 5, ".a.b.Second"),
    ]
    assert [field.HasField("oneof_index") for field in outer.field] == [False, False, False, True, True]
    entry = next(nested for nested in outer.nested_type if nested.options.map_entry)
    assert [field.type_name for field in entry.field] == ["", ".a.b.Outer.Inner"]
    kind = outer.nested_type[0].enum_type[0]
    assert [(value.name, value.number) for value in kind.value] == [("NO", 0), ("YES", 5)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("package a;\nservice S {}", "x:2: want message, enum, package or import, got 'service'"),
        ("message M {\n  string a 1;\n}", "x:2: want '=', got '1'"),
        ("message M { string a = b; }", "x:1: want a number, got 'b'"),
        ("message M {", "x: it ends too early"),
        ("message M { string a = 1 [packed=true]; }", "x:1: want a word, got '['"),
    ],
)
def test_a_mistake_is_told_with_its_line(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=r"^x") as caught:
        file_of(text, "x")
    assert str(caught.value) == said


def test_bytes_that_are_no_message_are_an_invalid_input() -> None:
    with pytest.raises(InvalidInput, match=r"want a tensorflow\.serving\.PredictRequest, got 3 bytes that are none"):
        parse("tensorflow.serving.PredictRequest", b"\xff\xff\xff")


def test_messages_live_beside_others_of_the_same_names() -> None:
    service = pytest.importorskip("tritonclient.grpc.service_pb2")
    ours = message("inference.ModelInferRequest")
    assert ours is not service.ModelInferRequest
    theirs = service.ModelInferRequest(model_name="m", id="7")
    theirs.parameters["timeout"].int64_param = 5
    assert ours.FromString(theirs.SerializeToString()).parameters["timeout"].int64_param == 5


def test_every_field_of_the_open_inference_protocol_is_tritons() -> None:
    service = pytest.importorskip("tritonclient.grpc.service_pb2")
    config = pytest.importorskip("tritonclient.grpc.model_config_pb2")
    theirs = dict(service.DESCRIPTOR.message_types_by_name) | dict(config.DESCRIPTOR.message_types_by_name)
    ours = pool().FindFileByName("inference.proto").message_types_by_name
    assert len(ours) > 30
    for name, descriptor in ours.items():
        compare(descriptor, theirs[name])


def compare(ours: Any, theirs: Any) -> None:
    """Every field of ours is one of theirs, the same on the wire."""
    for field in ours.fields:
        other = theirs.fields_by_number.get(field.number)
        where = f"{ours.full_name}.{field.name}"
        assert other is not None, where
        assert (field.name, field.is_repeated) == (other.name, other.is_repeated), where
        assert field.type == other.type, where
        if field.enum_type is not None:
            assert {v.name: v.number for v in field.enum_type.values} == {
                v.name: v.number for v in other.enum_type.values
            }, where
    for nested in ours.nested_types:
        compare(nested, theirs.nested_types_by_name[nested.name])


def test_every_definition_is_read() -> None:
    assert [pool().FindFileByName(f"{name}.proto").name for name in FILES] == [f"{name}.proto" for name in FILES]
