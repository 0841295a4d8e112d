"""Routes, errors, and what the server says of its models."""

import json
from types import MappingProxyType
from typing import Any

import pytest

from edge.domain.errors import (
    ControlFailed,
    DeadlineExceeded,
    EdgeError,
    InferenceFailed,
    InvalidInput,
    NotFound,
    NotReady,
    Overloaded,
    TensorMismatch,
    TooLarge,
    Unauthenticated,
    UnknownSignature,
    Unsupported,
)
from edge.domain.lifecycle import State
from edge.domain.models import ModelId, ModelSpec
from edge.domain.ports import ModelStatus, VersionStatus
from edge.domain.requests import ModelInfo
from edge.domain.tensors import DType, Quantization, Signature, TensorSpec
from edge.wire import v2_metadata, v2_repository
from edge.wire.v2_datatypes import DTYPES, NAMES
from edge.wire.v2_errors import MAX_ERROR_CHARS, control_failed, error_response
from edge.wire.v2_repository import STATES, check_control, index, wants_ready_only
from edge.wire.v2_routes import Kind, refusal, route
from tests.unit.wire.v2_server import V2Server

ROUTES = [
    ("GET", "/v2", Kind.SERVER_METADATA, ModelSpec("")),
    ("GET", "/v2?x=1", Kind.SERVER_METADATA, ModelSpec("")),
    ("GET", "/v2/models/stats", Kind.STATS, ModelSpec("")),
    ("GET", "/v2/models/a", Kind.MODEL_METADATA, ModelSpec("a")),
    ("GET", "/v2/models/a%20b%2Fc", Kind.MODEL_METADATA, ModelSpec("a b/c")),
    ("GET", "/v2/models/%C3%BC/config", Kind.MODEL_CONFIG, ModelSpec("ü")),
    ("GET", "/v2/models/a/versions/007/stats", Kind.MODEL_STATS, ModelSpec("a", 7)),
    ("POST", "/v2/models/a+b/versions/3/infer", Kind.INFER, ModelSpec("a+b", 3)),
    ("POST", "/v2/repository/models/a/unload", Kind.REPOSITORY_UNLOAD, ModelSpec("a")),
    ("GET", "/v2/models/", Kind.NOT_FOUND, ModelSpec("")),
    ("GET", "/v2/models/a/", Kind.NOT_FOUND, ModelSpec("")),
    ("GET", "/v2/models//ready", Kind.NOT_FOUND, ModelSpec("")),
    ("GET", "/v2/models/a/versions/x", Kind.NOT_FOUND, ModelSpec("")),
    ("GET", "/v2/models/a/versions/-1", Kind.NOT_FOUND, ModelSpec("")),
    ("GET", "/v2/models/a/versions/9223372036854775808", Kind.NOT_FOUND, ModelSpec("")),
    ("GET", "/v2/models/a/versions/" + "9" * 5_000, Kind.NOT_FOUND, ModelSpec("")),
    ("GET", "/v2/models/%ff", Kind.NOT_FOUND, ModelSpec("")),
    ("POST", "/v2/models/a/generate", Kind.NOT_FOUND, ModelSpec("")),
    ("GET", "/v2/models/a\n", Kind.MODEL_METADATA, ModelSpec("a\n")),
    ("GET", "/v3", Kind.NOT_FOUND, ModelSpec("")),
]


@pytest.mark.parametrize(("method", "path", "kind", "spec"), ROUTES)
def test_a_path_is_one_route(method: str, path: str, kind: Kind, spec: ModelSpec) -> None:
    found = route(method, path)
    assert (found.kind, found.spec) == (kind, spec)


@pytest.mark.parametrize("method", ["HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "GET"])
def test_a_wrong_verb_is_told_the_right_one(method: str) -> None:
    reply = refusal(route(method, "/v2/models/a/infer"))
    assert (reply.status, reply.headers["Allow"]) == (405, "POST")


def test_every_type_has_a_name_of_its_own() -> None:
    assert set(NAMES) == set(DType)
    assert len(DTYPES) == len(NAMES)


def test_every_state_is_one_of_the_protocols() -> None:
    assert set(STATES) == set(State)
    assert set(STATES.values()) == {"READY", "UNAVAILABLE", "LOADING", "UNLOADING"}


ERRORS: list[tuple[EdgeError, int, str]] = [
    (InvalidInput("wrong"), 400, "wrong"),
    (UnknownSignature("s", ["t"]), 400, "signature 's': no such signature; the model has t"),
    (TooLarge("too much"), 413, "too much"),
    (Unsupported("not here"), 501, "not here"),
    (NotReady("m@1: loading"), 503, "m@1: loading"),
    (DeadlineExceeded("late"), 504, "late"),
    (Unauthenticated("who?"), 401, "who?"),
    (InferenceFailed("the model failed"), 500, "the model failed"),
    (NotFound(ModelSpec("m", 9), model_known=False), 404, "Request for unknown model: 'm' is not found"),
    (NotFound(ModelSpec("m", 9), model_known=True), 404, "Request for unknown model: 'm' version 9 is not found"),
    (
        TensorMismatch(TensorSpec("x", DType.STRING, (-1,)), "float16", (1,)),
        400,
        "[request id: 7] inference input 'x' data-type is 'FP16', but model 'm' expects 'BYTES'",
    ),
    (
        TensorMismatch(TensorSpec("x", DType.UINT8, (1, -1)), "uint8", ()),
        400,
        "[request id: 7] unexpected shape for input 'x' for model 'm'. Expected [1,-1], got [].",
    ),
]


@pytest.mark.parametrize(("error", "status", "text"), ERRORS, ids=lambda value: type(value).__name__)
def test_every_error_has_a_status_and_a_text(error: EdgeError, status: int, text: str) -> None:
    reply = error_response(error, model="m", request_id="7")
    assert (reply.status, json.loads(reply.body)) == (status, {"error": text})


def test_a_full_server_says_when_to_come_back() -> None:
    assert error_response(Overloaded("full", retry_after_s=1.2)).headers["Retry-After"] == "2"


def test_an_error_is_short_and_sound_json_whatever_the_client_sent() -> None:
    reply = error_response(InvalidInput("\ud800" + "x" * 1_000_000))
    assert len(json.loads(reply.body)["error"]) == MAX_ERROR_CHARS + 1


def test_a_load_that_failed_says_why() -> None:
    reply = control_failed(ControlFailed("golden run 0 differs"), model="m", action="load", known=True)
    assert (reply.status, json.loads(reply.body)) == (500, {"error": "failed to load 'm', golden run 0 differs"})


QUANTIZED = TensorSpec("image", DType.UINT8, (1, 8, 8, 1), Quantization(0.5, 128))
DEFAULT = Signature("serving_default", {"image": QUANTIZED}, {"s": TensorSpec("s", DType.STRING, (1, 2))})
OTHER = Signature("embed", {"i": TensorSpec("i", DType.FLOAT32, None)}, {"e": TensorSpec("e", DType.BOOL, (1,))})
INFO = ModelInfo(
    ModelId("m", 4),
    "tflite",
    "edgetpu:0",
    MappingProxyType({"embed": OTHER, "serving_default": DEFAULT}),
    (4, 3),
    max_batch=1,
    class_names=("a", "b"),
)


def test_metadata_tell_quantization_and_the_other_signatures() -> None:
    assert json.loads(v2_metadata.model_metadata(INFO).body) == {
        "name": "m",
        "versions": ["3", "4"],
        "platform": "tflite",
        "inputs": [
            {
                "name": "image",
                "datatype": "UINT8",
                "shape": [1, 8, 8, 1],
                "parameters": {"quantization": {"scale": 0.5, "zero_point": 128}},
            }
        ],
        "outputs": [{"name": "s", "datatype": "BYTES", "shape": [1, 2]}],
        "parameters": {
            "signatures": {
                "embed": {
                    "inputs": [{"name": "i", "datatype": "FP32", "shape": [-1]}],
                    "outputs": [{"name": "e", "datatype": "BOOL", "shape": [1]}],
                }
            }
        },
    }


def test_a_configuration_of_a_fixed_batch_keeps_all_sizes() -> None:
    config = json.loads(v2_metadata.model_config(INFO).body)
    assert (config["max_batch_size"], config["input"][0]["dims"]) == (0, [1, 8, 8, 1])
    assert config["output"][0]["data_type"] == "TYPE_STRING"
    assert config["output"][0]["label_filename"] == "labels.txt"
    assert config["instance_group"][0]["kind"] == "KIND_MODEL"
    assert config["default_model_filename"] == "model.tflite"
    assert config["parameters"] == {"device": {"string_value": "edgetpu:0"}}
    assert config["version_policy"] == {"specific": {"versions": [3, 4]}}


MODELS = [
    ModelStatus(
        "a",
        [
            VersionStatus(ModelId("a", 3), State.TESTING),
            VersionStatus(
                ModelId("a", 2),
                State.READY,
                requests=1,  # in the last minute
                total_requests=13,
                total_answered=8,
                total_failures=2,
                total_answered_s=0.02,
                total_queue_s=0.004,
                total_run_s=0.008,
                total_failures_s=0.001,
            ),
            VersionStatus(ModelId("a", 1), State.UNLOADED),
        ],
        {},
    ),
    ModelStatus("b", [VersionStatus(ModelId("b", 1), State.FAILED, reason="no such op")], {}),
    ModelStatus("c", [], {}, problem="aspired.json: not JSON"),
    ModelStatus("d", [VersionStatus(ModelId("d", 1), State.READY, notice="usb:0: gone; serving d on the CPU")], {}),
]


def test_the_index_has_every_version_and_why_it_is_not_there() -> None:
    assert json.loads(index(MODELS, ready_only=False).body) == [
        {"name": "a", "version": "1", "state": "UNAVAILABLE", "reason": "unloaded"},
        {"name": "a", "version": "2", "state": "READY"},
        {"name": "a", "version": "3", "state": "LOADING"},
        {"name": "b", "version": "1", "state": "UNAVAILABLE", "reason": "no such op"},
        {"name": "c", "state": "UNAVAILABLE", "reason": "aspired.json: not JSON"},
        {"name": "d", "version": "1", "state": "READY", "reason": "usb:0: gone; serving d on the CPU"},
    ]
    ready = json.loads(index(MODELS, ready_only=True).body)
    assert [(row["name"], row["version"]) for row in ready] == [("a", "2"), ("d", "1")]


def test_statistics_are_of_ready_versions() -> None:
    stats = json.loads(v2_metadata.statistics(MODELS).body)["model_stats"]
    assert [(one["name"], one["version"], one["inference_count"]) for one in stats] == [("a", "2", 8), ("d", "1", 0)]


def test_statistics_only_grow_so_that_a_client_may_take_the_difference_of_two() -> None:
    stats = json.loads(v2_metadata.statistics(MODELS).body)["model_stats"][0]["inference_stats"]
    assert {kind: (each["count"], each["ns"]) for kind, each in stats.items() if each["count"]} == {
        "success": (8, 20_000_000),
        "fail": (2, 1_000_000),
        "queue": (8, 4_000_000),
        "compute_infer": (8, 8_000_000),
    }


@pytest.mark.parametrize(
    ("status", "spec", "known"),
    [(None, ModelSpec("z"), False), (MODELS[1], ModelSpec("b"), True), (MODELS[0], ModelSpec("a", 1), True)],
)
def test_statistics_of_what_is_not_ready_are_not_found(
    status: ModelStatus | None, spec: ModelSpec, known: bool
) -> None:
    with pytest.raises(NotFound) as caught:
        v2_metadata.model_statistics(status, spec)
    assert caught.value.model_known is known


@pytest.mark.parametrize(
    ("body", "ready"), [(b"", False), (b"{}", False), (b'{"ready":true}', True), (b'{"ready":false}', False)]
)
def test_an_index_may_be_of_ready_versions_only(body: bytes, ready: bool) -> None:
    assert wants_ready_only(body) is ready


@pytest.mark.parametrize("body", [b'{"ready":1}', b"{", b"\xff"])
def test_a_bad_index_request_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidInput):
        wants_ready_only(body)


@pytest.mark.parametrize("body", [b"", b"{}", b'{"parameters":{"unload_dependents":true}}', b"[]"])
def test_a_plain_load_or_unload_goes_through(body: bytes) -> None:
    check_control(body)
    assert v2_repository.controlled().body == b""


@pytest.mark.parametrize(
    "body", [b'{"parameters":{"config":"{}"}}', b'{"parameters":{"file:1/model":"aGk="}}', b'{"parameters":1}', b"{"]
)
def test_a_load_that_brings_its_own_files_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidInput):
        check_control(body)


def test_a_load_of_bad_json_is_a_400() -> None:
    reply: Any = V2Server().ask("POST", "/v2/repository/models/half/load", b"{")
    assert reply.status == 400
