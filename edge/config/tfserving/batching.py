"""BatchingParameters → keys of a model. Pure.

Rule: what TensorFlow Serving would not start with is refused in its words; what is not there stays as it is here, where measured
run times say how many rows share a run.

Source: tensorflow_serving/servables/tensorflow/session_bundle_config.proto, batching/batching_session.cc and TensorFlow's
shared_batch_scheduler.h for what goes together.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edge.config.tfserving.files import invalid

US = 1e-6
DEFAULT_ROWS = 1000
"""Rows of a batch there, where no max_batch_size says otherwise."""
MAX_QUEUE = 2**31 - 1
"""Enough for no bound: a million batches of a thousand rows are asked for in examples."""


def batching(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Keys of [models.NAME]. Raises Refused."""
    plain = {name: value.get("value", 0) if isinstance(value, dict) else value for name, value in parameters.items()}
    _check(plain)
    rows = _rows_of_a_run(plain)
    found: dict[str, Any] = {}
    if rows:
        found["max_batch_size"] = rows
    if "batch_timeout_micros" in plain:
        found["batch_timeout_s"] = plain["batch_timeout_micros"] * US
    if "max_enqueued_batches" in plain:
        found["max_queue"] = min(MAX_QUEUE, max(1, plain["max_enqueued_batches"]) * (rows or DEFAULT_ROWS))
    if "num_batch_threads" in plain:
        found["instances"] = plain["num_batch_threads"]
    if sizes := plain.get("allowed_batch_sizes", []):
        _check_sizes(sizes, rows)
        found["allowed_batch_sizes"] = list(sizes)
    if plain.get("pad_variable_length_inputs"):
        found["pad_variable_length_inputs"] = True
    return found


def _rows_of_a_run(plain: Mapping[str, Any]) -> int:
    """0 where it does not say. A request of more rows is run in parts here, whether or not it says that it should be."""
    most = int(plain.get("max_batch_size", 0))
    run = int(plain.get("max_execution_batch_size", 0)) if plain.get("enable_large_batch_splitting") else 0
    if run > (most or DEFAULT_ROWS):
        raise invalid(
            "When enable_large_batch_splitting is true, input_batch_size_limit must be greater than or equal to "
            f"max_execution_batch_size; was {most or DEFAULT_ROWS} and {run}"
        )
    return run or most


def _check(plain: Mapping[str, Any]) -> None:
    for name, least in LEAST.items():
        if plain.get(name, least) < least:
            raise invalid(f"{name} must be {'positive' if least else 'non-negative'}; was {plain[name]}")


LEAST: Mapping[str, int] = {
    "max_batch_size": 1,
    "batch_timeout_micros": 0,
    "max_enqueued_batches": 0,
    "num_batch_threads": 1,
    "max_execution_batch_size": 1,
}


def _check_sizes(sizes: list[int], rows: int) -> None:
    if sizes != sorted(set(sizes)) or sizes[0] < 1:
        raise invalid(f"allowed_batch_sizes entries must be monotonically increasing; got {sizes}")
    if rows and sizes[-1] != rows:
        raise invalid(
            f"Last entry in allowed_batch_sizes must match max_batch_size; last entry was {sizes[-1]}; expected {rows}"
        )
