"""`tensorflow_model_server` given its models by HandleReloadConfigRequest: taken whole, or refused whole, in TensorFlow Serving's words."""

from __future__ import annotations

import re
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.config.tfserving.files import MAX_FILE_BYTES
from edge.sources.stillness import SETTLE_S
from tests import tflite_models
from tests.functional.drop_in import Asking, free_port, said, started, still_written
from tests.functional.server import Running
from tests.functional.test_drop_in import ALL, HALF, entry, predict, put, stable, states, write
from tests.waiting import until_blocking

grpc = pytest.importorskip("grpc")
from edge.wire.proto.messages import message  # noqa: E402 - for those who have gRPC
from tests.functional.grpc_client import TFS, WITHIN_S, call, failure, outputs, predict_request  # noqa: E402

RELOAD = "HandleReloadConfigRequest"


@pytest.fixture
def models(tmp_path: Path) -> Path:
    for name, version, factor in (("half", 1, 0.5), ("half", 2, 0.25), ("double", 7, 2.0), ("third", 1, 3.0)):
        put(tmp_path / "models", name, version, factor)
    return tmp_path / "models"


def one(models: Path, name: str, **more: Any) -> Any:
    """A ModelConfig of that name."""
    fields = {"base_path": str(models / name), "model_platform": "tensorflow"} | more
    return message(f"{TFS}.ModelConfig")(name=name, **fields)


def every(model: Any, **labels: int) -> Any:
    """The same, with all its versions and with labels."""
    model.model_version_policy.all.SetInParent()
    model.version_labels.update(labels)
    return model


def listed(*models: Any) -> Any:
    """A request."""
    config = message(f"{TFS}.ModelServerConfig")()
    config.model_config_list.config.extend(models)
    config.model_config_list.SetInParent()
    return sent(config.SerializeToString())


def sent(config: bytes) -> Any:
    return message(f"{TFS}.ReloadConfigRequest")(config=config, metric_names=["passed over"])


@contextmanager
def with_grpc(tmp_path: Path, *flags: object, more: dict[str, str] | None = None) -> Iterator[tuple[Running, Any]]:
    """The server, once it listens, and a channel to it."""
    port = free_port()
    more = {"EDGE_GRPC__HOST": "127.0.0.1"} | (more or {})
    with started(tmp_path, *flags, f"--port={port}", more=more) as server:
        said(server, "Entering the event loop ...")
        with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            yield server, channel


class Calling(threading.Thread):
    """Asks a model over gRPC again and again."""

    def __init__(self, channel: Any, model: str) -> None:
        super().__init__(daemon=True)
        self._channel, self._model = channel, model
        self.answered = 0
        self.failures: list[str] = []
        self.over = threading.Event()

    def run(self) -> None:
        asked = predict_request(self._model, x=np.ones(1, np.float32))
        while not self.over.is_set():
            try:
                outputs(call(self._channel, "Predict", asked))
                self.answered += 1
            except grpc.RpcError as error:
                self.failures.append(str(error))


@contextmanager
def asking(*clients: Any) -> Iterator[None]:
    for client in clients:
        client.start()
    try:
        yield
    finally:
        for client in clients:
            client.over.set()
            client.join(WITHIN_S)
    assert [each for client in clients for each in client.failures] == []


def test_models_are_swapped_by_a_call_and_whoever_asks_another_loses_nothing(models: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "models.config", entry(models, "half"), entry(models, "double"))
    with with_grpc(tmp_path, f"--model_config_file={file}") as (server, channel):
        rest, over_grpc = Asking(server.port, "/v1/models/half:predict", HALF), Calling(channel, "half")
        with asking(rest, over_grpc):
            rest.more()
            for turn in range(2):
                reply = call(channel, RELOAD, listed(one(models, "half"), one(models, "third")))
                assert (reply.status.error_code, reply.status.error_message) == (0, "")
                assert predict(server, "third") == 3.0, f"served when the call returns, in turn {turn}"
                until_blocking(lambda: not states(server, "double"), lambda: states(server, "double"))
                call(channel, RELOAD, listed(one(models, "half"), one(models, "double")))
                assert predict(server, "double") == 2.0
                until_blocking(lambda: not states(server, "third"), lambda: states(server, "third"))
            rest.more()
            assert over_grpc.answered > 20
        call(channel, RELOAD, listed())
        until_blocking(lambda: not states(server, "half"), lambda: states(server, "half"))
        assert "HandleReloadConfigRequest from ipv4:127.0.0.1:" in server.log.read_text()


def refusals(models: Path) -> list[tuple[Any, str, str]]:
    half, third = one(models, "half"), one(models, "third")
    custom = message(f"{TFS}.ModelServerConfig")()
    custom.custom_model_config.type_url = "type.googleapis.com/x"
    kind = (
        "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is currently supported"
    )
    label = "Request to assign label to version {} of model {}, which is not currently available for inference"
    return [
        (listed(third, half, half), "INVALID_ARGUMENT", "Illegal to list model half multiple times in config list"),
        (
            listed(third, one(models, "half", model_platform="caffe")),
            "INVALID_ARGUMENT",
            "Illegal to change a model's platform. For model half platform was tensorflow and new platform requested is caffe",
        ),
        (
            listed(half, one(models, "new", model_platform="caffe")),
            "INVALID_ARGUMENT",
            "Model new requests unsupported platform caffe",
        ),
        (
            listed(third, one(models, "half", base_path="m")),
            "INVALID_ARGUMENT",
            "Expected model half to have an absolute path or URI; got base_path()=m",
        ),
        (listed(third, every(one(models, "half"), stable=9)), "FAILED_PRECONDITION", label.format(9, "half")),
        (listed(half, every(one(models, "third"), stable=1)), "FAILED_PRECONDITION", label.format(1, "third")),
        (sent(custom.SerializeToString()), "INVALID_ARGUMENT", kind),
        (sent(b""), "INVALID_ARGUMENT", kind),
        (sent(b"\x0a\x09garbage"), "INVALID_ARGUMENT", "want a tensorflow.serving.ModelServerConfig, got 9 bytes that"),
        (listed(third, one(models, "..")), "INVALID_ARGUMENT", "model '..': want a name of 1 to 128 of"),
        (sent(b"\x1a\x01x" * (MAX_FILE_BYTES // 3 + 1)), "RESOURCE_EXHAUSTED", f"ModelServerConfig: want at most {MAX_FILE_BYTES} bytes"),
    ]  # fmt: skip


def test_what_is_refused_has_its_code_and_its_text_and_changes_nothing(models: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "models.config", entry(models, "half", stable(1)))
    with with_grpc(tmp_path, f"--model_config_file={file}") as (server, channel):
        before = states(server, "half")
        rest = Asking(server.port, "/v1/models/half/labels/stable:predict", HALF)
        with asking(rest):
            for request, code, text in refusals(models):
                got, words = failure(channel, RELOAD, request)
                assert (got, words[: len(text)]) == (code, text)
                assert words == text or "want" in text, "and nothing but that, where TensorFlow Serving has the text"
                assert (states(server, "third"), states(server, "half")) == ({}, before)
            rest.more()
        assert rest.answers.keys() == {0.5}


def test_a_label_is_moved_by_a_call_and_whoever_asks_by_it_loses_nothing(models: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "models.config", entry(models, "half", stable(1)))
    with with_grpc(tmp_path, f"--model_config_file={file}") as (server, channel):
        clients = [Asking(server.port, "/v1/models/half/labels/stable:predict", HALF) for _ in range(2)]
        with asking(*clients):
            clients[0].more()
            for version, value in ((2, 0.25), (1, 0.5), (2, 0.25)):
                call(channel, RELOAD, listed(every(one(models, "half"), stable=version)))
                assert predict(server, "half/labels/stable") == value
                clients[1].more()
        assert clients[0].answers.keys() == {0.5, 0.25}


def test_new_models_that_fail_are_named_and_the_config_holds(models: Path, tmp_path: Path) -> None:
    broken = put(models, "broken", 4, 1.0) / "4" / "model.tflite"
    broken.write_bytes(b"garbage")
    file = write(tmp_path / "models.config", entry(models, "half"), entry(models, "double"))
    with with_grpc(tmp_path, f"--model_config_file={file}") as (server, channel):
        wanted = listed(one(models, "half"), one(models, "broken"), one(models, "nowhere"), one(models, "third"))
        assert failure(channel, RELOAD, wanted) == (
            "UNKNOWN",
            "Some models did not become available: {{name: broken version: 4}, {name: nowhere version: none}, }",
        )
        assert (predict(server, "third"), states(server, "broken")) == (3.0, {"4": "END"})
        until_blocking(lambda: not states(server, "double"), lambda: states(server, "double"))
        assert call(channel, RELOAD, wanted).status.error_code == 0, "none of them is new by now"
        broken.write_bytes(tflite_models.scaling(4.0))
        put(models, "nowhere", 1, 5.0)
        until_blocking(lambda: predict(server, "broken") == 4.0)
        until_blocking(lambda: predict(server, "nowhere") == 5.0)


def test_what_was_sent_holds_until_the_file_is_another_or_is_asked_for(models: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "models.config", entry(models, "half"))
    flags = (f"--model_config_file={file}", "--model_config_file_poll_wait_seconds=1")
    more = {"EDGE_MODELS__HALF__NUM_THREADS": "1"}
    with with_grpc(tmp_path, *flags, more=more) as (server, channel):
        call(channel, RELOAD, listed(one(models, "third")))
        until_blocking(lambda: not states(server, "half"), lambda: states(server, "half"))
        server.process.send_signal(signal.SIGHUP)
        said(server, "edge.reloading: reloaded")
        until_blocking(lambda: states(server, "half") == {"2": "AVAILABLE"})
        call(channel, RELOAD, listed(one(models, "third")))
        until_blocking(lambda: not states(server, "half"), lambda: states(server, "half"))
        polled = time.monotonic() + 2.5
        while time.monotonic() < polled:  # the file was read by the signal, and is not taken for another one
            assert (states(server, "half"), predict(server, "third")) == ({}, 3.0)
            time.sleep(0.1)
        write(file, entry(models, "double"))
        until_blocking(lambda: states(server, "double") == {"7": "AVAILABLE"})
        until_blocking(lambda: not states(server, "third"), lambda: states(server, "third"))
        # One that waits for a version is given up when a client sends another.
        write(file, entry(models, "double", f"{ALL} version_labels {{ key: 'stable' value: 8 }}"))
        said(server, "Request to assign label to version 8 of model double")
        call(channel, RELOAD, listed(every(one(models, "double"))))
        put(models, "double", 8, 8.0)
        until_blocking(lambda: predict(server, "double") == 8.0)
        time.sleep(1.5)
        assert "Unrecognized servable version label: stable" in str(predict(server, "double/labels/stable"))


def test_calls_that_come_at_once_are_taken_one_after_the_other_and_each_whole(models: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "models.config", entry(models, "half"))
    pairs = [("half", "third"), ("double", "half"), ("third", "double")]
    with with_grpc(tmp_path, f"--model_config_file={file}") as (server, channel), ThreadPoolExecutor(6) as pool:
        done = []
        for turn in range(6):
            done.append(pool.submit(call, channel, RELOAD, listed(*(one(models, name) for name in pairs[turn % 3]))))
            server.process.send_signal(signal.SIGHUP)
        for each in done:  # a model that the next one took away before it served is told so
            error = each.exception(WITHIN_S)
            assert error is None or "Some models did not become available" in str(error)
        call(channel, RELOAD, listed(one(models, "double"), one(models, "third")))
        until_blocking(lambda: not states(server, "half"), lambda: states(server, "half"))
        assert (predict(server, "double"), predict(server, "third")) == (2.0, 3.0)
        taken = re.findall(r"took a client's configuration of 2 models: (.*)", server.log.read_text())
        assert sorted(taken)[:6] != []
        assert {frozenset(each.split(", ")) for each in taken} <= {frozenset(pair) for pair in pairs}
        assert len(taken) == 7


def test_a_call_that_its_client_gives_up_is_taken_to_its_end(models: Path, tmp_path: Path) -> None:
    """A version whose files still change is waited for."""
    file = write(tmp_path / "models.config", entry(models, "half"))
    with with_grpc(tmp_path, f"--model_config_file={file}") as (server, channel):
        version = put(models, "late", 1, 4.0) / "1"
        wanted = listed(one(models, "half"), one(models, "late"))
        with still_written(version):
            code, _ = failure(channel, RELOAD, wanted, timeout=SETTLE_S / 2)
            assert code == "DEADLINE_EXCEEDED"
            said(server, "took a client's configuration of 2 models: half, late")
            under_way = channel.unary_unary(f"/{TFS}.ModelService/{RELOAD}").future(
                listed(one(models, "half"), one(models, "late"), one(models, "third")).SerializeToString(), timeout=10
            )
            assert under_way.result(10) is not None, "one that waits keeps no other"
        until_blocking(lambda: predict(server, "late") == 4.0)


def test_a_server_that_is_killed_while_it_takes_one_comes_back_with_its_file(models: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "models.config", entry(models, "half", stable(1)))
    with with_grpc(tmp_path, f"--model_config_file={file}") as (server, channel):
        version = put(models, "late", 1, 4.0) / "1"
        with still_written(version), ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(failure, channel, RELOAD, listed(one(models, "late")))
            said(server, "took a client's configuration of 1 models: late")
            server.kill()
            assert waiting.result(WITHIN_S)[0] == "UNAVAILABLE"
    with with_grpc(tmp_path, f"--model_config_file={file}") as (server, channel):
        assert predict(server, "half/labels/stable") == 0.5
        assert states(server, "late") == {}


def test_models_of_flags_are_replaced_and_come_back_with_a_signal(models: Path, tmp_path: Path) -> None:
    flags = ("--model_name=half", f"--model_base_path={models / 'half'}")
    with with_grpc(tmp_path, *flags) as (server, channel):
        call(channel, RELOAD, listed(one(models, "third")))
        until_blocking(lambda: not states(server, "half"), lambda: states(server, "half"))
        server.process.send_signal(signal.SIGHUP)
        until_blocking(lambda: states(server, "half") == {"2": "AVAILABLE"})


def test_a_token_is_asked_for_where_there_are_tokens(models: Path, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("secret-of-sixteen-letters\n")
    tokens.chmod(0o600)
    flags = ("--model_name=half", f"--model_base_path={models / 'half'}")
    more = {"EDGE_HTTP__TOKEN_FILE": str(tokens)}
    with with_grpc(tmp_path, *flags, more=more) as (server, channel):
        wanted = listed(one(models, "third"))
        assert failure(channel, RELOAD, wanted)[0] == "UNAUTHENTICATED"
        assert "took a client's" not in server.log.read_text()
        call(channel, RELOAD, wanted, metadata=[("authorization", "Bearer secret-of-sixteen-letters")])
