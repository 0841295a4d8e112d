"""Protobuf's text format, as TensorFlow Serving reads it: what it takes, and the words and places of what it does not."""

from __future__ import annotations

import re
import string
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.config.tfserving.files import parse_message
from edge.config.tfserving.json_form import parse_json
from edge.config.tfserving.messages import BATCHING, LOGGING, MODEL, MODELS, MONITORING, POLICY, SSL, Message
from edge.config.tfserving.text import parse_text
from edge.config.tfserving.tokens import TextError


@pytest.mark.parametrize(
    ("text", "message", "value"),
    [
        ("", MODELS, {}),
        ("# nothing\n", MODELS, {}),
        ("model_config_list {}", MODELS, {"model_config_list": {}}),
        ("model_config_list: <>", MODELS, {"model_config_list": {}}),
        ("name: \"a\" base_path: '/m'", MODEL, {"name": "a", "base_path": "/m"}),
        ('name: "a", base_path: "/m";', MODEL, {"name": "a", "base_path": "/m"}),
        ('name: "a" \'b\' # c\n "d"', MODEL, {"name": "abd"}),
        (r'name: "\n\t\\\"\'\x41\101é\303\244"', MODEL, {"name": "\n\t\\\"'AAéä"}),
        ('server_key: "-----BEGIN\nKEY\n"', SSL, {"server_key": "-----BEGIN\nKEY\n"}),
        ("client_verify: true", SSL, {"client_verify": True}),
        ("client_verify: 0", SSL, {"client_verify": False}),
        ("client_verify: t", SSL, {"client_verify": True}),
        ("model_type: TENSORFLOW", MODEL, {"model_type": 1}),
        ("model_type: 2", MODEL, {"model_type": 2}),
        ("specific { versions: 1 versions: [2, 3] }", POLICY, {"specific": {"versions": [1, 2, 3]}}),
        ("specific { versions: [] }", POLICY, {"specific": {"versions": []}}),
        ("specific { versions: [0x10, 010, -1] }", POLICY, {"specific": {"versions": [16, 8, -1]}}),
        ("max_batch_size { value: 8 }", BATCHING, {"max_batch_size": {"value": 8}}),
        ("sampling_config { sampling_rate: 0.5f }", LOGGING, {"sampling_config": {"sampling_rate": 0.5}}),
        ("sampling_config { sampling_rate: -1e-3 }", LOGGING, {"sampling_config": {"sampling_rate": -1e-3}}),
        (
            "version_labels { key: 's' value: 1 } version_labels [{ key: 'c' value: 2 }, { key: 's' value: 3 }]",
            MODEL,
            {"version_labels": {"s": 3, "c": 2}},
        ),
    ],
)
def test_what_there_is_to_write_is_read(text: str, message: Message, value: object) -> None:
    assert parse_text(text, message) == value


@pytest.mark.parametrize(
    ("text", "message", "said"),
    [
        ("nmae: 'a'", MODEL, '1:5: Message type "tensorflow.serving.ModelConfig" has no field named "nmae".'),
        ("name 'a'", MODEL, '1:6: Expected ":", found "\'a\'".'),
        ("name: a", MODEL, "1:7: Expected string, got: a"),
        ("name: 'a' name: 'b'", MODEL, '1:15: Non-repeated field "name" is specified multiple times.'),
        ("\n\tname: 1", MODEL, "2:15: Expected string, got: 1"),
        ("model_config_list {", MODELS, "1:20: Expected identifier, got: "),
        ("model_config_list { config { name: 'a' > }", MODELS, '1:40: Expected "}", found ">".'),
        ("model_config_list 1", MODELS, '1:19: Expected "{", found "1".'),
        ("}", MODELS, "1:1: Expected identifier, got: }"),
        ("{}", MODEL, "1:1: Expected identifier, got: {"),
        ("client_verify: yes", SSL, '1:19: Invalid value for boolean field "client_verify". Value: "yes".'),
        ("client_verify: 2", SSL, "1:16: Integer out of range (2)"),
        ("model_type: TF", MODEL, '1:15: Unknown enumeration value of "TF" for field "model_type".'),
        ("latest { num_versions: -1 }", POLICY, "1:24: Expected integer, got: -"),
        ("latest { num_versions: 4294967296 }", POLICY, "1:24: Integer out of range (4294967296)"),
        ("latest { num_versions: 1.5 }", POLICY, "1:24: Expected integer, got: 1.5"),
        (
            "latest {} all {}",
            POLICY,
            '1:15: Field "all" is specified along with field "latest", another member of oneof "policy_choice".',
        ),
        ("specific { versions: [1 2] }", POLICY, '1:25: Expected ",", found "2".'),
        ("specific { versions: [9223372036854775808] }", POLICY, "1:23: Integer out of range (9223372036854775808)"),
        ("name: 'a", MODEL, "1:9: Unexpected end of string."),
        (r"name: '\q'", MODEL, "1:9: Invalid escape sequence in string literal."),
        (r"name: '\xff'", MODEL, "1:7: String field contains invalid UTF-8 data"),
        ("näme: 'a'", MODEL, "1:2: Interpreting non ascii codepoint 195."),
        ("name\0: 'a'", MODEL, "1:5: Invalid control characters encountered in text."),
        ("custom_model_config { [type.googleapis.com/a] {} }", MODELS, "1:23: want no extension or Any here"),
    ],
)
def test_what_is_wrong_is_said_with_its_place_in_the_originals_words(text: str, message: Message, said: str) -> None:
    with pytest.raises(TextError) as caught:
        parse_text(text, message)
    assert str(caught.value).startswith(said)


@given(st.text(string.printable + "ä\0", max_size=60))
def test_garbage_is_an_error_with_a_place_or_it_is_none(text: str) -> None:
    for message in (MODELS, BATCHING, MONITORING, SSL):
        assert re.match(r"[1-9]\d*:[1-9]\d*: |$", error_of(text, message))


def error_of(text: str, message: Message) -> str:
    try:
        parse_text(text, message)
    except TextError as error:
        return str(error)
    return ""


def quoted(text: str) -> str:
    return '"' + "".join(f"\\{byte:03o}" for byte in text.encode()) + '"'


@given(st.lists(st.tuples(st.text(max_size=5), st.text(max_size=5), st.integers(-(2**63), 2**63 - 1)), max_size=4))
def test_whatever_is_written_comes_back(models: list[tuple[str, str, int]]) -> None:
    text = "".join(
        f"config {{ name: {quoted(name)} version_labels {{ key: {quoted(label)} value: {number} }} }}\n"
        for name, label, number in models
    )
    found = parse_text(f"model_config_list {{ {text} }}", MODELS)["model_config_list"].get("config", [])
    assert found == [{"name": name, "version_labels": {label: number}} for name, label, number in models]


def test_a_thousand_models_are_read_in_a_moment() -> None:
    text = "config { name: 'm' base_path: '/m' model_platform: 'tensorflow' }\n" * 1000
    began = time.perf_counter()
    assert len(parse_text(f"model_config_list {{ {text} }}", MODELS)["model_config_list"]["config"]) == 1000
    assert time.perf_counter() - began < 5


JSON: list[tuple[str, Message, Any]] = [
    (
        '{"model_config_list": {"config": [{"name": "a", "base_path": "/m", "model_platform": "tensorflow"}]}}',
        MODELS,
        {"model_config_list": {"config": [{"name": "a", "base_path": "/m", "model_platform": "tensorflow"}]}},
    ),
    ('{"modelConfigList": {}}', MODELS, {"model_config_list": {}}),
    ('{"versionLabels": {"s": "3", "c": 2}, "modelType": "TENSORFLOW"}', MODEL, {"version_labels": {"s": 3, "c": 2}, "model_type": 1}),
    ('{"specific": {"versions": ["1", 2.0]}}', POLICY, {"specific": {"versions": [1, 2]}}),
    ('{"maxBatchSize": 8, "threadPoolName": "x"}', BATCHING, {"max_batch_size": {"value": 8}, "thread_pool_name": {"value": "x"}}),
    ('{"name": null}', MODEL, {}),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message", "value"), JSON)
def test_the_json_form_says_the_same(text: str, message: Message, value: Any) -> None:
    assert parse_json(text, message) == value
    assert parse_message(b"\n " + text.encode(), message) == value


@pytest.mark.parametrize(
    ("text", "message", "said"),
    [
        ('{"name": 1}', MODEL, "name: want string, got 1"),
        ('{"config": 1}', MODELS, 'config: Message type "tensorflow.serving.ModelServerConfig" has no field named'),
        ('{"modelConfigList": [1]}', MODELS, "modelConfigList: want an object, got [1]"),
        ('{"model_config_list": {"config": {}}}', MODELS, "model_config_list.config: want a list, got {}"),
        ('{"name": "a"', MODEL, "1:13: Expecting ',' delimiter"),
        ('{"latest": {}, "all": {}}', POLICY, 'all: Field "all" is specified along with field "latest"'),
        ('{"model_type": [1]}', MODEL, "model_type: want int32, got [1]"),
        ('{"version_labels": {"a": "' + "9" * 5000 + '"}}', MODEL, "version_labels.a: want int64, got"),
    ],
)
def test_the_json_form_says_where_it_is_wrong(text: str, message: Message, said: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is what is looked at
        parse_json(text, message)
    assert str(caught.value).startswith(said)


def test_deep_json_is_an_error_and_no_crash() -> None:
    with pytest.raises(ValueError, match="Error parsing JSON"):
        parse_message(b'{"a":' * 100_000, MODELS)


def test_bytes_that_are_no_text_are_an_error_with_a_place() -> None:
    with pytest.raises(ValueError, match=r"Error parsing text-format [\w.]+: 2:2: Interpreting"):
        parse_message(b"\n \xff", MODELS)
