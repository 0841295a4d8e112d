"""What a client sends in TensorFlow Serving's place becomes what its files would say; whatever holds is left alone."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format

from edge.config import Config, ConfigError
from edge.config.tfserving.files import MAX_FILE_BYTES, parse_message
from edge.config.tfserving.flags import parse_flags
from edge.config.tfserving.messages import MODELS
from edge.domain.errors import InvalidInput, TooEarly, TooLarge
from edge.tfserving_cli.settle import settle
from edge.tfserving_cli.standin import Standin
from edge.wire.proto.messages import message, pool
from edge.wire.tfserving_grpc_models import read_config

A = 'config { name: "a" base_path: "/m/a" model_platform: "tensorflow" %s }'
B = 'config { name: "b" base_path: "/m/b" model_platform: "tensorflow" %s }'
ALLOWED = "--allow_version_labels_for_unavailable_models"


def text(*models: str) -> str:
    return f"model_config_list {{ {' '.join(models)} }}"


def sent(*models: str) -> bytes:
    data: bytes = text_format.Parse(
        text(*models), message("tensorflow.serving.ModelServerConfig")()
    ).SerializeToString()
    return data


@pytest.fixture
def env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_SERVER__STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("EDGE_ADMIN__UDS", str(tmp_path / "admin.sock"))


def standin(file: Path, *flags: str) -> tuple[Standin, Config]:
    file.write_text(text(A % ""))
    given = parse_flags([f"--model_config_file={file}", "--rest_api_port=8501", "--port=0", *flags])
    settled = settle(given, os.environ)
    return Standin(given, settled), settled.config


@pytest.mark.parametrize(
    "models",
    [
        [],
        [A % "", B % "model_version_policy { latest { num_versions: 3 } }"],
        [
            A
            % 'version_labels { key: "s" value: 3 } version_labels { key: "t" value: 4 } model_version_policy { all {} }'
        ],
        [A % "model_version_policy { specific { versions: 5 versions: 9 } }"],
        ['config { name: "c" base_path: "/m" model_type: TENSORFLOW logging_config { } }'],
        ['config { name: "c" base_path: "/m" model_type: OTHER }', "config { }"],
    ],
)
def test_a_message_says_what_its_text_form_says(models: list[str]) -> None:
    assert read_config(sent(*models)) == parse_message(text(*models).encode(), MODELS)


def test_the_message_has_the_fields_of_the_file() -> None:
    def compare(ours: Any, theirs: Any) -> None:
        names = {field.name for field in theirs.fields}
        if ours.name.rpartition(".")[2] in ("LoggingConfig", "Any"):
            return
        assert names == ours.fields.keys(), ours.name
        for field in theirs.fields:
            kind = ours.fields[field.name].kind
            if field.message_type is not None:
                compare(kind, field.message_type)

    compare(MODELS, pool().FindMessageTypeByName("tensorflow.serving.ModelServerConfig"))


@pytest.mark.usefixtures("env")
def test_what_is_sent_takes_the_place_of_the_models_and_of_nothing_else(tmp_path: Path) -> None:
    made, old = standin(tmp_path / "config", "--rest_api_timeout_in_ms=5000")
    new = made.reconfigured(sent(B % "model_version_policy { all {} }"), old, {})
    assert list(new.models) == ["b"]
    assert (new.models["b"].path, new.models["b"].policy) == (Path("/m/b"), "all")
    assert (new.server, new.http, new.grpc) == (old.server, old.http, old.grpc)
    assert made.reconfigured(sent(), new, {}).models == {}, "an empty list is a list"


@pytest.mark.usefixtures("env")
def test_no_file_is_read_for_what_is_sent_and_what_was_read_at_first_holds(tmp_path: Path) -> None:
    batching = tmp_path / "batching"
    batching.write_text("num_batch_threads { value: 3 }")
    made, old = standin(tmp_path / "config", "--enable_batching", f"--batching_parameters_file={batching}")
    batching.unlink()
    (tmp_path / "config").write_text("garbage")
    assert made.reconfigured(sent(B % ""), old, {}).models["b"].instances == 3


@pytest.mark.usefixtures("env")
def test_variables_of_models_that_there_are_no_more_are_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGE_MODELS__A__NUM_THREADS", "2")
    made, old = standin(tmp_path / "config")
    assert old.models["a"].num_threads == 2
    new = made.reconfigured(sent(B % ""), old, {})
    assert list(new.models) == ["b"]
    assert made.reconfigured(sent(A % ""), new, {}).models["a"].num_threads == 2
    (tmp_path / "config").write_text(text(B % ""))
    assert list(made.reread(old, {}).models) == ["b"]


@pytest.mark.usefixtures("env")
@pytest.mark.parametrize(
    ("data", "error", "said"),
    [
        (b"", InvalidInput, "ServerModelConfig type not supported by HandleReloadConfigRequest."),
        (b"\xff", InvalidInput, "want a tensorflow.serving.ModelServerConfig, got 1 bytes that are none"),
        (b"\x0a\x00" * MAX_FILE_BYTES, TooLarge, f"want at most {MAX_FILE_BYTES} bytes, got {2 * MAX_FILE_BYTES}"),
        (sent(A % "", A % ""), InvalidInput, "Illegal to list model a multiple times in config list"),
        (sent("config { }"), InvalidInput, "Expected model  to have an absolute path or URI; got base_path()="),
        (sent('config { name: "a" base_path: "/m" }'), InvalidInput, "Illegal setting neither"),
        (sent('config { name: "a" base_path: "/m" model_platform: "x" }'), InvalidInput, "Illegal to change a model's"),
        (
            sent('config { name: "n" base_path: "/m" model_platform: "x" }'),
            InvalidInput,
            "requests unsupported platform",
        ),
        (sent(A % 'version_labels { key: "s" value: 3 }'), TooEarly, "Request to assign label to version 3 of model a"),
        (sent(A % "model_version_policy { specific { versions: -1 } }"), InvalidInput, "want versions of at least 0"),
    ],
)
def test_what_cannot_be_taken_is_refused_in_tensorflow_servings_words(
    data: bytes, error: type[Exception], said: str, tmp_path: Path
) -> None:
    made, old = standin(tmp_path / "config")
    with pytest.raises(error) as caught:
        made.reconfigured(data, old, {"a": {1, 2}})
    assert said in str(caught.value)
    assert type(caught.value) is error
    assert made.reread(old, {}).models == old.models


@pytest.mark.usefixtures("env")
def test_a_new_label_may_wait_for_its_version_where_that_is_allowed_and_an_old_one_may_not(tmp_path: Path) -> None:
    made, old = standin(tmp_path / "config", ALLOWED)
    labelled = A % 'version_labels { key: "s" value: %d }'
    new = made.reconfigured(sent(labelled % 3), old, {})
    assert new.models["a"].labels == {"s": 3}
    with pytest.raises(TooEarly):
        made.reconfigured(sent(labelled % 4), new, {"a": {3}})
    assert made.reconfigured(sent(labelled % 4), new, {"a": {3, 4}}).models["a"].labels == {"s": 4}


@pytest.mark.usefixtures("env")
async def test_a_file_that_waits_for_a_version_is_given_up_for_what_is_sent_and_for_nothing_that_is_refused(
    tmp_path: Path,
) -> None:
    made, old = standin(tmp_path / "config", "--model_config_file_poll_wait_seconds=1")
    (tmp_path / "config").write_text(text(A % 'version_labels { key: "s" value: 3 }'))
    with pytest.raises(ConfigError, match="Request to assign label"):
        await asyncio.to_thread(made.reread, old, {})
    with pytest.raises(InvalidInput):
        await asyncio.to_thread(made.reconfigured, b"", old, {})
    assert await wants(made), "it waits, and is tried again"
    await asyncio.to_thread(made.reconfigured, sent(B % ""), old, {})
    assert not await wants(made)
    (tmp_path / "config").write_text(text(A % ""))
    assert await wants(made), "it is another"


@pytest.mark.usefixtures("env")
async def test_a_file_that_a_signal_has_read_is_no_other_to_the_poll(tmp_path: Path) -> None:
    made, old = standin(tmp_path / "config", "--model_config_file_poll_wait_seconds=1")
    (tmp_path / "config").write_text(text(B % ""))
    await asyncio.to_thread(made.reread, old, {})
    assert not await wants(made)


async def wants(made: Standin) -> bool:
    """Whether the next poll asks for a reload."""
    asked = asyncio.Event()
    following = asyncio.create_task(made.follow(asked.set))
    try:
        async with asyncio.timeout(1.5):
            await asked.wait()
    except TimeoutError:
        return False
    finally:
        following.cancel()
    return True
