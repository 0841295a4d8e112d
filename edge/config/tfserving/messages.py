"""The messages of TensorFlow Serving's files: which fields there are, and of which types.

Source: tensorflow_serving/config/*.proto and servables/tensorflow/session_bundle_config.proto, in proto3: a field that is
not there has its type's zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

INTEGERS = {"int32": (-(2**31), 2**31 - 1), "int64": (-(2**63), 2**63 - 1), "uint32": (0, 2**32 - 1)}
ANY = "google.protobuf.Any"


@dataclass(frozen=True, slots=True)
class Message:
    """`oneof` has the name of the group that a field belongs to."""

    name: str
    fields: Mapping[str, Field]
    oneof: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Enum:
    values: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Field:
    """`kind` is a scalar's name, an enumeration or a message. `is_map`: entries of keys and values, of which it is one."""

    kind: str | Enum | Message
    repeated: bool = False
    is_map: bool = False


def _message(name: str, oneof: Mapping[str, str] | None = None, /, **fields: Field | str | Enum | Message) -> Message:
    known = {key: each if isinstance(each, Field) else Field(each) for key, each in fields.items()}
    return Message(f"tensorflow.serving.{name}", known, oneof or {})


def _wrapped(kind: str, name: str) -> Message:
    return Message(f"google.protobuf.{name}", {"value": Field(kind)})


_INT64, _BOOL, _STRING = (
    _wrapped("int64", "Int64Value"),
    _wrapped("bool", "BoolValue"),
    _wrapped("string", "StringValue"),
)
_ANY = Message(ANY, {"type_url": Field("string"), "value": Field("string")})

_POLICY = "FileSystemStoragePathSourceConfig.ServableVersionPolicy"
POLICY = _message(
    _POLICY,
    dict.fromkeys(("latest", "all", "specific"), "policy_choice"),
    latest=_message(f"{_POLICY}.Latest", num_versions="uint32"),
    all=_message(f"{_POLICY}.All"),
    specific=_message(f"{_POLICY}.Specific", versions=Field("int64", repeated=True)),
)
LOGGING = _message(
    "LoggingConfig",
    log_collector_config=_message("LogCollectorConfig", type="string", filename_prefix="string"),
    sampling_config=_message(
        "SamplingConfig",
        sampling_rate="double",
        attributes="int32",
        per_task_sampling_configs=Field(
            _message("PerTaskSamplingConfig", dc="string", task_index="int32", sampling_rate="double"), repeated=True
        ),
    ),
    custom_logging_config=_ANY,
)
MODEL = _message(
    "ModelConfig",
    name="string",
    base_path="string",
    model_type=Enum({"MODEL_TYPE_UNSPECIFIED": 0, "TENSORFLOW": 1, "OTHER": 2}),
    model_platform="string",
    model_version_policy=POLICY,
    version_labels=Field(_message("ModelConfig.VersionLabelsEntry", key="string", value="int64"), True, True),
    logging_config=LOGGING,
)
MODELS = _message(
    "ModelServerConfig",
    {"model_config_list": "config", "custom_model_config": "config"},
    model_config_list=_message("ModelConfigList", config=Field(MODEL, repeated=True)),
    custom_model_config=_ANY,
)
BATCHING = _message(
    "BatchingParameters",
    max_batch_size=_INT64,
    batch_timeout_micros=_INT64,
    max_enqueued_batches=_INT64,
    num_batch_threads=_INT64,
    thread_pool_name=_STRING,
    allowed_batch_sizes=Field("int64", repeated=True),
    pad_variable_length_inputs="bool",
    enable_large_batch_splitting=_BOOL,
    max_execution_batch_size=_INT64,
)
MONITORING = _message("MonitoringConfig", prometheus_config=_message("PrometheusConfig", enable="bool", path="string"))
SSL = _message("SSLConfig", server_key="string", server_cert="string", custom_ca="string", client_verify="bool")
