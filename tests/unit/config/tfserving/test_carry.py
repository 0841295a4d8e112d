"""What flags and files become: settings that a configuration can be made of, and a note for everything else."""

from __future__ import annotations

from typing import Any

import pytest

from edge.config import keys, load_config, resolve
from edge.config.tfserving.batching import batching
from edge.config.tfserving.carry import NEVER_S, Carried, carry
from edge.config.tfserving.files import Refused
from edge.config.tfserving.flags import FLAGS, parse_flags
from edge.config.tfserving.messages import BATCHING, MODELS, MONITORING, SSL, Message
from edge.config.tfserving.text import parse_text

MODEL = "--model_base_path=/m"


def carried(flags: str, *, grpc: bool = False, tensorflow: bool = False, **files: tuple[str, Message]) -> Carried:
    read = {f"{name}_file": parse_text(text, message) for name, (text, message) in files.items()}
    return carry(parse_flags(flags.split()), read, grpc=grpc, tensorflow=tensorflow)


@pytest.mark.parametrize(
    ("flags", "settings"),
    [
        ("", {}),
        ("--rest_api_timeout_in_ms=1500", {"server.request_timeout_s": 1.5}),
        ("--rest_api_timeout_in_ms=0", {"server.request_timeout_s": NEVER_S}),
        ("--rest_api_timeout_in_ms=-1", {"server.request_timeout_s": NEVER_S}),
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


def batches(text: str) -> dict[str, Any]:
    return batching(parse_text(text, BATCHING))


def test_batching_parameters_are_keys_of_models() -> None:
    text = """max_batch_size { value: 32 } batch_timeout_micros { value: 2500 } max_enqueued_batches { value: 10 }
    num_batch_threads { value: 4 } thread_pool_name { value: "x" } allowed_batch_sizes: [8, 32]
    pad_variable_length_inputs: true"""
    found = batches(text)
    assert found == {
        "max_batch_size": 32,
        "batch_timeout_s": 0.0025,
        "max_queue": 320,
        "instances": 4,
        "allowed_batch_sizes": [8, 32],
        "pad_variable_length_inputs": True,
    }
    assert found.keys() <= keys.fields("models").keys()
    done = carried(f"{MODEL} --rest_api_port=1 --port=0 --enable_batching", batching_parameters=(text, BATCHING))
    assert {f"models.default.{key}": value for key, value in found.items()}.items() <= done.settings.items()
    resolve(None, {"HOME": "/h"}, done.settings)
    assert done.notes == []


def test_what_batching_parameters_do_not_say_stays_as_it_is() -> None:
    assert batches("") == {}
    assert batches("pad_variable_length_inputs: false max_execution_batch_size { value: 4 }") == {}


@pytest.mark.parametrize(
    ("text", "requests"),
    [
        ("max_batch_size { value: 8 } max_enqueued_batches { value: 3 }", 24),
        ("max_batch_size { value: 8 } max_enqueued_batches { value: 0 }", 8),
        ("max_enqueued_batches { value: 3 }", 3000),
        ("max_batch_size { value: 1000 } max_enqueued_batches { value: 100000000 }", 2**31 - 1),
    ],
)
def test_the_bound_of_the_queue_is_that_of_batches_in_requests_of_a_row(text: str, requests: int) -> None:
    found = batches(text)
    assert found["max_queue"] == requests
    resolve(None, {"HOME": "/h"}, {"models.m.path": "/m"} | {f"models.m.{key}": value for key, value in found.items()})


@pytest.mark.parametrize(("flag", "size"), [("", 1), ("--enable_batching", None), ("--noenable_batching", 1)])
def test_requests_share_runs_only_where_a_flag_says_so(flag: str, size: int | None) -> None:
    done = carried(f"{MODEL} --rest_api_port=1 --port=0 {flag}")
    assert (done.defaults | done.settings).get("models.default.max_batch_size") == size
    assert ("models.default.max_batch_size" in done.settings) is (flag == "--noenable_batching")
    assert done.notes == []


def test_what_is_run_at_once_is_what_counts_where_large_batches_are_split() -> None:
    text = "max_batch_size { value: 64 } max_execution_batch_size { value: 16 } max_enqueued_batches { value: 2 } %s"
    assert batches(text % "enable_large_batch_splitting { value: true }") == {"max_batch_size": 16, "max_queue": 32}
    assert batches(text % "") == {"max_batch_size": 64, "max_queue": 128}
    text = "max_batch_size { value: 64 } enable_large_batch_splitting { value: true } allowed_batch_sizes: [8, 64]"
    assert batches(text) == {"max_batch_size": 64, "allowed_batch_sizes": [8, 64]}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("allowed_batch_sizes: [4, 2]", "allowed_batch_sizes entries must be monotonically increasing"),
        (
            "allowed_batch_sizes: [2, 4] max_batch_size { value: 8 }",
            "Last entry in allowed_batch_sizes must match max_batch_size; last entry was 4; expected 8",
        ),
        ("max_batch_size { value: -1 }", "max_batch_size must be positive; was -1"),
        ("max_batch_size { value: 0 }", "max_batch_size must be positive; was 0"),
        ("batch_timeout_micros { value: -1 }", "batch_timeout_micros must be non-negative; was -1"),
        ("max_enqueued_batches { value: -1 }", "max_enqueued_batches must be non-negative; was -1"),
        ("num_batch_threads { value: 0 }", "num_batch_threads must be positive; was 0"),
        (
            "max_batch_size { value: 4 } max_execution_batch_size { value: 8 } enable_large_batch_splitting { value: true }",
            "input_batch_size_limit must be greater than or equal to max_execution_batch_size; was 4 and 8",
        ),
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


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("", "got no server_key and no server_cert$"),
        ("server_cert: 'C'", "got no server_key$"),
        ("server_key: 'K' server_cert: 'C' client_verify: true", "got no custom_ca$"),
    ],
)
def test_an_ssl_config_that_would_let_in_more_than_it_says_is_refused(text: str, missing: str) -> None:
    with pytest.raises(Refused, match=missing):
        carried(MODEL, grpc=True, ssl_config=(text, SSL))
