"""What flags and files become: settings that a configuration can be made of, and a note for everything else."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pytest

from edge.config import keys, load_config
from edge.config.tfserving.batching import batching
from edge.config.tfserving.carry import NEVER_S, Carried, carry
from edge.config.tfserving.files import Refused
from edge.config.tfserving.flags import FLAGS, parse_flags
from edge.config.tfserving.messages import BATCHING, MODELS, MONITORING, SSL, Message
from edge.config.tfserving.text import parse_text

MODEL = "--model_base_path=/m"
BATCHES = {"max_batch_size", "batch_timeout_s", "max_enqueued", "allowed_batch_sizes", "pad_variable_length_inputs"}


def carried(flags: str, *, grpc: bool = False, tensorflow: bool = False, **files: tuple[str, Message]) -> Carried:
    read = {f"{name}_file": parse_text(text, message) for name, (text, message) in files.items()}
    return carry(parse_flags(flags.split()), read, grpc=grpc, tensorflow=tensorflow)


@pytest.mark.parametrize(
    ("flags", "settings"),
    [
        ("", {}),
        ("--rest_api_timeout_in_ms=1500", {"server.request_timeout_s": 1.5}),
        ("--rest_api_enable_cors_support", {"http.cors": True}),
        ("--max_num_load_retries=0", {"server.max_load_retries": 0}),
        ("--load_retry_interval_micros=500000", {"server.load_retry_s": 0.5}),
        ("--load_retry_interval_micros=-1", {"server.load_retry_s": 0.0}),
        ("--file_system_poll_wait_seconds=30", {"server.poll_s": 30.0}),
        ("--file_system_poll_wait_seconds=0", {"server.poll_s": NEVER_S}),
        ("--file_system_poll_wait_seconds=-1", {"server.poll_s": NEVER_S}),
        ("--prefer_tflite_model", {"models.default.prefer": "tflite"}),
        ("--tensorflow_intra_op_parallelism=3", {"models.default.num_threads": 3}),
        ("--tensorflow_inter_op_parallelism=2", {"models.default.inter_op_threads": 2}),
        ("--tensorflow_session_parallelism=4", {"models.default.num_threads": 4, "models.default.inter_op_threads": 4}),
        ("--saved_model_tags=serve,gpu", {"models.default.tags": ["serve", "gpu"]}),
        ("--xla_gpu_compilation_enabled", {"models.default.xla": True}),
        ("--mixed_precision=bfloat16", {"models.default.mixed_precision": "bfloat16"}),
        ("--num_tflite_interpreters_per_pool=2", {"models.default.instances": 2}),
    ],
)
def test_a_flag_that_is_honoured_is_a_setting_that_there_is(flags: str, settings: dict[str, Any]) -> None:
    done = carried(f"{MODEL} --rest_api_port=1 --port=0 {flags}")
    plain = {"models.default.path": "/m", "models.default.policy": "latest:1", "http.port": 1}
    assert done.settings == plain | settings
    config = load_config(None, {}, done.defaults | done.settings)
    assert (config.http.host, config.http.port, config.advertise.enabled) == ("0.0.0.0", 1, False)


@pytest.mark.parametrize("name", [name for name, flag in FLAGS.items() if flag.instead])
def test_a_flag_that_is_not_honoured_is_said_to_be_so_and_changes_nothing(name: str) -> None:
    flag = FLAGS[name]
    anyway = flag.default if flag.anyway is None else flag.anyway
    value = {"bool": "false" if anyway else "true", "string": "x", "float": "0.5"}.get(flag.kind, "3")
    plain = carried(f"{MODEL} --rest_api_port=1 --port=0")
    done = carried(f"{MODEL} --rest_api_port=1 --port=0 --{name}={value}")
    assert done.settings == plain.settings
    assert [note for note in done.notes if note.startswith(f"--{name}: ")] == [f"--{name}: {flag.instead}"]
    assert plain.notes == []


def test_savedmodels_come_first_where_tensorflow_is_and_no_flag_says_otherwise() -> None:
    assert carried(f"{MODEL} --rest_api_port=1", tensorflow=True).settings["models.default.prefer"] == "savedmodel"


@pytest.mark.parametrize(
    ("flags", "host", "said"),
    [
        ("--rest_api_port=8500", "", "server_options.http_port cannot be same as grpc_port."),
        ("--rest_api_port=0", "", ""),
        ("--rest_api_port=8501", "0.0.0.0", ""),
    ],
)
def test_rest_is_off_without_a_port_of_its_own(flags: str, host: str, said: str) -> None:
    done = carried(f"{MODEL} {flags}", grpc=True)
    assert (done.defaults | done.settings)["http.host"] == host
    assert (done.defaults | done.settings)["grpc.host"] == "0.0.0.0"
    assert done.settings["grpc.port"] == 8500
    assert [note[: len(said)] for note in done.notes] == ([said] if said else [])


def test_without_grpc_rest_must_have_a_port_and_grpcs_is_said_to_be_missing() -> None:
    with pytest.raises(Refused, match="there is nothing to listen on"):
        carried(MODEL)
    done = carried(f"{MODEL} --rest_api_port=1 --grpc_socket_path=/s")
    assert [note.split(":")[0] for note in done.notes] == ["--port, --grpc_socket_path"]
    assert not any(key.startswith("grpc.") for key in done.settings | done.defaults)
    with pytest.raises(Refused, match=r"At least one of server_options\.grpc_port"):
        carried(f"{MODEL} --port=0", grpc=True)
    assert carried(f"{MODEL} --port=0 --grpc_socket_path=/s", grpc=True).settings["grpc.uds"] == "/s"


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("prometheus_config { enable: true }", {"http.tfserving_metrics": True}),
        ("prometheus_config { path: '/x' }", {}),
        (
            "prometheus_config { enable: true path: '/x' }",
            {"http.tfserving_metrics": True, "http.tfserving_metrics_path": "/x"},
        ),
    ],
)
def test_the_path_of_metrics_is_honoured(text: str, settings: dict[str, Any]) -> None:
    done = carried(f"{MODEL} --rest_api_port=1 --port=0", monitoring_config=(text, MONITORING))
    assert {key: value for key, value in done.settings.items() if "metrics" in key} == settings


def test_a_path_of_metrics_that_is_the_apis_is_said_not_to_be_honoured() -> None:
    text = "prometheus_config { enable: true path: '/V1/x' }"
    done = carried(f"{MODEL} --rest_api_port=1 --port=0", monitoring_config=(text, MONITORING))
    assert "http.tfserving_metrics_path" not in done.settings
    assert done.notes == ["monitoring_config_file: /V1/x is the API's; metrics are at /monitoring/prometheus/metrics"]


def test_requests_that_should_be_logged_are_said_not_to_be() -> None:
    text = 'model_config_list { config { name: "a" base_path: "/m" model_platform: "tensorflow" logging_config {} } }'
    done = carried("--rest_api_port=1 --port=0", model_config=(text, MODELS))
    assert done.notes == ["model a: logging_config: requests are not logged"]
    assert done.settings["models.a.path"] == "/m"


def batches(text: str, known: Collection[str] = BATCHES) -> tuple[dict[str, Any], list[str]]:
    return batching(parse_text(text, BATCHING), {*known, "instances", "max_queue"})


def test_batching_parameters_are_keys_of_models_where_there_are_some() -> None:
    text = """max_batch_size { value: 32 } batch_timeout_micros { value: 2500 } max_enqueued_batches { value: 10 }
    num_batch_threads { value: 4 } thread_pool_name { value: "x" } allowed_batch_sizes: [8, 32]
    pad_variable_length_inputs: true"""
    wanted: dict[str, Any] = {
        "max_batch_size": 32,
        "batch_timeout_s": 0.0025,
        "max_enqueued": 320,
        "instances": 4,
        "allowed_batch_sizes": [8, 32],
        "pad_variable_length_inputs": True,
    }
    assert batches(text) == (wanted, [])
    settings, notes = batches(text, ())
    assert settings == {"max_queue": 320, "instances": 4}
    assert {note.split(":")[0] for note in notes} == {
        f"batching parameter {name}"
        for name in ("max_batch_size", "batch_timeout_micros", "allowed_batch_sizes", "pad_variable_length_inputs")
    }


@pytest.mark.parametrize(("flag", "size"), [("", None), ("--enable_batching", None), ("--noenable_batching", 1)])
def test_requests_share_runs_unless_a_flag_forbids_it(
    flag: str, size: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "fields", lambda section: BATCHES)
    done = carried(f"{MODEL} --rest_api_port=1 --port=0 {flag}")
    assert done.settings.get("models.default.max_batch_size") == size
    assert done.notes == []


def test_what_is_run_at_once_is_what_counts_where_large_batches_are_split() -> None:
    text = "max_batch_size { value: 64 } max_execution_batch_size { value: 16 } %s"
    assert batches(text % "enable_large_batch_splitting { value: true }")[0] == {"max_batch_size": 16}
    assert batches(text % "")[0] == {"max_batch_size": 64}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("allowed_batch_sizes: [4, 2]", "allowed_batch_sizes entries must be monotonically increasing"),
        (
            "allowed_batch_sizes: [2, 4] max_batch_size { value: 8 }",
            "Last entry in allowed_batch_sizes must match max_batch_size; last entry was 4; expected 8",
        ),
        ("max_batch_size { value: -1 }", "want at least 0"),
    ],
)
def test_batching_parameters_that_contradict_each_other_are_refused(text: str, said: str) -> None:
    with pytest.raises(Refused, match=said):
        batches(text)


PEM = "server_key: 'K' server_cert: 'C' custom_ca: 'A' %s"


def test_keys_and_certificates_are_for_grpc_alone() -> None:
    done = carried(f"{MODEL} --rest_api_port=1 --port=0", ssl_config=(PEM % "", SSL))
    assert [note.split(":")[0] for note in done.notes] == ["--ssl_config_file"]
    assert done.secrets == {}
    if "grpc" in keys.SECTIONS:
        done = carried(MODEL, grpc=True, ssl_config=(PEM % "client_verify: true", SSL))
        assert sorted(done.secrets.values()) == ["A", "C", "K"]
        assert {key.partition(".")[2] for key in done.secrets} <= keys.fields("grpc").keys()
