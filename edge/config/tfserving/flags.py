"""TensorFlow Serving's flags: their names, types and defaults, and how a command line is read.

Source: tensorflow_serving/model_servers/main.cc and server.h; tsl/util/command_line_flags.cc. `--flag=value`, `--flag value`,
`--flag` and `--noflag` of a switch. Rule: an argument that is no flag is named and passed over, as it is there; a value that
cannot be read ends the program.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["int32", "int64", "bool", "string", "float"]
Value = int | bool | str | float
RANGES = {"int32": 2**31, "int64": 2**63}


@dataclass(frozen=True, slots=True)
class Flag:
    """`default` None: chosen from the machine. `instead`: what happens in place of what the flag asks for; empty where it is
    honoured. `anyway`: the value for which that is just the same, if it is another one than the default. `does`: what the flag is
    for, where it is honoured."""

    kind: Kind
    default: Value | None
    instead: str = ""
    anyway: Value | None = None
    does: str = ""

    def dropped(self, value: Value) -> bool:
        """Whether a flag that was given with the value is not honoured."""
        return bool(self.instead) and value != (self.default if self.anyway is None else self.anyway)


THREADS = "requests are answered on one event loop, and models run in as many threads as there are cores"
LOADS = "two versions load at once, each tried in a process of its own, and none keeps requests waiting"

FLAGS: Mapping[str, Flag] = {
    "port": Flag("int32", 8500, does="gRPC's port on all interfaces; 0 for none"),
    "grpc_socket_path": Flag("string", "", does="a Unix socket for gRPC, too"),
    "rest_api_port": Flag("int32", 0, does="REST's port on all interfaces; 0 for no REST"),
    "rest_api_num_threads": Flag("int32", None, THREADS),
    "rest_api_timeout_in_ms": Flag("int32", 30000, does="how long a request may wait and run; 0 for no bound"),
    "rest_api_enable_cors_support": Flag("bool", False, does="whether pages of other origins may call"),
    "enable_batching": Flag("bool", False, does="whether requests share runs"),
    "allow_version_labels_for_unavailable_models": Flag(
        "bool", False, does="whether a new label may name a version that does not answer yet"
    ),
    "batching_parameters_file": Flag("string", "", does="a file with BatchingParameters; with enable_batching"),
    "enable_per_model_batching_parameters": Flag(
        "bool", False, "a version's batching_params.pbtxt is not read; its model.toml is"
    ),
    "model_config_file": Flag(
        "string", "", does="a file with a ModelServerConfig, in place of model_name and model_base_path"
    ),
    "model_config_file_poll_wait_seconds": Flag("int32", 0, does="how often that file is looked at; 0 for never"),
    "model_name": Flag("string", "default", does="the name of the model at model_base_path"),
    "model_base_path": Flag("string", "", does="the directory, absolute, that has a directory for each version"),
    "num_load_threads": Flag("int32", 0, LOADS),
    "num_unload_threads": Flag("int32", 0, LOADS),
    "max_num_load_retries": Flag("int32", 5, does="how often a version that failed to load is tried again"),
    "load_retry_interval_micros": Flag(
        "int64", 60_000_000, does="the wait before the first of these; doubled for each further one"
    ),
    "file_system_poll_wait_seconds": Flag("int32", 1, does="how often directories are looked at; 0 for once"),
    "flush_filesystem_caches": Flag("bool", True, "the system's caches are left to the system", False),
    "tensorflow_session_parallelism": Flag(
        "int64", 0, does="threads within an operator, and operators side by side; 0 for one thread"
    ),
    "tensorflow_session_config_file": Flag(
        "string", "", "it is not read; [models.NAME] has keys for what it would set"
    ),
    "tensorflow_intra_op_parallelism": Flag("int64", 0, does="threads within an operator; 0 for one"),
    "tensorflow_inter_op_parallelism": Flag(
        "int64", 0, does="operators that may run side by side; 0 for TensorFlow's choice"
    ),
    "use_alts_credentials": Flag("bool", False, "there is no ALTS here; ssl_config_file has TLS"),
    "ssl_config_file": Flag("string", "", does="a file with an SSLConfig, for gRPC"),
    "platform_config_file": Flag("string", "", "it is not read; the platform is tensorflow, TFLite models included"),
    "per_process_gpu_memory_fraction": Flag(
        "float", 0.0, "the GPU's memory is taken as it is needed; models.NAME.gpu_memory_bytes bounds it"
    ),
    "saved_model_tags": Flag("string", "serve", does="the tags of a SavedModel's graph, with commas between"),
    "grpc_channel_arguments": Flag("string", "", "the server's own bounds hold"),
    "grpc_max_threads": Flag("int32", None, THREADS),
    "enable_model_warmup": Flag("bool", True, "warm-up requests that a version brings are replayed all the same"),
    "num_request_iterations_for_warmup": Flag("int32", 0, "each warm-up request is replayed once"),
    "version": Flag("bool", False, does="prints versions, and leaves"),
    "monitoring_config_file": Flag("string", "", does="a file with a MonitoringConfig: metrics for Prometheus"),
    "remove_unused_fields_from_bundle_metagraph": Flag("bool", True, "TensorFlow decides what it keeps", False),
    "prefer_tflite_model": Flag("bool", False, does="whether model.tflite comes before saved_model.pb"),
    "num_tflite_pools": Flag("int32", None, "num_tflite_interpreters_per_pool says how many interpreters a model has"),
    "num_tflite_interpreters_per_pool": Flag(
        "int32", 1, does="interpreters that each model has; 1 to choose from the cores"
    ),
    "enable_signature_method_name_check": Flag("bool", False, "a signature's method decides what may be asked of it"),
    "xla_cpu_compilation_enabled": Flag("bool", False, does="whether XLA compiles SavedModels"),
    "xla_gpu_compilation_enabled": Flag("bool", False, does="whether XLA compiles SavedModels"),
    "enable_profiler": Flag("bool", True, "there is no profiler service; /metrics has the times", False),
    "thread_pool_factory_config_file": Flag("string", "", "it is not read; models.NAME.num_threads bounds threads"),
    "mixed_precision": Flag("string", "", does="float16 or bfloat16, where TensorFlow thinks that it may"),
    "skip_initialize_tpu": Flag("bool", False, "there are no cloud TPUs here"),
    "enable_grpc_healthcheck_service": Flag("bool", False, "the health service is always there where gRPC is"),
    "enable_serialization_as_tensor_content": Flag("bool", False, "answers have TensorFlow Serving's default form"),
}


@dataclass(slots=True)
class Given:
    """`values` has the flags that were given. `unknown`: arguments that are none. `wrong`: what could not be read."""

    values: dict[str, Value] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    help: bool = False

    def __getitem__(self, name: str) -> Value | None:
        return self.values.get(name, FLAGS[name].default)

    def number(self, name: str) -> int:
        value = self[name]
        assert isinstance(value, int)
        return value

    def text(self, name: str) -> str:
        return str(self[name] or "")

    def on(self, name: str) -> bool:
        return self[name] is True


def parse_flags(arguments: Sequence[str]) -> Given:
    """Raises nothing: what is wrong is in the answer."""
    given = Given()
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if word == "--":
            given.unknown += rest
            break
        if word == "--help":
            given.help = True
        elif not word.startswith("--") or not _take(word[2:], rest, given):
            given.unknown.append(word)
    return given


def _take(word: str, rest: list[str], given: Given) -> bool:
    """False where the word names no flag."""
    name, equals, value = word.partition("=")
    switch = name.removeprefix("no")
    if not equals and name not in FLAGS and switch in FLAGS and FLAGS[switch].kind == "bool":
        given.values[switch] = False
        return True
    if name not in FLAGS:
        return False
    kind = FLAGS[name].kind
    if not equals:
        follows = rest[0] if rest else ""
        if kind == "bool":
            value = rest.pop(0) if follows in ("true", "false") else "true"
        elif rest and not follows.startswith("--"):
            value = rest.pop(0)
        else:
            given.wrong.append(f"Couldn't interpret value  for flag {name}.")
            return True
    read = _value(kind, value)
    if read is None:
        given.wrong.append(f"Couldn't interpret value {value} for flag {name}.")
    else:
        given.values[name] = read
    return True


def _value(kind: Kind, text: str) -> Value | None:
    if kind == "string":
        return text
    if kind == "bool":
        return {"true": True, "false": False}.get(text)
    if kind == "float":
        return (
            float(text) if re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", text, re.ASCII) else None
        )
    if not re.fullmatch(r"[+-]?[0-9]{1,19}", text, re.ASCII):
        return None
    number = int(text)
    return number if -RANGES[kind] <= number < RANGES[kind] else None


def usage() -> str:
    """Every flag with its default and what it does, a line each."""
    lines = ["usage: tensorflow_model_server", "Flags:"]
    for name, flag in FLAGS.items():
        said = flag.does or f"not carried: {flag.instead}"
        lines.append(f"\t--{name}={written(flag)}\t{flag.kind}\t{said}")
    return "\n".join(lines) + "\n"


def written(flag: Flag) -> str:
    """Its default, as it is written on a command line."""
    if flag.default is None:
        return "(chosen)"
    if isinstance(flag.default, bool):
        return "true" if flag.default else "false"
    return (
        f'"{flag.default}"'
        if flag.kind == "string"
        else f"{flag.default:g}"
        if flag.kind == "float"
        else str(flag.default)
    )
