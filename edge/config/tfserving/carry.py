"""Flags and files → settings of this server, and what of them could not be carried.

Rule 1: pure but for `read_files`. Rule 2: what is set comes from a flag or a file, and is in `settings`; what TensorFlow
Serving does unasked is in `defaults`, which the environment beats. Rule 3: nothing is dropped without a note.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge.config.tfserving.batching import batching
from edge.config.tfserving.files import invalid, read_message
from edge.config.tfserving.flags import FLAGS, Given
from edge.config.tfserving.messages import BATCHING, MODELS, MONITORING, SSL, Message
from edge.config.tfserving.models import ModelEntry, check_base_path, check_platforms, entries

EVERYWHERE = "0.0.0.0"
ONE_BY_ONE = 1
"""Rows that share a run where batching was not asked for."""
NEVER_S = 1e9
"""Stands for "once, and not again", and for no bound; the longest time that a key takes."""
FILES: Mapping[str, Message] = {
    "model_config_file": MODELS,
    "batching_parameters_file": BATCHING,
    "monitoring_config_file": MONITORING,
    "ssl_config_file": SSL,
}
METRICS_PATH = "/monitoring/prometheus/metrics"
APIS = ("/v1/", "/v2")


@dataclass(slots=True)
class Carried:
    """`settings` and `defaults` are dotted keys to values. `secrets`: of settings that name a file, what should be in it."""

    settings: dict[str, Any] = field(default_factory=dict)
    defaults: dict[str, Any] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    models: list[ModelEntry] = field(default_factory=list)


def read_files(given: Given) -> dict[str, dict[str, Any]]:
    """What the files that flags name say, by flag. Blocks. Raises Refused, also for flags that contradict each other."""
    _check_together(given)
    return {name: read_message(Path(given.text(name)), kind) for name, kind in FILES.items() if given.text(name)}


def carry(given: Given, files: Mapping[str, Mapping[str, Any]], *, grpc: bool, tensorflow: bool) -> Carried:
    """grpc, tensorflow: whether they can be had where the server will run. Raises Refused."""
    done = Carried(
        notes=[f"--{name}: {FLAGS[name].instead}" for name, value in given.values.items() if FLAGS[name].dropped(value)]
    )
    done.models = carried_models(given, files)
    per_model = _per_model(given, files, tensorflow)
    for model in done.models:
        done.settings |= model_settings(model, per_model)
        if model.logging:
            done.notes.append(f"model {model.name}: logging_config: requests are not logged")
    _ports(given, done, grpc)
    _monitoring(files, done)
    _ssl(files, done, grpc)
    _times(given, done)
    if given.on("rest_api_enable_cors_support"):
        done.settings["http.cors"] = True
    done.defaults |= {"advertise.enabled": False, "server.start_hold_s": NEVER_S}
    if not given.on("enable_batching"):
        done.defaults |= {f"models.{model.name}.max_batch_size": ONE_BY_ONE for model in done.models}
    return done


def carried_models(given: Given, files: Mapping[str, Mapping[str, Any]]) -> list[ModelEntry]:
    """Of the file, else the one that flags name. Raises Refused."""
    if "model_config_file" in files:
        models = entries(files["model_config_file"])
        check_platforms(models, {})
        return models
    if not given.text("model_base_path"):
        return []
    model = ModelEntry(given.text("model_name"), given.text("model_base_path"))
    check_base_path(model.name, model.base_path)
    return [model]


def model_settings(model: ModelEntry, per_model: Mapping[str, Any]) -> dict[str, Any]:
    own: dict[str, Any] = {"path": model.base_path, "policy": model.policy}
    if model.labels:
        own["labels"] = dict(model.labels)
    return {f"models.{model.name}.{key}": value for key, value in (own | dict(per_model)).items()}


def _check_together(given: Given) -> None:
    """What TensorFlow Serving would not start with. Raises Refused."""
    if given.on("use_alts_credentials") and given.text("ssl_config_file"):
        raise invalid("Either use_alts_credentials must be false or ssl_config_file must be empty.")
    if given.text("batching_parameters_file") and not given.on("enable_batching"):
        raise invalid(
            "server_options.batching_parameters_file is set without setting server_options.enable_batching to true."
        )
    threads = ("tensorflow_intra_op_parallelism", "tensorflow_inter_op_parallelism", "tensorflow_session_parallelism")
    if all(given.number(name) > 0 for name in threads):
        raise invalid(
            "Either configure server_options.tensorflow_session_parallelism or "
            "(server_options.tensorflow_intra_op_parallelism, server_options.tensorflow_inter_op_parallelism) "
            "separately. You cannot configure all."
        )


def _per_model(given: Given, files: Mapping[str, Mapping[str, Any]], tensorflow: bool) -> dict[str, Any]:
    """Keys that all models get."""
    found: dict[str, Any] = {}
    if given.on("prefer_tflite_model"):
        found["prefer"] = "tflite"
    elif tensorflow:
        found["prefer"] = "savedmodel"
    both = given.number("tensorflow_session_parallelism")
    intra = given.number("tensorflow_intra_op_parallelism")
    inter = given.number("tensorflow_inter_op_parallelism")
    intra, inter = (intra, inter) if intra > 0 or inter > 0 else (both, both)
    found |= {"num_threads": intra} if intra > 0 else {}
    found |= {"inter_op_threads": inter} if inter > 0 else {}
    if given.text("saved_model_tags") != FLAGS["saved_model_tags"].default:
        found["tags"] = [tag for tag in given.text("saved_model_tags").split(",") if tag]
    if given.on("xla_cpu_compilation_enabled") or given.on("xla_gpu_compilation_enabled"):
        found["xla"] = True
    if given.text("mixed_precision"):
        found["mixed_precision"] = given.text("mixed_precision")
    if given.number("num_tflite_interpreters_per_pool") > 1:
        found["instances"] = given.number("num_tflite_interpreters_per_pool")
    if "batching_parameters_file" in files:
        found |= batching(files["batching_parameters_file"])
    elif given.values.get("enable_batching") is False:
        found["max_batch_size"] = ONE_BY_ONE
    return found


def _ports(given: Given, done: Carried, grpc: bool) -> None:
    port, socket, rest = given.number("port"), given.text("grpc_socket_path"), given.number("rest_api_port")
    if port and port == rest:
        done.notes.append(
            "server_options.http_port cannot be same as grpc_port. Please use a different port for HTTP/REST API. "
            "Skipped exporting HTTP/REST API."
        )
        rest = 0
    if rest:
        done.defaults["http.host"] = EVERYWHERE
        done.settings["http.port"] = rest
    else:
        done.settings["http.host"] = ""
    if not grpc:
        if port or socket:
            done.notes.append(
                "--port, --grpc_socket_path: there is no gRPC here, as the extra grpc is not installed: pip install '.[grpc]'"
            )
        if not rest:
            raise invalid("there is nothing to listen on: want a --rest_api_port where there is no gRPC")
    elif port:
        done.defaults["grpc.host"] = EVERYWHERE
        done.settings["grpc.port"] = port
    elif not socket and not rest:
        raise invalid("At least one of server_options.grpc_port or server_options.grpc_socket_path must be set.")
    if grpc and socket:
        done.settings["grpc.uds"] = socket


def _monitoring(files: Mapping[str, Mapping[str, Any]], done: Carried) -> None:
    prometheus = files.get("monitoring_config_file", {}).get("prometheus_config", {})
    if prometheus.get("enable"):
        done.settings["http.tfserving_metrics"] = True
        path = prometheus.get("path", "") or METRICS_PATH
        if path.lower().startswith(APIS):
            done.notes.append(f"monitoring_config_file: {path} is the API's; metrics are at {METRICS_PATH}")
        elif path != METRICS_PATH:
            done.settings["http.tfserving_metrics_path"] = path


PEMS: Mapping[str, str] = {"server_key": "tls_key", "server_cert": "tls_cert", "custom_ca": "client_ca"}
"""Of each part of the file, the key of [grpc] that names a file with it."""


def _ssl(files: Mapping[str, Mapping[str, Any]], done: Carried, grpc: bool) -> None:
    if "ssl_config_file" not in files:
        return
    ssl = files["ssl_config_file"]
    if not grpc:
        done.notes.append("--ssl_config_file: it is for gRPC, which there is not here; http.tls_cert has TLS for REST")
        return
    verify = ssl.get("client_verify", False)
    wanted = ("server_key", "server_cert", "custom_ca") if verify else ("server_key", "server_cert")
    if missing := [part for part in wanted if not ssl.get(part)]:
        raise invalid(
            "ssl_config_file: want server_key and server_cert, and custom_ca with client_verify; got no "
            + " and no ".join(missing)
        )
    for part, key in PEMS.items():
        if ssl.get(part) and (part != "custom_ca" or verify):
            done.secrets[f"grpc.{key}"] = ssl[part]


def _times(given: Given, done: Carried) -> None:
    changed = {name: given.number(name) for name in TIMES if given[name] != FLAGS[name].default}
    for name, value in changed.items():
        key, scale = TIMES[name]
        done.settings[key] = value if key == "server.max_load_retries" else max(0.0, value * scale)
    if given.number("rest_api_timeout_in_ms") <= 0:
        done.settings["server.request_timeout_s"] = NEVER_S
    poll = given.number("file_system_poll_wait_seconds")
    if poll != FLAGS["file_system_poll_wait_seconds"].default:
        done.settings["server.poll_s"] = float(poll) if poll > 0 else NEVER_S
    if poll < 0:
        done.notes.append("--file_system_poll_wait_seconds: directories are looked at once all the same")


TIMES: Mapping[str, tuple[str, float]] = {
    "rest_api_timeout_in_ms": ("server.request_timeout_s", 1e-3),
    "max_num_load_retries": ("server.max_load_retries", 1),
    "load_retry_interval_micros": ("server.load_retry_s", 1e-6),
}
