"""The metrics in Prometheus' words. Imported at the first scrape.

Names follow https://prometheus.io/docs/practices/naming/: base units, `_seconds`, `_total`, `_info`.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from edge.domain.lifecycle import State
from edge.domain.models import ModelId
from edge.telemetry import build
from edge.telemetry.metrics import loaded_of

if TYPE_CHECKING:
    from edge.domain.ports import ModelStatus
    from edge.telemetry.metrics import Histogram, Metrics, MqttCounts

THERMAL = Path("/sys/class/thermal")


class Exposition:
    """A registry of its own: nothing that another library registers globally is shown."""

    def __init__(self, metrics: Metrics, thermal: Path = THERMAL) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Server(metrics, thermal))
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def render(self, accept: str) -> tuple[str, bytes]:
        encode, content_type = choose_encoder(accept)
        return content_type, encode(self._registry)


class _Server(Collector):
    def __init__(self, metrics: Metrics, thermal: Path) -> None:
        self._metrics, self._thermal = metrics, thermal

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        statuses = self._metrics.statuses()
        _note_devices(self._metrics, statuses)
        yield from _requests(self._metrics)
        yield from _times(self._metrics)
        yield from _shared(self._metrics)
        yield from _states(self._metrics, statuses)
        yield from _swaps(self._metrics)
        if self._metrics.routings:
            yield from _routings(self._metrics)
        if self._metrics.mqtt is not None:
            yield from _mqtt(self._metrics.mqtt)
        yield from _temperatures(self._thermal)
        info = InfoMetricFamily("edge_build", "What this server is.")
        info.add_metric([], {"version": build.version(), "python": platform.python_version()})
        yield info


def _note_devices(metrics: Metrics, statuses: Sequence[ModelStatus]) -> None:
    """A version that is unloaded has no device any more; its times keep the last that it had."""
    devices = {version.id: version.device for model in statuses for version in model.versions if version.device}
    for counters in metrics.versions():
        counters.device = devices.get(ModelId(counters.model, counters.version), counters.device)


def _requests(metrics: Metrics) -> Iterator[Metric]:
    family = CounterMetricFamily(
        "edge_requests",
        "Requests by outcome; model and version are empty where a request never came to one.",
        labels=["model", "version", "protocol", "code"],
    )
    for (protocol, code), count in list(metrics.refusals.items()):
        family.add_metric(["", "", protocol, code], count)
    for counters in metrics.versions():
        for (protocol, code), count in list(counters.outcomes.items()):
            family.add_metric([counters.model, str(counters.version), protocol, code], count)
    yield family


def _times(metrics: Metrics) -> Iterator[Metric]:
    labels = ["model", "version"]
    request = HistogramMetricFamily("edge_request_seconds", "Whole time of a request in the server.", labels=labels)
    queue = HistogramMetricFamily("edge_queue_seconds", "Time that an answered request waited to run.", labels=labels)
    run = HistogramMetricFamily("edge_inference_seconds", "Time that the model ran.", labels=[*labels, "device"])
    for counters in metrics.versions():
        names = [counters.model, str(counters.version)]
        _add(request, names, counters.request)
        _add(queue, names, counters.queue)
        _add(run, [*names, counters.device], counters.inference)
    yield from (request, queue, run)


def _shared(metrics: Metrics) -> Iterator[Metric]:
    labels = ["model", "version"]
    batch = HistogramMetricFamily("edge_batch_size", "Rows of each run that requests may share.", labels=labels)
    lookups = CounterMetricFamily(
        "edge_cache_lookups", "Requests whose answer was kept already, or was not.", labels=[*labels, "result"]
    )
    kept = GaugeMetricFamily("edge_cache_bytes", "What answers that are kept take.", labels=labels)
    for counters in metrics.versions():
        names = [counters.model, str(counters.version)]
        if counters.batch is not None:
            _add(batch, names, counters.batch)
        for result, count in list(counters.cache_lookups.items()):
            lookups.add_metric([*names, result], count)
        if counters.cache_lookups:
            kept.add_metric(names, counters.cache_bytes)
    yield from (batch, lookups, kept)


def _add(family: HistogramMetricFamily, labels: Sequence[str], histogram: Histogram) -> None:
    bounds = [*map(str, histogram.bounds), "+Inf"]
    family.add_metric(labels, list(zip(bounds, accumulate(histogram.counts.copy()), strict=True)), histogram.sum)


def _states(metrics: Metrics, statuses: Sequence[ModelStatus]) -> Iterator[Metric]:
    info = InfoMetricFamily("edge_model", "What is loaded, and on what.", labels=["model", "version"])
    loaded = loaded_of(statuses)
    for counters in metrics.versions():
        if (counters.model, counters.version) in loaded:
            info.add_metric([counters.model, str(counters.version)], {"device": counters.device})
    ready = GaugeMetricFamily("edge_model_ready", "1 for a version that answers.", labels=["model", "version"])
    depth = GaugeMetricFamily("edge_queue_depth", "Requests waiting to run.", labels=["model", "version"])
    for model in statuses:
        for version in model.versions:
            names = [model.name, str(version.id.version)]
            ready.add_metric(names, 1.0 if version.state is State.READY else 0.0)
            depth.add_metric(names, version.queue_depth)
    yield from (info, ready, depth)


def _swaps(metrics: Metrics) -> Iterator[Metric]:
    total = CounterMetricFamily("edge_swap", "Changes of version by result.", labels=["result"])
    for result, count in list(metrics.swaps.items()):
        total.add_metric([result], count)
    yield total
    seconds = HistogramMetricFamily(
        "edge_swap_seconds", "From the beginning of a load until its version answers.", labels=[]
    )
    _add(seconds, [], metrics.swap_seconds)
    yield seconds


def _routings(metrics: Metrics) -> Iterator[Metric]:
    routed = CounterMetricFamily(
        "edge_routed_requests",
        "Requests that named no version, by the side that the weights chose; side is empty where none was ready.",
        labels=["model", "side", "version"],
    )
    copies = CounterMetricFamily(
        "edge_shadow_copies",
        "Copies of requests by what came of them; version is the shadow's.",
        labels=["model", "version", "result"],
    )
    seconds = HistogramMetricFamily(
        "edge_shadow_inference_seconds", "Time that a shadow ran.", labels=["model", "version"]
    )
    for model, counts in sorted(metrics.routings.copy().items()):
        for (side, version), count in counts.sides.copy().items():
            routed.add_metric([model, side, str(version)], count)
        for (version, result), count in counts.results.copy().items():
            copies.add_metric([model, str(version or ""), result], count)
        for version, histogram in counts.seconds.copy().items():
            _add(seconds, [model, str(version)], histogram)
    yield from (routed, copies, seconds)


def _mqtt(counts: MqttCounts) -> Iterator[Metric]:
    connected, received, sent, unsent = counts.link()
    up = GaugeMetricFamily("edge_mqtt_connected", "1 while there is a connection to the broker.", labels=[])
    up.add_metric([], float(connected))
    messages = CounterMetricFamily("edge_mqtt_messages", "Messages by direction.", labels=["direction"])
    messages.add_metric(["in"], received)
    messages.add_metric(["out"], sent)
    dropped = CounterMetricFamily("edge_mqtt_dropped", "Messages that came to nothing, by reason.", labels=["reason"])
    for reason, count in [*counts.dropped.items(), ("unsent", unsent)]:
        dropped.add_metric([reason], count)
    yield from (up, messages, dropped)


def _temperatures(thermal: Path) -> Iterator[Metric]:
    family = GaugeMetricFamily("edge_device_temperature_celsius", "The board's own sensors.", labels=["zone", "type"])
    for zone in sorted(thermal.glob("thermal_zone*")):
        try:  # a sensor may be listed and not readable, or say nothing while it sleeps
            kind = (zone / "type").read_text().strip()
            family.add_metric([zone.name, kind], int((zone / "temp").read_text()) / 1000)
        except (OSError, ValueError):
            continue
    if family.samples:
        yield family
