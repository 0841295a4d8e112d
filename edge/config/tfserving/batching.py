"""BatchingParameters → keys of a model. Pure.

Source: tensorflow_serving/servables/tensorflow/session_bundle_config.proto, batching/batching_session.cc for what goes
together.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from edge.config.tfserving.files import invalid

US = 1e-6
QUEUES = ("max_enqueued", "max_queue")
"""The key that bounds the queue, under its newer name where there is one."""


def batching(parameters: Mapping[str, Any], keys: Collection[str]) -> tuple[dict[str, Any], list[str]]:
    """The settings, and what could not be carried. keys: those that a model has. Raises Refused."""
    plain = {name: value.get("value", 0) if isinstance(value, dict) else value for name, value in parameters.items()}
    wanted, notes = _wanted(plain, keys)
    settings = {}
    for name, (key, value) in wanted.items():
        if key in keys:
            settings[key] = value
        else:
            notes.append(f"batching parameter {name}: there is no models.NAME.{key}; requests run as they come")
    return settings, notes


def _wanted(plain: Mapping[str, Any], keys: Collection[str]) -> tuple[dict[str, tuple[str, Any]], list[str]]:
    """By parameter, the key and its value."""
    wanted: dict[str, tuple[str, Any]] = {}
    notes: list[str] = []
    splits = plain.get("enable_large_batch_splitting", False)
    size = plain.get("max_execution_batch_size", 0) if splits else 0
    size = size or plain.get("max_batch_size", 0)
    if size < 0 or plain.get("batch_timeout_micros", 0) < 0:
        raise invalid("max_batch_size and batch_timeout_micros: want at least 0")
    if size:
        wanted["max_batch_size"] = "max_batch_size", size
    if "batch_timeout_micros" in plain:
        wanted["batch_timeout_micros"] = "batch_timeout_s", plain["batch_timeout_micros"] * US
    if "max_enqueued_batches" in plain:
        if size:
            queue = next((name for name in QUEUES if name in keys), QUEUES[-1])
            wanted["max_enqueued_batches"] = queue, plain["max_enqueued_batches"] * size
        else:
            notes.append(
                "batching parameter max_enqueued_batches: our queue counts requests; want max_batch_size with it"
            )
    if plain.get("num_batch_threads", 0) > 0:
        wanted["num_batch_threads"] = "instances", plain["num_batch_threads"]
    if sizes := plain.get("allowed_batch_sizes", []):
        _check_sizes(sizes, size)
        wanted["allowed_batch_sizes"] = "allowed_batch_sizes", list(sizes)
    if plain.get("pad_variable_length_inputs"):
        wanted["pad_variable_length_inputs"] = "pad_variable_length_inputs", True
    return wanted, notes


def _check_sizes(sizes: list[int], size: int) -> None:
    if sizes != sorted(set(sizes)) or sizes[0] < 1:
        raise invalid(f"allowed_batch_sizes entries must be monotonically increasing; got {sizes}")
    if size and sizes[-1] != size:
        raise invalid(
            f"Last entry in allowed_batch_sizes must match max_batch_size; last entry was {sizes[-1]}; expected {size}"
        )
