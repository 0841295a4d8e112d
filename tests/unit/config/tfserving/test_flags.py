"""TensorFlow Serving's flags: their forms, and that the guide has each."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edge.config.tfserving.flags import FLAGS, parse_flags, usage, written

GUIDE = Path(__file__).parents[4] / "docs" / "tensorflow-serving.md"
CONTRACT = """port rest_api_port rest_api_timeout_in_ms rest_api_num_threads grpc_max_threads enable_batching
batching_parameters_file enable_per_model_batching_parameters model_config_file model_config_file_poll_wait_seconds
model_name model_base_path num_load_threads num_unload_threads max_num_load_retries load_retry_interval_micros
file_system_poll_wait_seconds flush_filesystem_caches allow_version_labels_for_unavailable_models enable_model_warmup
num_request_iterations_for_warmup monitoring_config_file ssl_config_file saved_model_tags prefer_tflite_model
num_tflite_pools num_tflite_interpreters_per_pool per_process_gpu_memory_fraction tensorflow_intra_op_parallelism
tensorflow_inter_op_parallelism mixed_precision grpc_channel_arguments enable_grpc_healthcheck_service enable_profiler
grpc_socket_path rest_api_enable_cors_support"""


@pytest.mark.parametrize(
    ("words", "values"),
    [
        ("--port=1", {"port": 1}),
        ("--port 1 --rest_api_port 2", {"port": 1, "rest_api_port": 2}),
        ("--file_system_poll_wait_seconds -1", {"file_system_poll_wait_seconds": -1}),
        ("--model_name=a=b", {"model_name": "a=b"}),
        ("--model_name=", {"model_name": ""}),
        ("--enable_batching --port=1", {"enable_batching": True, "port": 1}),
        ("--enable_batching=false", {"enable_batching": False}),
        ("--enable_batching true", {"enable_batching": True}),
        ("--noenable_batching", {"enable_batching": False}),
        ("--enable_batching --noenable_batching", {"enable_batching": False}),
        ("--per_process_gpu_memory_fraction=.5", {"per_process_gpu_memory_fraction": 0.5}),
    ],
)
def test_every_form_of_a_flag_is_read(words: str, values: dict[str, object]) -> None:
    given = parse_flags(words.split())
    assert (given.values, given.unknown, given.wrong) == (values, [], [])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--port=x", "Couldn't interpret value x for flag port."),
        ("--port=99999999999", "Couldn't interpret value 99999999999 for flag port."),
        ("--port", "Couldn't interpret value  for flag port."),
        ("--enable_batching=yes", "Couldn't interpret value yes for flag enable_batching."),
        (
            "--per_process_gpu_memory_fraction=nan",
            "Couldn't interpret value nan for flag per_process_gpu_memory_fraction.",
        ),
    ],
)
def test_a_value_that_cannot_be_read_is_named(words: str, said: str) -> None:
    assert parse_flags(words.split()).wrong == [said]


@pytest.mark.parametrize("word", ["--no_such=1", "-port=1", "port", "--noport", "--nonsense"])
def test_what_is_no_flag_is_passed_over_and_named(word: str) -> None:
    given = parse_flags([word, "--port=1"])
    assert (given.values, given.unknown) == ({"port": 1}, [word])


def test_what_follows_two_hyphens_is_no_flag() -> None:
    assert parse_flags(["--", "--port=1"]).unknown == ["--port=1"]


@pytest.mark.parametrize("name", CONTRACT.split())
def test_a_flag_of_the_contract_is_taken(name: str) -> None:
    value = {"bool": "true", "string": "x", "float": "0.5"}.get(FLAGS[name].kind, "7")
    assert list(parse_flags([f"--{name}={value}"]).values) == [name]


def rows() -> dict[str, tuple[str, str]]:
    lines = [line for line in GUIDE.read_text().splitlines() if line.startswith("| `--")]
    return {
        cells[0].strip("`-"): (cells[1].strip("`"), cells[2])
        for line in lines
        if (cells := re.split(r"\s*\|\s*", line)[1:])
    }


def test_every_flag_is_in_the_guide_with_its_default_and_no_other() -> None:
    assert {name: row[0] for name, row in rows().items()} == {name: written(flag) for name, flag in FLAGS.items()}


@pytest.mark.parametrize("name", FLAGS)
def test_the_guide_says_what_happens_in_place_of_what_is_not_honoured(name: str) -> None:
    said = rows()[name][1]
    assert said
    assert said.startswith("no: ") is bool(FLAGS[name].instead)
    assert FLAGS[name].instead in said.replace("`", "")


def test_the_usage_names_every_flag() -> None:
    assert set(re.findall(r"^\t--(\w+)=", usage(), re.MULTILINE)) == set(FLAGS)


@pytest.mark.parametrize("name", FLAGS)
def test_the_usage_says_what_a_flag_does_or_what_happens_in_its_place(name: str) -> None:
    line = next(line for line in usage().splitlines() if line.startswith(f"\t--{name}="))
    said = line.split("\t")[3:]
    assert said == [f"not carried: {FLAGS[name].instead}" if FLAGS[name].instead else FLAGS[name].does]
    assert said != [""]
