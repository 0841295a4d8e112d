"""The metrics in TensorFlow Serving's words, for dashboards that were made for it.

Source: tensorflow_serving/servables/tensorflow/util.cc for names and buckets, util/prometheus_exporter.cc for the text:
a slash becomes a colon, there is no HELP, and numbers are printed to six digits. Latencies are in microseconds.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence

BUCKETS_US = tuple(10 * 1.8**power for power in range(33))
OK = "ok"

# Canonical status names (https://abseil.io/docs/cpp/guides/status-codes) of `edge.domain.errors.Code`'s values.
STATUS = {
    OK: "OK",
    "invalid_input": "INVALID_ARGUMENT",
    "too_large": "INVALID_ARGUMENT",
    "unsupported": "UNIMPLEMENTED",
    "unsupported_media": "INVALID_ARGUMENT",
    "not_found": "NOT_FOUND",
    "not_ready": "UNAVAILABLE",
    "overloaded": "UNAVAILABLE",
    "deadline": "DEADLINE_EXCEEDED",
    "too_slow": "DEADLINE_EXCEEDED",
    "unauthenticated": "UNAUTHENTICATED",
    "forbidden": "PERMISSION_DENIED",
    "inference_failed": "INTERNAL",
    "control_failed": "INTERNAL",
    "internal": "INTERNAL",
    "cancelled": "CANCELLED",
}


class ModelCounts:
    """One model's, all its versions together, as TensorFlow Serving counts them."""

    __slots__ = ("request_us", "runtime_us", "statuses")

    def __init__(self) -> None:
        self.statuses: dict[str, int] = {}
        self.request_us: dict[str, Latencies] = {}
        self.runtime_us = Latencies()

    def observe(self, protocol: str, code: str, total_s: float, run_s: float) -> None:
        """Latencies are of successful requests only."""
        status = STATUS.get(code, "UNKNOWN")
        self.statuses[status] = self.statuses.get(status, 0) + 1
        if code == OK:
            entrypoint = "GRPC" if "grpc" in protocol else "REST"
            self.request_us.setdefault(entrypoint, Latencies()).observe(total_s * 1e6)
            self.runtime_us.observe(run_s * 1e6)


class Latencies:
    """A histogram over BUCKETS_US; the last count is of what lies above."""

    __slots__ = ("counts", "sum")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS_US) + 1)
        self.sum = 0.0

    def observe(self, micros: float) -> None:
        self.counts[bisect_left(BUCKETS_US, micros)] += 1
        self.sum += micros


def render(models: Mapping[str, ModelCounts], refusals: Mapping[tuple[str, str], int]) -> bytes:
    """text/plain, as /monitoring/prometheus/metrics gives it. Requests that came to no model have an empty name."""
    by_model = sorted(dict(models).items())
    lines = ["# TYPE :tensorflow:serving:request_count counter"]
    unplaced = ModelCounts()
    for (_, code), count in list(refusals.items()):
        status = STATUS.get(code, "UNKNOWN")
        unplaced.statuses[status] = unplaced.statuses.get(status, 0) + count
    for name, counts in [("", unplaced), *by_model]:
        for status, number in sorted(counts.statuses.items()):
            lines.append(f":tensorflow:serving:request_count{_braces(model_name=name, status=status)} {number}")
    lines.append("# TYPE :tensorflow:serving:request_latency histogram")
    for name, counts in by_model:
        for entrypoint, latencies in sorted(counts.request_us.items()):
            api = "Predict" if entrypoint == "GRPC" else "predict"
            labels = {"model_name": name, "API": api, "entrypoint": entrypoint}
            lines += _histogram(":tensorflow:serving:request_latency", labels, latencies)
    lines.append("# TYPE :tensorflow:serving:runtime_latency histogram")
    for name, counts in by_model:
        labels = {"model_name": name, "API": "Predict", "runtime": "TF1"}
        lines += _histogram(":tensorflow:serving:runtime_latency", labels, counts.runtime_us)
    return ("\n".join(lines) + "\n").encode()


def _histogram(name: str, labels: Mapping[str, str], latencies: Latencies) -> Sequence[str]:
    bounds = [*(f"{bound:g}" for bound in BUCKETS_US), "+Inf"]
    lines, below = [], 0
    for bound, count in zip(bounds, latencies.counts, strict=True):
        below += count
        lines.append(f"{name}_bucket{_braces(**labels, le=bound)} {below}")
    return [*lines, f"{name}_sum{_braces(**labels)} {latencies.sum:g}", f"{name}_count{_braces(**labels)} {below}"]


def _braces(**labels: str) -> str:
    escaped = {
        key: value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n") for key, value in labels.items()
    }
    return "{" + ",".join(f'{key}="{value}"' for key, value in escaped.items()) + "}"
