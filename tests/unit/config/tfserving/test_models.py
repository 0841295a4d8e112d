"""What TensorFlow Serving would not take of a model config, in its words; and what it takes."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.config.tfserving.files import MAX_FILE_BYTES, Refused, parse_message, read_message
from edge.config.tfserving.messages import MODELS
from edge.config.tfserving.models import ModelEntry, check_labels, check_platforms, entries

A = 'config { name: "a" base_path: "/m/a" model_platform: "tensorflow" %s }'


def read(*models: str) -> list[ModelEntry]:
    found = entries(parse_message(f"model_config_list {{ {' '.join(models)} }}".encode(), MODELS))
    check_platforms(found, {})
    return found


@pytest.mark.parametrize(
    ("policy", "ours"),
    [
        ("", "latest:1"),
        ("model_version_policy { latest {} }", "latest:1"),
        ("model_version_policy { latest { num_versions: 0 } }", "latest:1"),
        ("model_version_policy { latest { num_versions: 3 } }", "latest:3"),
        ("model_version_policy { all {} }", "all"),
        ("model_version_policy { specific { versions: 2 versions: 1 } }", "specific:2,1"),
    ],
)
def test_a_version_policy_is_carried(policy: str, ours: str) -> None:
    assert read(A % policy) == [ModelEntry("a", "/m/a", policy=ours)]


def test_labels_and_the_older_name_of_the_platform_are_carried() -> None:
    model = 'config { name: "a" base_path: "/m" model_type: TENSORFLOW version_labels { key: "s" value: 3 } }'
    assert read(model) == [ModelEntry("a", "/m", labels={"s": 3})]


@pytest.mark.parametrize(
    ("models", "said"),
    [
        ([A % "", A % ""], "Illegal to list model a multiple times in config list"),
        (
            ['config { name: "a" base_path: "m/a" model_platform: "tensorflow" }'],
            "Expected model a to have an absolute path or URI; got base_path()=m/a",
        ),
        (['config { name: "a" base_path: "gs://b/a" model_platform: "tensorflow" }'], "model a: want a base_path on this"),
        (
            ['config { name: "a" base_path: "/m" }'],
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor ModelServerConfig::model_platform, "
            "model name is a",
        ),
        (
            [A % "model_type: TENSORFLOW"],
            "Illegal setting both ModelServerConfig::model_type (deprecated) and ModelServerConfig::model_platform, "
            "model name is a",
        ),
        (['config { name: "a" base_path: "/m" model_type: OTHER }'], "ModelServerConfig::model_type choice 2 not supported."),
        (['config { name: "a" base_path: "/m" model_platform: "caffe" }'], "Model a requests unsupported platform caffe"),
        (['config { name: "a b" base_path: "/m" model_platform: "tensorflow" }'], "model 'a b': want a name of"),
        ([A % "model_version_policy { specific {} }"], "model a: specific: want versions"),
        ([A % "version_labels { key: 's' }"], "model a: version_labels: want names and versions of at least 1"),
    ],
)  # fmt: skip
def test_what_it_would_not_take_is_refused_in_its_words(models: list[str], said: str) -> None:
    with pytest.raises(Refused) as caught:
        read(*models)
    assert caught.value.code == "INVALID_ARGUMENT"
    assert caught.value.message.startswith(said)


def test_another_platform_for_a_model_that_there_is_is_refused() -> None:
    with pytest.raises(Refused) as caught:
        check_platforms([ModelEntry("a", "/m", "caffe")], {"a": "tensorflow"})
    assert caught.value.message == (
        "Illegal to change a model's platform. For model a platform was tensorflow and new platform requested is caffe"
    )


def test_custom_configs_are_refused() -> None:
    with pytest.raises(Refused, match="UNIMPLEMENTED: ModelServer does not yet support custom model config"):
        entries(parse_message(b"custom_model_config {}", MODELS))


UNAVAILABLE = "FAILED_PRECONDITION: Request to assign label to version 2 of model a, which is not currently available for inference"


@pytest.mark.parametrize(
    ("before", "allow", "refused"),
    [({}, False, True), ({}, True, False), ({"s": 1}, False, True), ({"s": 1}, True, True), ({"s": 2}, True, False)],
)
def test_a_label_may_name_a_version_that_does_not_answer_where_it_is_new_and_allowed(
    before: dict[str, int], allow: bool, refused: bool
) -> None:
    def check() -> None:
        check_labels({"a": {"s": 2}}, {"a": before}, {"a": {1}}, allow_unavailable=allow)

    if refused:
        with pytest.raises(Refused) as caught:
            check()
        assert str(caught.value) == UNAVAILABLE
    else:
        check()


def test_a_label_may_name_a_version_that_answers() -> None:
    check_labels({"a": {"s": 2}}, {"a": {"s": 1}}, {"a": {1, 2}}, allow_unavailable=False)


def test_a_file_that_is_not_there_or_too_large_or_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=f"^NOT_FOUND: {tmp_path}/no; No such file or directory$"):
        read_message(tmp_path / "no", MODELS)
    (tmp_path / "huge").write_bytes(b"#" * (MAX_FILE_BYTES + 1))
    with pytest.raises(Refused, match=f"want at most {MAX_FILE_BYTES} bytes"):
        read_message(tmp_path / "huge", MODELS)
    with pytest.raises(Refused, match="FAILED_PRECONDITION"):
        read_message(tmp_path, MODELS)


WORDS = (
    "model_config_list", "config", "name", "base_path", "model_platform", "model_version_policy", "latest", "all", "specific",
    "versions", "num_versions", "version_labels", "key", "value", "logging_config", "custom_model_config", "model_type",
    "{", "}", "<", ">", "[", "]", ":", ",", ";", "-", "'a'", '"/m"', "'tensorflow'", "1", "99999999999999999999", "0x1", "1e9",
    "true", "TENSORFLOW", "#\n", "\\", "\0", "'", "é", "\t",
)  # fmt: skip


@given(st.lists(st.sampled_from(WORDS), max_size=40).map(" ".join))
def test_whatever_words_a_file_has_it_is_models_or_refused(text: str) -> None:
    models: list[ModelEntry] = []
    with suppress(ValueError, Refused):
        models = entries(parse_message(text.encode(), MODELS))
    assert all(model.base_path.startswith("/") for model in models)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.sampled_from(WORDS),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=4)))  # fmt: skip
def test_whatever_json_a_file_has_it_is_models_or_refused(tree: object) -> None:
    models: list[ModelEntry] = []
    with suppress(ValueError, Refused):
        models = entries(parse_message(json.dumps({"model_config_list": {"config": [tree]}}).encode(), MODELS))
    assert all(model.base_path.startswith("/") for model in models)


def test_a_pipe_in_a_files_place_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(Refused, match="FAILED_PRECONDITION"):
        read_message(tmp_path / "pipe", MODELS)
